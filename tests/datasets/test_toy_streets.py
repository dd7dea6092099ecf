"""ToyStreets as a dataset: drawn once, with classes, colors and label ids that belong together."""
import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from repvgg_seg.core.errors import DataError
from repvgg_seg.datasets import CityscapesDataset, toy_streets
from repvgg_seg.datasets.toy import write_toy_streets

COUNTS = {'train': 3, 'val': 2}
LOAD = [dict(type='repvgg_seg.LoadImage'), dict(type='repvgg_seg.LoadLabels')]


@pytest.fixture(autouse=True)
def drawn(monkeypatch) -> list[str]:
    """Roots that were drawn, with few and small scenes."""
    roots = []

    def draw(root):
        roots.append(str(root))
        write_toy_streets(root, COUNTS, height=24, width=32)

    monkeypatch.setattr(toy_streets, 'write_toy_streets', draw)
    return roots


def build(root=None, split='train', **options):
    prefix = dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}')
    place = {} if root is None else dict(data_root=str(root))
    return DATASETS.build(dict(type='repvgg_seg.ToyStreets', data_prefix=prefix, pipeline=LOAD, serialize_data=False,
                               **place, **options))


def test_drawn_on_first_use_only(tmp_path, drawn):
    root = tmp_path / 'on the way' / 'toy'
    assert {split: len(build(root, split)) for split in COUNTS} == COUNTS
    assert drawn == [str(root)]
    files = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert len(build(root)) == 3
    assert drawn == [str(root)]
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == files


def test_default_root_is_below_the_working_folder(tmp_path, monkeypatch, drawn):
    monkeypatch.chdir(tmp_path)
    assert len(build()) == 3
    assert drawn == ['data/toystreets']
    assert (tmp_path / 'data/toystreets/leftImg8bit/train').is_dir()


@pytest.mark.parametrize('is_main', [True, False])
def test_only_the_main_process_draws_and_the_others_wait(tmp_path, monkeypatch, drawn, is_main):
    events = []
    monkeypatch.setattr(toy_streets, 'is_main_process', lambda: is_main)
    monkeypatch.setattr(toy_streets, 'barrier', lambda: events.append(list(drawn)))
    root = tmp_path / 'toy'
    if is_main:
        build(root)
        assert events == [[str(root)]]
    else:
        with pytest.raises(DataError, match='does not exist'):
            build(root)
        assert events == [[]] and not root.exists()


def test_existing_folder_is_neither_filled_nor_changed(tmp_path, drawn):
    (tmp_path / 'notes.txt').touch()
    with pytest.raises(DataError, match='no dataset: folder .*leftImg8bit/train does not exist'):
        build(tmp_path)
    assert not drawn and [path.name for path in tmp_path.iterdir()] == ['notes.txt']


def test_dangling_root(tmp_path):
    (tmp_path / 'toy').symlink_to('nowhere')
    with pytest.raises(DataError, match='toy'):
        build(tmp_path / 'toy')


def test_classes_and_colors_are_those_of_cityscapes(tmp_path):
    meta, all_meta = build(tmp_path / 'toy').metainfo, CityscapesDataset.METAINFO
    assert len(meta['classes']) == len(meta['palette']) == len(meta['label_ids']) == 12
    table = {name: (list(color), label_id) for name, color, label_id
             in zip(all_meta['classes'], all_meta['palette'], all_meta['label_ids'])}
    for name, color, label_id in zip(meta['classes'], meta['palette'], meta['label_ids']):
        assert (list(color), label_id) == table[name]


@pytest.mark.parametrize('split', COUNTS)
def test_label_ids_become_class_indices(tmp_path, split):
    dataset = build(tmp_path / 'toy', split)
    label_ids = dataset.metainfo['label_ids']
    seen = set()
    for item in dataset:
        raw = np.array(Image.open(item['seg_map_path']))
        expected = np.full(raw.shape, 255)
        for index, label_id in enumerate(label_ids):
            expected[raw == label_id] = index
        np.testing.assert_array_equal(item['gt_seg_map'], expected)
        assert item['img'].shape == (24, 32, 3)
        seen |= set(expected.ravel().tolist())
    assert len(seen) >= 8


@pytest.mark.parametrize('value', [0, 1, 12, 25, 255])
def test_other_label_ids_of_cityscapes_are_ignored(tmp_path, value):
    assert np.unique(relabeled(tmp_path / 'toy', value)[0]['gt_seg_map']).tolist() == [255]


@pytest.mark.parametrize('value', [34, 254])
def test_label_ids_that_cityscapes_lacks_are_refused(tmp_path, value):
    with pytest.raises(DataError, match=f'outside the classes: {value}; expected 0 to 33, 255'):
        relabeled(tmp_path / 'toy', value)[0]


def test_existing_set_of_another_drawing_is_used(tmp_path, drawn):
    write_toy_streets(tmp_path / 'toy', {'train': 1}, height=20, width=40)
    assert build(tmp_path / 'toy')[0]['img'].shape == (20, 40, 3)
    assert not drawn


def relabeled(root, value):
    """The set with one value in its first label map."""
    dataset = build(root)
    Image.fromarray(np.full((24, 32), value, np.uint8)).save(dataset.get_data_info(0)['seg_map_path'])
    return dataset
