"""Classification datasets: what is listed, and what is said when something is missing."""
import shutil
from pathlib import Path

import pytest
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from PIL import Image

from repvgg_seg.core.errors import DataError
from repvgg_seg.datasets import ImageFolder, ImageNet


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def listed(dataset) -> list[tuple[str, int]]:
    return [(Path(sample['img_path']).name, sample['gt_label']) for sample in map(dataset.get_data_info, range(len(dataset)))]


def test_classes_are_the_sorted_folders(tmp_path):
    touch(*(tmp_path / name for name in ('b/2.JPG', 'b/sub/1.png', 'a/3.jpeg', 'a/notes.txt', '.git/4.png')))
    dataset = ImageFolder(data_root=str(tmp_path))
    assert dataset.metainfo['classes'] == ('a', 'b')
    assert listed(dataset) == [('3.jpeg', 0), ('2.JPG', 1), ('1.png', 1)]
    assert dataset.get_cat_ids(2) == [1]


@pytest.mark.parametrize(('files', 'message'), [
    ([], r'no dataset: folder \S+/data does not exist; expected one folder per class with its images\. Put it'),
    (['data/1.png', 'data/2.png'], r'\S+/data has 0 class folder\(s\); expected one folder per class'),
    (['data/a/1.png'], r'\S+/data has 1 class folder\(s\)'),
    (['data/a/1.png', 'data/b/1.txt', 'data/c/1.npy'], r'2 of 3 class folders in \S+/data have no image \(b, c\); add files'),
])
def test_image_folder_refuses(tmp_path, files, message):
    touch(*(tmp_path / file for file in files))
    with pytest.raises(DataError, match=message):
        ImageFolder(data_root=str(tmp_path / 'data'))


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory) -> Path:
    """ImageNet's 1000 folders with one empty file each."""
    root = tmp_path_factory.mktemp('imagenet')
    for index in range(1000):
        touch(root / f'train/n{index + 1000:08d}/n{index + 1000:08d}_1.JPEG')
    return root


@pytest.fixture
def flat(tmp_path) -> Path:
    """A flat validation folder of three images with its list."""
    touch(*(tmp_path / 'val' / f'ILSVRC2012_val_{index:08d}.JPEG' for index in (1, 2, 3)))
    lines = [f'ILSVRC2012_val_{index:08d}.JPEG {label}' for index, label in ((1, 65), (2, 970), (3, 0))]
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text('\n'.join(lines) + '\n')
    return tmp_path


def imagenet_of(root: Path, split: str) -> ImageNet:
    return ImageNet(data_root=str(root), data_prefix=dict(img_path=split), test_mode=split == 'val')


def test_imagenet_in_class_folders(imagenet):
    dataset = imagenet_of(imagenet, 'train')
    assert listed(dataset) == [(f'n{index + 1000:08d}_1.JPEG', index) for index in range(1000)]
    assert dataset.metainfo['classes'] == tuple(IMAGENET_CATEGORIES) and len(dataset.metainfo['classes']) == 1000


@pytest.mark.parametrize('place', ['val.txt', 'meta/val.txt'])
def test_imagenet_flat_with_a_list(flat, place):
    if place == 'val.txt':
        (flat / 'meta/val.txt').rename(flat / place)
    dataset = imagenet_of(flat, 'val')
    assert listed(dataset) == [(f'ILSVRC2012_val_{index:08d}.JPEG', label) for index, label in ((1, 65), (2, 970), (3, 0))]
    assert dataset.metainfo['classes'] == tuple(IMAGENET_CATEGORIES)


def no_list(root: Path) -> None:
    (root / 'meta/val.txt').unlink()


def no_image(root: Path) -> None:
    (root / 'val/ILSVRC2012_val_00000002.JPEG').unlink()


def cut_list(root: Path) -> None:
    lines = (root / 'meta/val.txt').read_text().splitlines(keepends=True)
    (root / 'meta/val.txt').write_text(''.join(lines[:2]))


def empty_list(root: Path) -> None:
    (root / 'meta/val.txt').write_text('')


def other_lines(root: Path) -> None:
    (root / 'meta/val.txt').write_text('ILSVRC2012_val_00000001.JPEG n01751748\n')


def label_1000(root: Path) -> None:
    (root / 'meta/val.txt').write_text('ILSVRC2012_val_00000001.JPEG 1000\n')


def no_folder(root: Path) -> None:
    shutil.rmtree(root / 'val')


@pytest.mark.parametrize(('damage', 'message'), [
    (no_list, r'\S+val is flat, and neither \S+/val.txt nor \S+/meta/val.txt exists; expected 1000 class folders'),
    (no_image, r'1 of the 3 images in \S+val.txt do not exist \(\S+_00000002.JPEG\); complete the dataset'),
    (cut_list, r'1 images in \S+val are not in \S+val.txt \(\S+_00000003.JPEG\); complete the list'),
    (empty_list, r'3 images in \S+val are not in \S+val.txt'),
    (other_lines, r"line 1 of \S+val.txt is '\S+ n01751748'; expected a file name and a label from 0 to 999"),
    (label_1000, r"line 1 of \S+val.txt is '\S+ 1000'; expected"),
    (no_folder, r'folder \S+val does not exist; expected 1000 class folders n01440764/'),
])
def test_half_of_a_flat_imagenet_is_refused(flat, damage, message):
    damage(flat)
    with pytest.raises(DataError, match=message):
        imagenet_of(flat, 'val')


def test_training_images_must_be_in_class_folders(flat):
    (flat / 'val').rename(flat / 'train')
    with pytest.raises(DataError, match=r'train has 0 class folder\(s\); expected 1000 class folders'):
        imagenet_of(flat, 'train')


def test_other_classes_in_metainfo(tmp_path):
    touch(tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    assert ImageFolder(data_root=str(tmp_path), metainfo=dict(classes=['a', 'b'])).metainfo['classes'] == ('a', 'b')
    with pytest.raises(DataError, match=r'metainfo has the classes b, a, the folders in \S+ are a, b; leave metainfo out'):
        ImageFolder(data_root=str(tmp_path), metainfo=dict(classes=['b', 'a']))


def test_imagenet_needs_all_classes(tmp_path):
    touch(*(tmp_path / f'train/n{index:08d}/1.JPEG' for index in range(3)))
    with pytest.raises(DataError, match=r'train has 3 class folders, ImageNet has 1000; complete it, or .* repvgg_a0_folder'):
        imagenet_of(tmp_path, 'train')


def test_samples_go_through_mmpretrains_pipeline(tmp_path):
    from mmengine.registry import init_default_scope
    init_default_scope('mmpretrain')
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        Image.new('RGB', (48, 40), (10, 20, 30)).save(tmp_path / name / '1.png')
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=[
        dict(type='repvgg_seg.LoadImage'), dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')])
    sample = dataset[1]
    assert sample['inputs'].shape == (3, 32, 32) and sample['inputs'][:, 0, 0].tolist() == [30, 20, 10]
    assert sample['data_samples'].gt_label.tolist() == [1]
