"""Every image file in the folder of a dataset is used, or counted and named; labels are no images."""
import os
import re
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmseg.registry import DATASETS
from PIL import Image

from repvgg_seg.core.errors import DataError
from repvgg_seg.core.images import image_files
from repvgg_seg.datasets import ImageFolder
from repvgg_seg.datasets.checking import check_dataset, check_sample, unused_images
from repvgg_seg.datasets.files import warn_of_unused

META = dict(classes=['a', 'b', 'c'], palette=[[0, 0, 0], [0, 0, 255], [255, 0, 0]])


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.randint(0, 256, (24, 32, 3), np.uint8)).save(path)
    return path


def label(path: Path, value: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 32), value, np.uint8)).save(path)
    return path


def paired(root: Path, images: str = 'images', labels: str | None = 'labels', **options):
    return DATASETS.build(dict(type='repvgg_seg.PairedSegDataset', data_root=str(root), metainfo=META, serialize_data=False,
                               data_prefix=dict(img_path=images, seg_map_path=labels)) | options)


def names(dataset, key: str = 'img_path') -> list[str]:
    """Paths of the samples relative to the data root."""
    return [os.path.relpath(dataset.get_data_info(index)[key], dataset.data_root) for index in range(len(dataset))]


@pytest.mark.situation('Silently wrong', 'images that end in .JPG, .PNG, .tif, .bmp or .webp beside .jpg',
                       before='left out without a word', now='used')
@pytest.mark.parametrize('suffix', ['.JPG', '.PNG', '.tif', '.bmp', '.webp', '.Jpeg', '.TIFF', '.jfif', '.ppm'])
@pytest.mark.parametrize('kind', ['camvid', 'cityscapes', 'own'])
def test_images_of_every_kind_and_case_are_used(request, tmp_path, kind, suffix):
    if kind == 'own':
        for name in ('a.jpg', f'b{suffix}'):
            image(tmp_path / 'images' / name)
            label(tmp_path / 'labels' / f'{name[0]}.png')
        dataset = paired(tmp_path)
    else:
        small_set = request.getfixturevalue(kind)
        small_set.add('a')
        small_set.add_image('b', ending=small_set.endings[0].replace('.png', suffix))
        small_set.add_label('b')
        dataset = small_set.build()
        assert dataset[1]['img'].shape == (24, 32, 3)
    assert len(dataset) == 2 and names(dataset)[1].endswith(suffix) and not dataset.unused


@pytest.mark.parametrize('suffix', ['.PNG', '.tif', '.TIFF', '.bmp'])
def test_labels_of_every_kind_and_case_are_found(tmp_path, suffix):
    image(tmp_path / 'images/a.jpg')
    label(tmp_path / f'labels/a{suffix}')
    assert names(paired(tmp_path), 'seg_map_path') == [f'labels/a{suffix}']


def test_train_ids_of_cityscapes_in_upper_case(cityscapes):
    cityscapes.add_image('a')
    cityscapes.add_label('a', 18, '_gtFine_labelTrainIds.PNG')
    assert np.unique(cityscapes.build()[0]['gt_seg_map']).tolist() == [18]


@pytest.mark.skipif(os.path.exists(__file__.upper()), reason='this disk does not tell cases apart')
def test_two_labels_that_differ_in_case_alone(tmp_path):
    image(tmp_path / 'images/a.jpg')
    paths = [label(tmp_path / f'labels/a{suffix}') for suffix in ('.PNG', '.png')]
    with pytest.raises(DataError, match=f'^{re.escape(f"{paths[0]} and {paths[1]} are both the label of the image a")}; '
                                        'remove one of them$'):
        paired(tmp_path)


@pytest.mark.situation('Silently wrong', 'an image file that no dataset reads (.gif, hidden, a pipe) among the images',
                       before='left out without a word, or taken for an image',
                       now='counted and named by check_data.py and in the log of the training')
@pytest.mark.parametrize('kind', ['own', 'folder', 'stock'])
def test_what_is_not_used_is_counted_and_named(tmp_path, monkeypatch, kind):
    root = tmp_path / 'images'
    for name in ('x/a.jpg', 'x/b.gif', 'x/._a.jpg', 'y/c.jpg', 'y/.ipynb_checkpoints/c.jpg', '__MACOSX/x/a.jpg'):
        image(root / name)
        label(tmp_path / 'labels' / Path(name).with_suffix('.png'))
    (root / 'x/notes.txt').touch()
    os.mkfifo(root / 'y/d.png')
    if kind == 'own':
        dataset = paired(tmp_path)
    elif kind == 'folder':
        dataset = ImageFolder(data_root=str(root))
    else:
        for name in ('__MACOSX/x/a.jpg', 'x/._a.jpg', 'y/.ipynb_checkpoints/c.jpg'):
            (root / name).unlink()
        dataset = DATASETS.build(dict(type='BaseSegDataset', data_root=str(tmp_path), metainfo=META, data_prefix=dict(
            img_path='images', seg_map_path='labels')))
    assert names(dataset)[-2:] == [os.path.relpath(root / name, dataset.data_root) for name in ('x/a.jpg', 'y/c.jpg')]
    hidden = {str(root / name) for name in ('x/._a.jpg', 'y/.ipynb_checkpoints/c.jpg', '__MACOSX/x/a.jpg')}
    expected = {str(root / name) for name in ('x/b.gif', 'y/d.png')} | (hidden if kind != 'stock' else set())
    assert {path for paths in unused_images(dataset).values() for path in paths} == expected
    said = []
    monkeypatch.setattr(MMLogger, 'warning', lambda logger, message: said.append(message))
    warn_of_unused('the training set', unused_images(dataset))
    pipe = f'the training set: 1 image file(s) are not used, because they are pipes, sockets or devices: {root / "y/d.png"}'
    assert pipe in said and all(any(path in message for message in said) for path in expected)
    if kind != 'folder':
        assert check_dataset(dataset, 'train').warnings['unused images'] == len(expected)


def test_images_beside_the_class_folders_are_named(tmp_path):
    for name in ('a/1.png', 'b/2.png', '3.JPG'):
        image(tmp_path / name)
    dataset = ImageFolder(data_root=str(tmp_path))
    assert names(dataset) == ['a/1.png', 'b/2.png']
    assert dataset.unused == {'because they are in no class folder': [str(tmp_path / '3.JPG')]}


def test_other_endings_than_those_that_are_wanted_are_named(tmp_path):
    for name in ('a_rgb.jpg', 'a_depth.png'):
        image(tmp_path / 'images' / name)
    label(tmp_path / 'labels/a.png')
    dataset = paired(tmp_path, img_suffixes=['_rgb.jpg'])
    assert names(dataset) == ['images/a_rgb.jpg']
    assert dataset.unused == {'because their names do not end in _rgb.jpg': [str(tmp_path / 'images/a_depth.png')]}


@pytest.mark.situation('Silently wrong', 'labels among the images: a.png or a_mask.png beside a.jpg, or in a folder inside',
                       before='trained with as images; a.png was its own label', now='taken for the labels that they are')
@pytest.mark.parametrize(('images', 'labels', 'files', 'expected', 'options'), [
    ('all', 'all', ['a.png', 'b.png'], ['a.jpg', 'b.JPG'], dict()),
    ('all', 'all', ['a_mask.png', 'b_mask.png'], ['a.jpg', 'b.JPG'], dict(seg_map_suffixes=['_mask.png'])),
    ('all', 'all', ['a_mask.png', 'b_mask.png'], ['a.png', 'b.PNG'], dict(seg_map_suffixes=['_mask.png'])),
    ('all', 'all', ['a_mask.png', 'b_mask.png', 'c_mask.png'], ['a.png', 'b.PNG'], dict(seg_map_suffixes=['_mask.png'])),
    ('all', 'all/labels', ['labels/a.png', 'labels/b.png', 'labels/c.png'], ['a.jpg', 'b.PNG'], dict()),
    ('', 'labels', ['labels/photos/a.png', 'labels/photos/b.png'], ['photos/a.png', 'photos/b.jpg'], dict()),
], ids=['same stem', 'mask beside jpg', 'mask beside png', 'mask without image', 'folder inside', 'folder inside the root'])
def test_labels_are_no_images(tmp_path, images, labels, files, expected, options):
    for name in expected:
        image(tmp_path / images / name)
    for name in files:
        label(tmp_path / images / name)
    dataset = paired(tmp_path, images, labels, **options)
    assert names(dataset) == [os.path.join(images, name) for name in expected] and not dataset.unused
    assert [dataset.get_data_info(index)['seg_map_path'] for index in range(2)] == [
        str(tmp_path / images / name) for name in files[:2]]


@pytest.mark.situation('Silently wrong', 'seg_map_path is the folder of the images', before='each image was its own label',
                       now='one line')
@pytest.mark.parametrize('layout', ['one folder', 'a link to the folder', 'a link to a file'])
def test_no_image_is_its_own_label(tmp_path, layout):
    path = image(tmp_path / 'images/a.png')
    if layout == 'one folder':
        dataset = dict(labels='images')
    elif layout == 'a link to the folder':
        (tmp_path / 'labels').symlink_to(tmp_path / 'images')
        dataset = dict()
    else:
        (tmp_path / 'labels').mkdir()
        (tmp_path / 'labels/a.png').symlink_to(path)
        dataset = dict()
    message = (f'1 of 1 images would be their own labels: {path}; put the labels into a folder of their own, or give their '
               'endings in seg_map_suffixes')
    with pytest.raises(DataError, match=f'^{re.escape(message)}$'):
        paired(tmp_path, **dataset)


def test_no_image_of_mmsegmentations_is_its_own_label(tmp_path):
    path = image(tmp_path / 'images/a.png')
    dataset = DATASETS.build(dict(type='BaseSegDataset', data_root=str(tmp_path), metainfo=META, img_suffix='.png',
                                  data_prefix=dict(img_path='images', seg_map_path='images')))
    with pytest.raises(DataError, match=f'^image {re.escape(str(path))} of the training set is its own label; put the labels '
                                        'into a folder of their own, or set seg_map_suffix$'):
        check_sample('the training set', dataset)


@pytest.mark.situation('Silently wrong', 'a.jpg and a.png in the folder of the images', before='both got the label of a',
                       now='one line')
def test_two_images_do_not_share_a_label(tmp_path):
    first, second = image(tmp_path / 'images/a.jpg'), image(tmp_path / 'images/a.png')
    shared = label(tmp_path / 'labels/a.png')
    message = (f'{first} and {second} would have the same label, {shared}; rename one of the images and give it a label, or '
               'remove it')
    with pytest.raises(DataError, match=f'^{re.escape(message)}$'):
        paired(tmp_path)
    assert names(paired(tmp_path, labels=None)) == ['images/a.jpg', 'images/a.png']


@pytest.mark.parametrize('kind', ['a.jpg', 'a_mask.png'])
def test_masks_beside_photos_need_labels_where_those_are_elsewhere(tmp_path, kind):
    image(tmp_path / 'images/b.jpg')
    label(tmp_path / 'labels/b.png')
    path = image(tmp_path / 'images' / kind)
    needed = tmp_path / 'labels' / f'{path.stem}.png'
    message = f'1 of 2 images have no label: {path} needs {needed}; add the labels or remove the images'
    with pytest.raises(DataError, match=f'^{re.escape(message)}$'):
        paired(tmp_path)


def test_every_kind_is_found_for_prediction(tmp_path):
    expected = [str(image(tmp_path / name)) for name in ('a.JPG', 'b.tif', 'c.WebP', 'd/e.png')]
    (tmp_path / 'a.txt').touch()
    assert image_files(str(tmp_path)) == expected
