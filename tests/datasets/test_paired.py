"""Which files a dataset lists, and what it says when some are absent."""
import re
import shutil

import numpy as np
import pytest

from repvgg_seg.core.errors import DataError, UserError

NAMES = ('plain', 'with space', 'straße_日本', 'town/nested', 'town two/deep er/nested', 'a.b.c', "it's [1] {2} %s")


@pytest.fixture(params=['camvid', 'cityscapes'])
def small_set(request):
    return request.getfixturevalue(request.param)


def listed(dataset):
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


@pytest.mark.parametrize('options', [dict(), dict(lazy_init=True)], ids=str)
def test_missing_folder(small_set, options):
    folder = small_set.root / small_set.folders[0]
    folder.rmdir()
    expected = rf'no dataset: folder {re.escape(str(folder))} does not exist; expected .*_?label.*set data_root$'
    with pytest.raises(DataError, match=expected):
        small_set.build(**options).full_init()


def test_file_in_place_of_the_folder(small_set):
    (small_set.root / small_set.folders[0]).rmdir()
    (small_set.root / small_set.folders[0]).touch()
    with pytest.raises(DataError, match='does not exist'):
        small_set.build()


@pytest.mark.parametrize('files', [(), ('notes.txt', 'Thumbs.db', 'town/image.gif', 'image.png.part')], ids=len)
def test_folder_without_images(small_set, files):
    for file in files:
        path = small_set.root / small_set.folders[0] / file
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(DataError, match=r'no dataset: .*train holds no image file that ends in .*\.jpg, .*\.png and 6 more; '):
        small_set.build()


@pytest.mark.parametrize('without', [('b', ), ('b', 'c', 'town/d'), ('a', 'b', 'c', 'town/d')], ids=len)
def test_images_without_label_are_counted_and_the_first_pair_is_named(small_set, without):
    for name in ('a', 'b', 'c', 'town/d'):
        small_set.add_image(name)
        if name not in without:
            small_set.add_label(name)
    image, label = small_set.image_path(without[0]), small_set.label_path(without[0])
    message = f'{len(without)} of 4 images have no label: {image} needs {label}; add the labels or remove the images'
    with pytest.raises(DataError, match=f'^{re.escape(message)}$'):
        small_set.build()


def test_missing_label_folder(small_set):
    small_set.add_image('a')
    shutil.rmtree(small_set.root / small_set.folders[1])
    with pytest.raises(DataError, match='^1 of 1 images have no label'):
        small_set.build()


def test_folder_in_place_of_a_label(small_set):
    small_set.add_image('a')
    small_set.label_path('a').mkdir()
    with pytest.raises(DataError, match='^1 of 1 images have no label'):
        small_set.build()


def test_label_without_image_is_no_sample(small_set):
    small_set.add('a')
    small_set.add_label('b')
    assert listed(small_set.build()) == [str(small_set.image_path('a'))]


@pytest.mark.parametrize('name', NAMES)
def test_any_name_is_listed_and_read(small_set, name):
    image, label = small_set.add(name, 7)
    item = small_set.build()[0]
    assert (item['img_path'], item['seg_map_path']) == (str(image), str(label))
    assert np.unique(item['gt_seg_map']).tolist() == [{'camvid': 7, 'cityscapes': 0}[small_set.root.name]]


def test_samples_are_sorted_and_each_has_its_own_label(camvid):
    for index, name in enumerate(reversed(NAMES)):
        camvid.add(name, index)
    dataset = camvid.build()
    assert listed(dataset) == sorted(str(camvid.image_path(name)) for name in NAMES)
    for index in range(len(dataset)):
        item = dataset[index]
        name = item['img_path'].removeprefix(f'{camvid.root}/train/').removesuffix('.png')
        assert np.unique(item['gt_seg_map']).tolist() == [NAMES[::-1].index(name)]


def test_jpg_images(small_set):
    ending = small_set.endings[0].replace('.png', '.jpg')
    small_set.add('a')
    image = small_set.add_image('b', np.full((24, 32, 3), 200, np.uint8), ending)
    small_set.add_label('b')
    dataset = small_set.build()
    assert listed(dataset) == [str(small_set.image_path('a')), str(image)]
    assert abs(dataset[1]['img'].astype(int) - 200).max() <= 2


@pytest.mark.parametrize('linked', ['root', 'split', 'town', 'file'])
def test_links_are_followed(small_set, tmp_path, linked):
    small_set.add('town/a')
    first = small_set.root / small_set.folders[0]
    place = {'root': small_set.root, 'split': first, 'town': first / 'town',
             'file': small_set.image_path('town/a')}[linked]
    place.rename(tmp_path / 'elsewhere')
    place.symlink_to(tmp_path / 'elsewhere')
    item = small_set.build()[0]
    assert item['img_path'] == str(small_set.image_path('town/a'))
    assert item['gt_seg_map'].shape == (24, 32)


def test_no_label_folder_gives_samples_without_labels(small_set):
    small_set.add_image('a')
    prefix = dict(img_path=small_set.folders[0], seg_map_path=None)
    item = small_set.build(data_prefix=prefix, pipeline=[dict(type='repvgg_seg.LoadImage')])[0]
    assert item['img'].shape == (24, 32, 3)
    assert 'seg_map_path' not in item


def test_absent_label_prefix_gives_samples_without_labels(small_set):
    small_set.add_image('a')
    item = small_set.build(data_prefix=dict(img_path=small_set.folders[0]),
                           pipeline=[dict(type='repvgg_seg.LoadImage')])[0]
    assert 'seg_map_path' not in item and item['seg_fields'] == []


@pytest.mark.parametrize(('kind', 'classes', 'expected'), [
    ('camvid', ['road', 'car'], {3: 0, 8: 1}),
    ('camvid', ['car', 'road'], {3: 1, 8: 0}),
    ('cityscapes', ['bicycle', 'road', 'sky'], {33: 0, 7: 1, 23: 2}),
])
def test_subset_of_classes_ignores_the_others(request, kind, classes, expected):
    small_set = request.getfixturevalue(kind)
    legal = [*range(12)] if kind == 'camvid' else [*range(34), 255]
    labels = np.resize(np.array(legal, np.uint8), (24, 32))
    read = small_set.read_labels(labels, metainfo=dict(classes=classes))
    assert {raw: set(read[labels == raw].tolist()) for raw in legal} == {raw: {expected.get(raw, 255)} for raw in legal}


def test_subset_of_classes_keeps_their_colors(camvid):
    camvid.add('a')
    meta = camvid.build(metainfo=dict(classes=['car', 'sky'])).metainfo
    assert list(meta['classes']) == ['car', 'sky']
    assert meta['palette'] == [[64, 0, 128], [128, 128, 128]]


def test_subset_of_classes_keeps_their_label_ids(cityscapes):
    cityscapes.add('a')
    meta = cityscapes.build(metainfo=dict(classes=['bicycle', 'sky', 'road'])).metainfo
    assert list(meta['label_ids']) == [33, 23, 7]


@pytest.mark.parametrize('option', [
    dict(img_suffix='.bmp'), dict(seg_map_suffix='_L.png'), dict(reduce_zero_label=True), dict(label_values={0: 'sky'}),
    dict(label_colors={(0, 0, 0): 'sky'})], ids=str)
def test_options_without_effect_are_refused(camvid, option):
    camvid.add('a')
    with pytest.raises(UserError, match=next(iter(option))):
        camvid.build(**option)
