"""Drawn street scenes: repeatable, rich in every class, not solvable by color, and written all or nothing."""

from functools import lru_cache

import cv2
import numpy as np
import pytest

from repvgg_seg.datasets.toy import CLASSES, draw_scene, files, write_toy_streets

LABEL_IDS = [label_id for _, label_id, _ in CLASSES]
IGNORED_IDS = [0, 1]
NUM_BINS = 12
SIZE = {'height': 32, 'width': 64}

draw_cached = lru_cache(maxsize=None)(draw_scene)


def color_bins(image: np.ndarray) -> np.ndarray:
    return image.astype(int) * NUM_BINS // 256 @ [NUM_BINS**2, NUM_BINS, 1]


def confusion(predicted: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
    counts = np.bincount(label_ids.astype(int).ravel() * 256 + predicted.ravel(), minlength=256**2)
    return counts.reshape(256, 256)[np.ix_(LABEL_IDS, LABEL_IDS)]


@pytest.mark.parametrize('seed', [0, 7, 1_000_003])
def test_same_seed_draws_same_scene_whatever_the_global_state(seed):
    np.random.seed(1)
    cv2.setRNGSeed(1)
    first = draw_scene(seed)
    np.random.seed(2)
    cv2.setRNGSeed(2)
    for array, again in zip(first, draw_scene(seed)):
        np.testing.assert_array_equal(array, again)


def test_global_state_is_left_alone():
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    draw_scene(0, **SIZE)
    assert np.random.random() == expected


@pytest.mark.parametrize('other', [1, 2, 1_000_000])
def test_other_seed_draws_other_scene(other):
    image, label_ids = draw_cached(0)
    other_image, other_label_ids = draw_cached(other)
    assert (image != other_image).mean() > 0.5
    assert (label_ids != other_label_ids).mean() > 0.05


@pytest.mark.parametrize('size', [(128, 256), (97, 161), (64, 64), (16, 16), (200, 90)])
@pytest.mark.parametrize('seed', [0, 5])
def test_shapes_types_and_ids(seed, size):
    image, label_ids = draw_scene(seed, *size)
    assert image.shape == (*size, 3)
    assert label_ids.shape == size
    assert image.dtype == label_ids.dtype == np.uint8
    assert image.flags.c_contiguous and label_ids.flags.c_contiguous
    assert set(np.unique(label_ids)) <= {*LABEL_IDS, *IGNORED_IDS}


@pytest.mark.parametrize('size', [(15, 64), (64, 15)])
def test_too_small_is_refused(size):
    with pytest.raises(ValueError, match='at least 16 pixels, got'):
        draw_scene(0, *size)


def test_label_map_shows_the_same_scene_at_any_size():
    small, large = draw_scene(3, 64, 128)[1], draw_scene(3, 128, 256)[1]
    assert (small == large[::2, ::2]).mean() > 0.85


def test_class_table_is_the_one_of_cityscapes():
    assert len({name for name, _, _ in CLASSES}) == len(set(LABEL_IDS)) == len({rgb for *_, rgb in CLASSES}) == 12
    assert CLASSES[0] == ('road', 7, (128, 64, 128))
    assert CLASSES[-1] == ('bicycle', 33, (119, 11, 32))


@pytest.mark.parametrize(('name', 'label_id'), [(name, label_id) for name, label_id, _ in CLASSES])
def test_every_class_is_frequent(name, label_id):
    masks = np.stack([draw_cached(seed)[1] for seed in range(40)]) == label_id
    assert masks.mean() > 0.007, f'{name} covers too little'
    assert (masks.sum(axis=(1, 2)) >= 30).mean() > 1 / 3, f'{name} is in too few scenes'


def test_some_pixels_are_ignored_but_few():
    share = np.isin([draw_cached(seed)[1] for seed in range(40)], IGNORED_IDS).mean()
    assert 0.001 < share < 0.05


def test_color_alone_does_not_solve_it():
    counts = np.zeros((NUM_BINS**3, 256), int)
    for seed in range(60):
        image, label_ids = draw_cached(seed)
        np.add.at(counts, (color_bins(image), label_ids), 1)
    counts[:, IGNORED_IDS] = 0
    majority = np.where(counts.any(axis=1), counts.argmax(axis=1), counts.sum(axis=0).argmax())
    matrix = sum(confusion(majority[color_bins(image)], label_ids)
                 for image, label_ids in map(draw_cached, range(60, 80)))
    hits = matrix.diagonal()
    mean_iou = (hits / (matrix.sum(axis=0) + matrix.sum(axis=1) - hits)).mean()
    assert mean_iou < 0.4


def test_files_hold_the_scenes_in_cityscapes_layout(tmp_path):
    root = tmp_path / 'made' / 'on the way' / 'stræt'
    write_toy_streets(root, {'train': 3, 'val': 2}, **SIZE)
    expected = {f'{kind}/{split}/toytown/toytown_{number:06d}_000000_{suffix}.png'
                for kind, suffix in (('leftImg8bit', 'leftImg8bit'), ('gtFine', 'gtFine_labelIds'))
                for split, count in (('train', 3), ('val', 2)) for number in range(count)}
    assert {path.relative_to(root).as_posix() for path in root.rglob('*.png')} == expected
    assert [path.name for path in root.parent.iterdir()] == ['stræt']
    assert root.stat().st_mode & 0o777 == root.parent.stat().st_mode & 0o777

    image, label_ids = draw_scene(2, **SIZE)
    stem = 'train/toytown/toytown_000002_000000'
    read_image = cv2.imread(str(root / f'leftImg8bit/{stem}_leftImg8bit.png'), cv2.IMREAD_UNCHANGED)
    read_label_ids = cv2.imread(str(root / f'gtFine/{stem}_gtFine_labelIds.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read_image[..., ::-1], image)
    np.testing.assert_array_equal(read_label_ids, label_ids)


def test_splits_share_no_scene(tmp_path, monkeypatch):
    seeds = []

    def note_seed(seed, height, width):
        seeds.append(seed)
        return np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)

    monkeypatch.setattr(files, 'draw_scene', note_seed)
    write_toy_streets(tmp_path / 'set', {'train': 4, 'val': 3, 'test': 2}, **SIZE)
    assert len(seeds) == len(set(seeds)) == 9


@pytest.mark.parametrize('failure', [RuntimeError, KeyboardInterrupt])
def test_failure_leaves_nothing(tmp_path, monkeypatch, failure):
    def fail_late(seed, height, width):
        if seed == 2:
            raise failure
        return draw_scene(seed, height, width)

    monkeypatch.setattr(files, 'draw_scene', fail_late)
    with pytest.raises(failure):
        write_toy_streets(tmp_path / 'set', {'train': 4}, **SIZE)
    assert not list(tmp_path.iterdir())


def test_set_appears_only_when_complete(tmp_path, monkeypatch):
    root = tmp_path / 'set'

    def check_absent(seed, height, width):
        assert not root.exists()
        return draw_scene(seed, height, width)

    monkeypatch.setattr(files, 'draw_scene', check_absent)
    write_toy_streets(root, {'train': 2, 'val': 1}, **SIZE)
    assert root.is_dir()


@pytest.mark.parametrize('kind', ['empty folder', 'file', 'dangling link'])
def test_existing_root_is_refused(tmp_path, kind):
    root = tmp_path / 'set'
    {'empty folder': root.mkdir, 'file': root.touch, 'dangling link': lambda: root.symlink_to('nowhere')}[kind]()
    with pytest.raises(FileExistsError, match='does not exist yet'):
        write_toy_streets(root, {'train': 1}, **SIZE)
    assert list(tmp_path.iterdir()) == [root]


@pytest.mark.parametrize(('counts', 'error'), [({'training': 1}, KeyError), ({'train': -1}, ValueError),
                                               ({'val': 1_000_001}, ValueError)])
def test_bad_counts_are_refused(tmp_path, monkeypatch, counts, error):
    # Without draw_scene, code that lets the count pass fails at once instead of drawing a million scenes.
    monkeypatch.delattr(files, 'draw_scene')
    with pytest.raises(error, match='expected'):
        write_toy_streets(tmp_path / 'set', counts, **SIZE)
    assert not list(tmp_path.iterdir())
