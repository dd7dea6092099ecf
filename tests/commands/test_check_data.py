"""tools/check_data.py: a sound set passes, and each of ten ways to break a copy of it is found and named, with the mending.

CAMVID=data/camvid python -m pytest tests/commands/test_check_data.py does the same with real images.
"""
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from mistakes import assert_error_line
from PIL import Image

CONFIG = """
_base_ = '{root}/configs/pspnet_repvgg_a0_camvid.py'
train_dataloader = dict(dataset=dict(data_root='{data}'))
val_dataloader = dict(dataset=dict(data_root='{data}'))
test_dataloader = val_dataloader
"""


@pytest.fixture(scope='module')
def sound(tmp_path_factory) -> Path:
    """CamVid, or a small set in its layout in which every class occurs."""
    if 'CAMVID' in os.environ:
        return Path(os.environ['CAMVID']).resolve()
    folder = tmp_path_factory.mktemp('data') / 'camvid'
    random = np.random.default_rng(0)
    for split, count in (('train', 12), ('val', 4)):
        for name in (split, f'{split}annot'):
            (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(folder / split / f'{index:02}.png')
            Image.fromarray(random.integers(0, 12, (24, 32), np.uint8)).save(folder / f'{split}annot' / f'{index:02}.png')
    return folder


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    """A copy whose files may be changed one by one."""
    for split in ('train', 'trainannot', 'val', 'valannot'):
        (tmp_path / 'camvid' / split).mkdir(parents=True)
        for path in (sound / split).iterdir():
            (tmp_path / 'camvid' / split / path.name).symlink_to(path)
    return tmp_path / 'camvid'


@pytest.fixture
def check(run_tool, tmp_path) -> Callable:
    """Run the tool over a set; what it said, and what it counted."""

    def run(data: Path, *options: str):
        (tmp_path / 'config.py').write_text(CONFIG.format(root=tiny.ROOT, data=data))
        result = run_tool('check_data', tmp_path / 'config.py', '--out', tmp_path / 'report.json', *options)
        return result, json.loads((tmp_path / 'report.json').read_text())

    return run


def change(path: Path, to: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put another image in the place of a link to one."""
    pixels = np.array(Image.open(path))
    path.unlink()
    Image.fromarray(to(pixels)).save(path)


def labels(data: Path, count: int | None = None) -> list[Path]:
    return sorted((data / 'trainannot').iterdir())[:count]


def break_image(data: Path) -> None:
    path = sorted((data / 'train').iterdir())[3]
    half = path.read_bytes()[:path.stat().st_size // 2]
    path.unlink()
    path.write_bytes(half)


def empty_label(data: Path) -> None:
    path = labels(data)[3]
    path.unlink()
    path.touch()


def lose_label(data: Path) -> None:
    labels(data)[3].unlink()


def shrink_label(data: Path) -> None:
    change(labels(data)[3], lambda label: label[::2, ::2])


def color_label(data: Path) -> None:
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    for path in labels(data, 5):
        change(path, lambda label: palette[label])


def gray_label(data: Path) -> None:
    for path in labels(data, 5):
        change(path, lambda label: np.repeat(label[..., None], 3, axis=2))


def binary_labels(data: Path) -> None:
    for path in labels(data, 5):
        change(path, lambda label: np.where(label == 3, 255, 0).astype(np.uint8))


def shift_labels(data: Path) -> None:
    for path in labels(data):
        change(path, lambda label: label + 1)


def deepen_label(data: Path) -> None:
    change(labels(data)[3], lambda label: label.astype(np.uint16))


def lose_class(data: Path) -> None:
    for path in labels(data):
        change(path, lambda label: np.where(label == 9, 11, label).astype(np.uint8))


BREAKS = [  # How, kind of fault, how many of them, what is said.
    (break_image, 'unreadable image', 1, r'image \S+ cannot be read \(.*truncated.*\); replace or remove it'),
    (empty_label, 'unreadable label', 1, r'label \S+ cannot be read \(no image file\); replace it or remove the pair'),
    (lose_label, 'incomplete', 1, r'1 of \d+ images have no label: \S+ needs \S+; add the labels or remove the images'),
    (shrink_label, 'other size', 1, r'label \S+ has height and width \(\d+, \d+\), its image \(\d+, \d+\); they must be equal'),
    (color_label, 'colors', 5,
     r'label \S+ is a color image of shape .*: use repvgg_seg.PairedSegDataset with label_colors=.*, or convert the colors'),
    (gray_label, 'three equal channels', 5, r'its channels are equal, one of them is the map'),
    (binary_labels, 'only 0 and 255', 5, r'values outside the classes: 255; expected 0 to 11; .* write 1 in its place'),
    (shift_labels, 'off by one', None, r'values outside the classes: 12; expected 0 to 11; .*subtract 1 from each'),
    (deepen_label, 'more than 8 bits', 1, r'label \S+ has 16 bits per pixel; expected 8: convert it'),
]


def test_sound_set_passes(check, sound):
    result, (train, val) = check(sound)
    pairs = [len(os.listdir(sound / split)) for split in ('train', 'val')]
    assert result.code == 0 and f'No fault in {sum(pairs)} pairs' in result.out
    assert [train['images'], val['images']] == pairs
    assert not train['errors'] and not val['errors'] and not train['warnings'] and not val['warnings']
    assert 'bicyclist' in result.out and 'pedestrian' in result.out


def test_counts_are_right(check, sound):
    if 'CAMVID' in os.environ:
        pytest.skip('counted by hand on the small set only')
    _, (train, _) = check(sound)
    raw = np.stack([np.array(Image.open(path)) for path in labels(sound)])
    pixels = np.stack([np.array(Image.open(path)) for path in (sound / 'train').iterdir()]).reshape(-1, 3)
    assert train['pixels'] == [int((raw == value).sum()) for value in range(12)]
    assert train['files'] == [len(raw)] * 12 and train['sizes'] == {'24x32': len(raw)}
    np.testing.assert_allclose(train['mean'], pixels.mean(0), atol=0.01)
    np.testing.assert_allclose(train['std'], pixels.std(0), atol=0.01)


@pytest.mark.whole
@pytest.mark.parametrize(('damage', 'kind', 'count', 'message'), BREAKS, ids=[each[0].__name__ for each in BREAKS])
def test_each_fault_is_found_and_no_other(check, copy, damage, kind, count, message):
    damage(copy)
    result, (train, val) = check(copy)
    assert set(train['errors']) == {kind} and not val['errors'] and not val['warnings']
    assert count in (None, train['errors'][kind]) and re.search(message, train['messages'][kind][0])
    assert re.search(message, result.out)
    found, pairs = train['errors'][kind], train['images'] + val['images']
    assert_error_line(result, f'error: {found} {"fault" if found == 1 else "faults"} in {pairs} pairs, see above')


def test_absent_class_is_a_warning(check, copy):
    """The tenth."""
    lose_class(copy)
    result, (train, val) = check(copy)
    assert result.code == 0 and train['warnings'] == {'absent class': 1} and not val['warnings']
    assert 'no pixel of train is pedestrian' in result.out


@pytest.mark.situation('Smaller', 'check_data.py --sample 150 of 701 pairs', before='"No fault in 701 pairs"',
                       now='says how many were read')
def test_sample_is_spread_and_said(check, sound, copy):
    result, (train, val) = check(sound, '--sample', '3')
    assert sum(train['sizes'].values()) == sum(val['sizes'].values()) == 3
    assert [train['read'], val['read']] == [3, 3]
    total = train['images'] + val['images']
    assert result.out.splitlines()[-1].startswith(f'No fault in the 6 of {total} pairs that were read; written to ')
    assert f'train: the 3 of {train["images"]} pairs that were read; sizes ' in result.out
    color_label(copy)
    assert_error_line(check(copy, '--sample', '3')[0], f'error: 1 fault in the 6 of {total} pairs that were read, see above')


def test_images_that_are_not_used_are_counted_and_named(check, copy):
    for name in ('a.gif', '._00.png'):
        (copy / 'train' / name).write_bytes(b'')
    result, (train, val) = check(copy)
    assert result.code == 0 and train['warnings'] == {'unused images': 2} and not val['warnings']
    assert 'warning: train: unused images (2)' in result.out
    assert f'1 image file(s) are not used, because they are hidden: {copy / "train/._00.png"}' in result.out


def test_stock_dataset_that_is_not_there(run_tool, tmp_path):
    (tmp_path / 'config.py').write_text(f"""
_base_ = ['{tiny.ROOT}/configs/pspnet_repvgg_a0_camvid.py']
train_dataloader = dict(dataset=dict(type='mmseg.ADE20KDataset', data_root='{tmp_path}/absent'))
""")
    result = run_tool('check_data', tmp_path / 'config.py', '--sets', 'train')
    assert 'mmseg.ADE20KDataset cannot be opened (' in result.out
    assert_error_line(result, 'error: 1 fault in 0 pairs, see above')


def test_training_looks_at_a_sample_first(run_tool, config, streets, tmp_path):
    """The fault would otherwise show when the last validation image is read, after an epoch."""
    data = Path(shutil.copytree(streets, tmp_path / 'streets'))
    path = sorted((data / 'gtFine/val').glob('*/*.png'))[-1]
    Image.fromarray(np.full((48, 64, 3), 7, np.uint8)).save(path)
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options',
                      *(f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val')))
    assert_error_line(result, (
        f'error: label {path} is a color image of shape (48, 64, 3); expected one channel of class indices: convert it: its '
        'channels are equal, one of them is the map, e.g. label[..., 0] (found in a sample of the validation set; '
        'tools/check_data.py looks at all of it)'))
    assert 'Epoch(train)' not in result.out + result.err
