"""What ``init`` finds out about a folder: which files are pairs, how they are split, and what the labels mean."""
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repvgg_seg.core.errors import DataError, UserError
from repvgg_seg.datasets.inspection.class_names import NamedClass, read_classes
from repvgg_seg.datasets.inspection.folders import find_paired, split_of
from repvgg_seg.datasets.inspection.inspecting import inspect
from repvgg_seg.datasets.inspection.label_kinds import LabelKind, RawLabels, find_kind, read_raw
from repvgg_seg.datasets.inspection.splitting import split

SIZE = (12, 16)
ROAD, SKY, VOID = (128, 64, 128), (70, 130, 180), (0, 0, 0)


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.randint(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path, format='PNG' if path.suffix == '.png' else 'JPEG')


def label(path: Path, values=(0, 1, 2), mode: str | None = None, **options) -> None:
    """A label file of values or colors by turns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.resize(np.array(values, np.uint8), (*SIZE, *np.shape(values)[1:]))
    image = Image.fromarray(array)
    if mode == 'P':
        image.putpalette([channel for color in (VOID, ROAD, SKY) for channel in color])
    image.save(path, format='JPEG' if path.suffix.lower() == '.jpg' else 'PNG', **options)


LAYOUTS = {
    'two folders': (['images/a.jpg', 'images/t/b.JPG', 'masks/a.png', 'masks/t/b.PNG'],
                    {'all': ('images', 'masks', '.png', 2)}),
    'png and png': (['x/a.png', 'x/b.png', 'y/a.png:label', 'y/b.png:label'], {'all': ('x', 'y', '.png', 2)}),
    'beside': (['a.jpg', 'a.png', 'b.jpeg', 'b.png'], {'all': ('.', '.', '.png', 2)}),
    'beside, with an ending': (['a 1.JPG', 'a 1_mask.PNG', 'a 2.JPG', 'a 2_mask.PNG', 'a 3.JPG'],
                               {'all': ('.', '.', '_mask.png', 2)}),
    'inside': (['a.jpg', 'b.jpg', 'labels/a.png', 'labels/b.png'], {'all': ('.', 'labels', '.png', 2)}),
    'split within': (['train/images/a.jpg', 'train/masks/a.png', 'valid/images/b.jpg', 'valid/masks/b.png'],
                     {'train': ('train/images', 'train/masks', '.png', 1), 'val': ('valid/images', 'valid/masks', '.png', 1)}),
    'split below': (['img/train/a.jpg', 'ann/train/a.png', 'img/val/b.jpg', 'ann/val/b.png', 'img/test/c.jpg'],
                    {'train': ('img/train', 'ann/train', '.png', 1), 'val': ('img/val', 'ann/val', '.png', 1)}),
    'CamVid': (['train/a.jpg', 'trainannot/a.png', 'val/b.jpg', 'valannot/b.png', 'test/c.jpg', 'testannot/c.png'],
               {name: (name, f'{name}annot', '.png', 1) for name in ('train', 'val', 'test')}),
    'two kinds of labels': (['images/a.jpg', 'color/a.png', 'labels/a.png', 'images/b.jpg', 'color/b.png', 'labels/b.png'],
                            {'all': ('images', 'labels', '.png', 2)}),
}


@pytest.mark.parametrize('layout', LAYOUTS)
def test_layouts(tmp_path, layout):
    names, expected = LAYOUTS[layout]
    for name in names:
        path = tmp_path / name.removesuffix(':label')
        is_label = name.endswith(':label') or path.suffix.lower() == '.png' and path.parent.name != 'x'
        (label if is_label else photo)(path)
    found = find_paired(tmp_path)
    assert {key: (str(each.images.relative_to(tmp_path)), str(each.labels.relative_to(tmp_path)), each.suffix, len(each.pairs))
            for key, each in found.items()} == expected


def test_images_without_label_are_counted(tmp_path):
    for name in ('a.jpg', 'b.jpg', 'c.jpg'):
        photo(tmp_path / name)
    label(tmp_path / 'a.png')
    label(tmp_path / 'b.png')
    assert find_paired(tmp_path)['all'].unlabeled == 1


@pytest.mark.parametrize(('name', 'expected'), [
    ('train', 'train'), ('trainannot', 'train'), ('val2017', 'val'), ('camvid_test', 'test'), ('Validation', 'val'),
    ('valuable', None), ('images', None), ('contest', None), ('train_labels', 'train')])
def test_names_of_splits(name, expected):
    assert split_of(name) == expected


@pytest.mark.parametrize(('line', 'expected'), [
    ('traffic light', ('traffic light', None)), ('road 128 64 128', ('road', ROAD)), ('road,128,64,128', ('road', ROAD)),
    ('128 64 128 road', ('road', ROAD)), ('road:128,64,128::', ('road', ROAD)), ('road #804080', ('road', ROAD)),
    ('class 3', ('class 3', None))])
def test_files_of_classes(tmp_path, line, expected):
    (tmp_path / 'classes.csv').write_text(f'name,r,g,b\n# label:color_rgb:parts:actions\n\n{line}\n')
    assert read_classes(tmp_path / 'classes.csv') == [NamedClass(*expected)]


def kind_of(tmp_path: Path, *labels, named=(), lossy=False, **options) -> LabelKind:
    for number, values in enumerate(labels):
        label(tmp_path / f'{number}.png', values, **options)
    return find_kind(read_raw(sorted(tmp_path.glob('*.png'))), named, lossy)


def names(*given: str) -> list[NamedClass]:
    return [NamedClass(name, None) for name in given]


def test_masks_of_black_and_white(tmp_path):
    kind = kind_of(tmp_path, [0, 0, 0, 255])
    assert (kind.words, kind.classes, kind.values) == (
        'masks of 0 and 255', ['background', 'foreground'], {0: 'background', 255: 'foreground'})
    assert kind.counts.tolist() == [[144, 48, 0]]


def test_class_indices(tmp_path):
    kind = kind_of(tmp_path, [0, 2, 255], [1, 1, 1], named=names('a', 'b', 'c', 'd'))
    assert (kind.words, kind.classes, kind.values) == ('class indices', ['a', 'b', 'c', 'd'], None)
    assert kind.counts.tolist() == [[64, 0, 64, 0, 64], [0, 192, 0, 0, 0]]


def test_class_indices_without_names(tmp_path):
    kind = kind_of(tmp_path, [0, 2, 255])
    assert kind.classes == ['class 0', 'class 1', 'class 2'] and kind.values is None and len(kind.guesses) == 1


def test_class_indices_that_are_counted_from_1(tmp_path):
    kind = kind_of(tmp_path, [1, 2, 3])
    assert kind.values == {1: 'class 1', 2: 'class 2', 3: 'class 3'}


def test_gray_values_are_named_in_their_order(tmp_path):
    kind = kind_of(tmp_path, [0, 100, 200], named=names('sky', 'road', 'car'))
    assert (kind.words, kind.values) == ('gray values', {0: 'sky', 100: 'road', 200: 'car'})


def test_a_class_called_ignored_is_none(tmp_path):
    kind = kind_of(tmp_path, [0, 1, 2], named=names('sky', 'ignored', 'road'))
    assert (kind.classes, kind.values) == (['sky', 'road'], {0: 'sky', 1: None, 2: 'road'})
    assert kind.counts.tolist() == [[64, 64, 64]] and len(kind.palette) == 2


def test_palette(tmp_path):
    kind = kind_of(tmp_path, [0, 1, 2], mode='P')
    assert kind.words == 'class indices with a palette' and kind.palette == [list(color) for color in (VOID, ROAD, SKY)]


def test_colors_are_listed_by_their_share(tmp_path):
    kind = kind_of(tmp_path, [SKY, ROAD, ROAD, VOID, ROAD, SKY])
    assert kind.colors == {ROAD: '#804080', SKY: '#4682b4', VOID: '#000000'}
    assert kind.classes == ['#804080', '#4682b4', '#000000']
    assert kind.palette[0] == [128, 64, 128] and kind.shares().round(2).tolist() == [0.5, 0.33, 0.17]


def test_named_colors(tmp_path):
    named = [NamedClass('sky', SKY), NamedClass('road', ROAD), NamedClass('car', (0, 0, 142))]
    kind = kind_of(tmp_path, [SKY, ROAD, ROAD], named=named)
    assert kind.classes == ['sky', 'road', 'car'] and kind.counts.tolist() == [[64, 128, 0, 0]]


def test_lossy_masks(tmp_path):
    mask = np.zeros((32, 48), np.uint8)
    mask[:, 21:] = 255
    Image.fromarray(mask).save(tmp_path / 'a.jpg', quality=85)
    raw = read_raw([tmp_path / 'a.jpg'])
    assert len(raw.total()) > 2
    kind = find_kind(raw, lossy=True)
    assert kind.values == {0: 'background', 255: 'foreground'} and 0 < kind.tolerance < 128
    assert kind.counts[0, :2].tolist() == [32 * 21, 32 * 27]


@pytest.mark.parametrize(('labels', 'named', 'line'), [
    ([[0, 1, 2]], ['sky'], 'the labels have 3 values (0, 1, 2), but 1 classes are named (sky); name as many, in the order of '
     'the values'),
    ([[SKY, ROAD, ROAD]], ['sky', 'road'], 'the labels have colors, but the classes are named without; write "NAME RED GREEN '
     'BLUE" on each line. The colors are (128, 64, 128), (70, 130, 180), the most frequent first'),
    ([[0, 0]], ['sky'], 'the labels have one class only (sky), so that there is nothing to learn; at least two are needed'),
    ([[255, 255]], [], 'all pixels of the labels are 255, which means ignored; expected class indices')], ids=str)
def test_classes_that_do_not_fit(tmp_path, labels, named, line):
    with pytest.raises(DataError) as error:
        kind_of(tmp_path, *labels, named=names(*named))
    assert str(error.value) == line


def test_unknown_colors_are_named_with_their_share(tmp_path):
    with pytest.raises(DataError) as error:
        kind_of(tmp_path, [SKY, ROAD, ROAD, ROAD], named=[NamedClass('road', ROAD), NamedClass('sky', (70, 130, 181))])
    assert str(error.value) == (
        '1 colors of the labels are not among the named ones: (70, 130, 180) in 25% of the pixels, nearest to (70, 130, 181); '
        'add them, or if the labels were saved with losses, as JPEG does, add --lossy')


def test_too_many_colors():
    raw = RawLabels(True, None, [Counter({(index % 256, index // 256, 0): 1 for index in range(300)})])
    with pytest.raises(DataError) as error:
        find_kind(raw)
    assert str(error.value) == ('the labels have 300 colors, more than classes can be; if they were saved with losses, as JPEG '
                                'does, add --lossy')


def test_split_is_seeded_and_has_every_class_on_both_sides():
    random = np.random.default_rng(0)
    counts = random.integers(1, 100, (40, 5)) * (random.random((40, 5)) < [1, 1, 0.5, 0.2, 0.1])
    chosen = split(counts, seed=3)
    assert chosen.sum() == 8 and (chosen == split(counts, seed=3)).all() and (chosen != split(counts, seed=4)).any()
    assert counts[chosen].sum(0).all() and counts[~chosen].sum(0).all()
    inside, outside = counts[chosen].sum(0) / counts[chosen].sum(), counts[~chosen].sum(0) / counts[~chosen].sum()
    assert abs(inside - outside).max() < 0.05


def data(root: Path, count: int = 5) -> Path:
    for index in range(count):
        photo(root / 'images' / f'{index}.jpg')
        label(root / 'masks' / f'{index}.png')
    return root


def test_own_split_and_classes_file(tmp_path):
    root = data(tmp_path / 'root')
    (root / 'classes.txt').write_text('sky\nroad\ncar\n')
    found = inspect(root, tmp_path)
    assert found.kind.classes == ['sky', 'road', 'car']
    parts = {name: part.names() for name, part in found.splits.items()}
    assert sorted(parts['train'] + parts['val']) == [f'{index}.jpg' for index in range(5)] and len(parts['val']) == 1
    assert all(part.listed for part in found.splits.values())


def test_lists_in_the_folder_are_used(tmp_path):
    root = data(tmp_path / 'root')
    (root / 'train.txt').write_text('0\n1.jpg\nimages/2.jpg\n')
    (root / 'sets').mkdir()
    (root / 'sets' / 'val.txt').write_text('3\n4\n')
    found = inspect(root, tmp_path)
    parts = {name: part.names() for name, part in found.splits.items()}
    assert parts == dict(train=['0.jpg', '1.jpg', '2.jpg'], val=['3.jpg', '4.jpg'])
    assert found.how_split == 'by the lists in the folder'


def test_pascal_voc(tmp_path):
    for name in ('a', 'b', 'c', 'd'):
        photo(tmp_path / 'VOC/JPEGImages' / f'{name}.jpg')
        if name != 'd':
            label(tmp_path / 'VOC/SegmentationClass' / f'{name}.png', [0, 15, 255], mode='P')
    lists = tmp_path / 'VOC/ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nb\n')
    (lists / 'val.txt').write_text('c\n')
    found = inspect(tmp_path / 'VOC', tmp_path)
    assert found.kind.classes[15] == 'person' and len(found.kind.classes) == 21 and len(found.splits['val'].pairs) == 1


def test_ade20k(tmp_path):
    root = tmp_path / 'ADEChallengeData2016'
    for part in ('training', 'validation'):
        photo(root / 'images' / part / 'a.jpg')
        label(root / 'annotations' / part / 'a.png', [0, 1, 150])
    found = inspect(root, tmp_path)
    assert found.kind.values[0] is None and found.kind.values[1] == 'wall' and found.kind.values[150] == 'flag'
    assert found.kind.counts[0, -1] == 64 and set(found.splits) == {'train', 'val'}


def test_cityscapes(tmp_path):
    for part in ('train', 'val'):
        photo(tmp_path / 'leftImg8bit' / part / 'town' / 'town_0_leftImg8bit.png')
        label(tmp_path / 'gtFine' / part / 'town' / 'town_0_gtFine_labelIds.png', [7, 23, 0])
    found = inspect(tmp_path, tmp_path)
    assert found.type == 'repvgg_seg.CityscapesDataset' and found.kind.counts[0, [0, 10, 19]].tolist() == [64, 64, 64]


@pytest.mark.parametrize('names', [('leftImg8bit/{}/town/town_0_leftImg8bit.png', 'gtFine/{}/town/town_0_gtFine_labelIds.png'),
                                   ('{}/images/a.jpg', '{}/masks/a.png')])
def test_a_seed_without_effect(tmp_path, names):
    for part in ('train', 'val'):
        photo(tmp_path / names[0].format(part))
        label(tmp_path / names[1].format(part), [7, 23, 0])
    with pytest.raises(UserError) as error:
        inspect(tmp_path, tmp_path, seed=0)
    assert str(error.value) == (f'--seed is for choosing validation images, but {tmp_path} is divided already; leave it out')


@pytest.mark.parametrize(('count', 'line'), [
    (0, "{} has no images with labels; expected label files (PNG, TIFF or BMP) of the same names as the images in another "
     "folder or beside them, LabelMe's JSON files, or one in COCO's format. JPEG masks need --lossy"),
    (2, '{}/images has 2 image(s) with a label; at least 3 are needed, one of them for validation')])
def test_too_little(tmp_path, count, line):
    root = tmp_path / 'root'
    root.mkdir()
    data(root, count)
    with pytest.raises(DataError) as error:
        inspect(root, tmp_path)
    assert str(error.value) == line.format(root)
