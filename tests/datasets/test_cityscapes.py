"""Label ids and train ids of Cityscapes."""
import numpy as np
import pytest

from repvgg_seg.core.errors import DataError

# cityscapesScripts, helpers/labels.py: all names in the order of their label ids 0 to 33.
NAMES = ('unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static', 'dynamic', 'ground', 'road',
         'sidewalk', 'parking', 'rail track', 'building', 'wall', 'fence', 'guard rail', 'bridge', 'tunnel', 'pole',
         'polegroup', 'traffic light', 'traffic sign', 'vegetation', 'terrain', 'sky', 'person', 'rider', 'car',
         'truck', 'bus', 'caravan', 'trailer', 'train', 'motorcycle', 'bicycle')
TRAIN_IDS = {'road': 0, 'sidewalk': 1, 'building': 2, 'wall': 3, 'fence': 4, 'pole': 5, 'traffic light': 6,
             'traffic sign': 7, 'vegetation': 8, 'terrain': 9, 'sky': 10, 'person': 11, 'rider': 12, 'car': 13,
             'truck': 14, 'bus': 15, 'train': 16, 'motorcycle': 17, 'bicycle': 18}
TRAIN_IDS_FILE = '_gtFine_labelTrainIds.png'


def test_classes_are_in_the_order_of_the_train_ids(cityscapes):
    cityscapes.add('a')
    meta = cityscapes.build().metainfo
    assert {name: index for index, name in enumerate(meta['classes'])} == TRAIN_IDS
    assert [NAMES[label_id] for label_id in meta['label_ids']] == list(TRAIN_IDS)
    assert len(meta['palette']) == 19 and meta['palette'][TRAIN_IDS['car']] == [0, 0, 142]


@pytest.mark.parametrize(('label_id', 'name'), [*enumerate(NAMES), (-1, 'license plate')])
def test_label_id_becomes_train_id(cityscapes, label_id, name):
    read = cityscapes.read_labels(label_id % 256)
    assert read.dtype == np.uint8
    assert np.unique(read).tolist() == [TRAIN_IDS.get(name, 255)]


def test_all_label_ids_in_one_file(cityscapes):
    labels = np.resize(np.arange(34, dtype=np.uint8), (24, 32))
    expected = np.array([TRAIN_IDS.get(name, 255) for name in NAMES], np.uint8)[labels]
    np.testing.assert_array_equal(cityscapes.read_labels(labels), expected)


@pytest.mark.parametrize('value', [*range(19), 255])
def test_train_ids_stay(cityscapes, value):
    cityscapes.add_image('a')
    cityscapes.add_label('a', value, TRAIN_IDS_FILE)
    assert np.unique(cityscapes.build()[0]['gt_seg_map']).tolist() == [value]


def test_train_ids_are_preferred_image_by_image(cityscapes):
    for name in ('town/a', 'town/b'):
        cityscapes.add(name, NAMES.index('bicycle'))
    preferred = cityscapes.add_label('town/b', 3, TRAIN_IDS_FILE)
    first, second = cityscapes.build()
    assert np.unique(first['gt_seg_map']).tolist() == [TRAIN_IDS['bicycle']]
    assert second['seg_map_path'] == str(preferred)
    assert np.unique(second['gt_seg_map']).tolist() == [3]


@pytest.mark.parametrize(('value', 'ending', 'expected'), [
    (40, None, '0 to 33, 255'), (34, None, '0 to 33, 255'), (254, None, '0 to 33, 255'),
    (19, TRAIN_IDS_FILE, '0 to 18, 255'), (33, TRAIN_IDS_FILE, '0 to 18, 255'),
])
def test_other_values_are_refused(cityscapes, value, ending, expected):
    cityscapes.add_image('a')
    labels = np.full((24, 32), 7, np.uint8)
    labels[5, 6] = value
    path = cityscapes.add_label('a', labels, ending)
    with pytest.raises(DataError, match=f'^label .*{path.name} has values outside the classes: {value}; '
                                        f'expected {expected}; 0.13% of its pixels have them; '
                                        '(correct the label|the values look|these look)'):
        cityscapes.build()[0]


@pytest.mark.parametrize('other', ['a_leftImg8bit_blurred.png', 'a.png', 'a_rightImg8bit.png'])
def test_files_of_other_packages_are_no_images(cityscapes, other):
    image, _ = cityscapes.add('a')
    image.with_name(other).touch()
    assert len(cityscapes.build()) == 1
