"""Polygons of LabelMe and COCO become label files, pixel for pixel as pycocotools draws them."""
import base64
import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

coco_api = pytest.importorskip('pycocotools.coco')

from pycocotools import mask as coco_masks  # noqa: E402

from repvgg_seg.core.errors import DataError, UserError  # noqa: E402
from repvgg_seg.datasets.annotations import make_labels  # noqa: E402
from repvgg_seg.datasets.annotations.regions import AnnotatedImage, Region, rasterize  # noqa: E402

HEIGHT, WIDTH = 30, 40
SQUARE, INNER = [5, 5, 25, 5, 25, 25, 5, 25], [10.5, 9, 20, 10, 15, 20.5]


def polygon(random: np.random.Generator) -> list[float]:
    """Some points in the image and around it."""
    return (random.uniform(-3, 43, 2 * random.integers(3, 9))).round(2).tolist()


def with_hole(form: str) -> dict:
    """Run lengths of a square with a hole in it."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order='F')
    mask[5:25, 5:25], mask[10:15, 10:15] = 1, 0
    if form == 'compressed':
        runs = coco_masks.encode(mask)
        return dict(runs, counts=runs['counts'].decode())
    changes = np.flatnonzero(np.diff(mask.ravel('F'), prepend=0, append=0))
    return dict(size=[HEIGHT, WIDTH], counts=np.diff(changes, prepend=0, append=HEIGHT * WIDTH).tolist())


def coco(*annotations: dict) -> dict:
    """A file in COCO's format with three categories, whose ids are neither sorted nor without gaps."""
    return dict(
        images=[dict(id=7, file_name='town/a.JPG', height=HEIGHT, width=WIDTH),
                dict(id=9, file_name='b.png', height=HEIGHT, width=WIDTH)],
        categories=[dict(id=12, name='car'), dict(id=3, name='road'), dict(id=20, name='tree')],
        annotations=[dict(dict(id=number, image_id=7, category_id=3, iscrowd=0), **annotation)
                     for number, annotation in enumerate(annotations, 1)])


def save(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def draw(tmp_path):
    """Rasterize a file in COCO's format; the labels of ``town/a.JPG``."""

    def drawn(content: dict, **options) -> np.ndarray:
        make_labels(save(tmp_path / 'coco.json', content), tmp_path / 'labels', **options)
        return np.array(Image.open(tmp_path / 'labels' / 'town' / 'a.png'))

    return drawn


def masks_of(path: Path) -> list[np.ndarray]:
    """The masks of all annotations, by pycocotools alone."""
    api = coco_api.COCO(str(path))
    return [api.annToMask(annotation) > 0 for annotation in api.anns.values()]


@pytest.mark.parametrize('order', ['file', 'area'])
def test_equal_to_pycocotools(draw, tmp_path, order):
    random = np.random.default_rng(1)
    annotations = [dict(segmentation=[polygon(random) for _ in range(random.integers(1, 4))], category_id=category)
                   for category in random.permutation([3, 12, 20] * 4).tolist()]
    annotations += [dict(segmentation=with_hole('counts'), category_id=20), dict(segmentation=with_hole('compressed'))]
    found = draw(coco(*annotations), order=order)
    masks = masks_of(tmp_path / 'coco.json')
    expected, indices = np.zeros((HEIGHT, WIDTH), np.uint8), {3: 1, 12: 2, 20: 3}
    places = sorted(range(len(masks)), key=lambda place: -masks[place].sum() if order == 'area' else place)
    for place in places:
        expected[masks[place]] = indices[annotations[place].get('category_id', 3)]
    assert {0, 1, 2, 3} == {*np.unique(expected)}
    np.testing.assert_array_equal(found, expected)


def test_classes_follow_the_ids_and_images_without_annotations_are_background(draw, tmp_path):
    draw(coco(dict(segmentation=[SQUARE])))
    assert (tmp_path / 'labels' / 'classes.txt').read_text() == 'background\nroad\ncar\ntree\n'
    assert not np.array(Image.open(tmp_path / 'labels' / 'b.png')).any()


@pytest.mark.parametrize('form', ['counts', 'compressed'])
def test_holes(draw, form):
    found = draw(coco(dict(segmentation=with_hole(form))))
    assert found[12, 12] == 0 and found[7, 7] == 1 and found.sum() == 375


@pytest.mark.parametrize(('order', 'inside'), [(None, 2), ('area', 2), ('file', 1)])
def test_order_of_overlapping_regions(draw, order, inside):
    """In COCO's files, whose order means nothing, the smaller one is on top."""
    found = draw(coco(dict(segmentation=[INNER], category_id=12), dict(segmentation=[SQUARE])), order=order)
    assert found[13, 15] == inside and found[6, 6] == 1


@pytest.mark.parametrize(('crowd', 'expected'), [('ignored', 255), ('class', 3)])
def test_crowds_are_below_all_others(draw, crowd, expected):
    annotations = dict(segmentation=[SQUARE]), dict(segmentation=with_hole('counts'), category_id=20, iscrowd=1)
    found = draw(coco(dict(segmentation=[INNER]), annotations[1]), crowd=crowd, order='file')
    assert found[7, 7] == expected and found[13, 15] == 1


def test_background_and_labels_can_be_ignored(draw, tmp_path):
    annotations = dict(segmentation=[SQUARE]), dict(segmentation=[INNER], category_id=12)
    found = draw(coco(*annotations), background=None, ignored=['car'])
    assert [found[0, 0], found[6, 6], found[13, 15]] == [255, 0, 255]
    assert (tmp_path / 'labels' / 'classes.txt').read_text() == 'road\ntree\n'


def test_classes_of_a_file(draw, tmp_path):
    (tmp_path / 'names.txt').write_text('car\nroad\nother\ntree\n')
    found = draw(coco(dict(segmentation=[SQUARE])), classes_file=tmp_path / 'names.txt', background='other')
    assert [found[0, 0], found[6, 6]] == [2, 1]
    assert (tmp_path / 'labels' / 'classes.txt').read_text() == 'car\nroad\nother\ntree\n'


def labelme(*shapes: dict) -> dict:
    return dict(version='5.5.0', imagePath='a.jpg', imageData=None, imageHeight=HEIGHT, imageWidth=WIDTH, shapes=[
        dict(dict(shape_type='polygon', group_id=None, flags={}), **shape) for shape in shapes])


def pairs(coordinates: list[float]) -> list[list[float]]:
    return [list(pair) for pair in zip(coordinates[::2], coordinates[1::2])]


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, format='PNG')
    return base64.b64encode(buffer.getvalue()).decode()


def test_labelme_draws_in_the_order_of_the_file(tmp_path):
    """A hole is a later shape of the background."""
    random = np.random.default_rng(2)
    outlines = [polygon(random) for _ in range(6)]
    names = ['road', 'car', '_background_', '__ignore__', 'road', 'car']
    shapes = [dict(label=name, points=pairs(outline)) for name, outline in zip(names, outlines)]
    save(tmp_path / 'json/town/a.json', labelme(*shapes))
    made = make_labels(tmp_path / 'json', tmp_path / 'labels')
    expected, indices = np.zeros((HEIGHT, WIDTH), np.uint8), {'_background_': 0, '__ignore__': 255, 'car': 1, 'road': 2}
    for name, outline in zip(names, outlines):
        expected[coco_masks.decode(coco_masks.frPyObjects([outline], HEIGHT, WIDTH))[..., 0] > 0] = indices[name]
    assert {0, 1, 2, 255} == {*np.unique(expected)}
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / 'labels/town/a.png')), expected)
    assert made.classes == ['background', 'car', 'road'] and made.regions == [0, 2, 2]
    assert made.pixels == [(expected == value).sum() for value in (0, 1, 2, 255)]


def test_other_shapes_of_labelme(tmp_path):
    part = np.random.default_rng(3).random((6, 7)) < 0.5
    save(tmp_path / 'json/a.json', labelme(
        dict(label='a', shape_type='rectangle', points=[[2, 3], [12, 9]]),
        dict(label='b', shape_type='circle', points=[[30, 20], [30, 26]]),
        dict(label='c', shape_type='mask', points=[[5, 20], [11, 25]], mask=png(part)),
        dict(label='d', points=[[1, 1], [2, 2]])))
    made = make_labels(tmp_path / 'json', tmp_path / 'labels')
    found = np.array(Image.open(tmp_path / 'labels/a.png'))
    assert (found[3:9, 2:12] == 1).all() and (found == 1).sum() == 60
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(columns + 0.5 - 30, rows + 0.5 - 20)
    assert (found[distance < 5.2] == 2).all() and not (found[distance > 6.8] == 2).any()
    np.testing.assert_array_equal(found[20:26, 5:12] == 3, part)
    assert made.empty == 1 and 'd' not in made.classes


def broken(change) -> dict:
    content = copy.deepcopy(coco(dict(segmentation=[SQUARE])))
    change(content)
    return content


@pytest.mark.parametrize(('content', 'line'), [
    ('{"images": [', '{file} is not a JSON file (Expecting value: line 1 column 13 (char 12)); {expected}'),
    ([], "{file} is neither in COCO's format nor in LabelMe's; {expected}"),
    (broken(lambda file: file['annotations'][0].update(segmentation=[], bbox=[1, 2, 3, 4])),
     'annotation 1 of {file} has no segmentation, only a box; segmentation needs polygons or masks, which most annotation '
     'tools export as "COCO instance segmentation"'),
    (broken(lambda file: file['annotations'][0].update(segmentation=[[1, 2, '3', 4, 5, 6]])),
     'annotation 1 of {file} has a polygon that is not a list of numbers x, y, x, y, ...; correct or remove it'),
    (broken(lambda file: file['annotations'][0].update(image_id=1)),
     'annotation 1 of {file} is for the image 1, which the file does not have; correct or remove it'),
    (broken(lambda file: file['annotations'][0].update(category_id=1)),
     'annotation 1 of {file} has the category_id 1, the file has the ids 3, 12, 20; correct or remove it'),
    (broken(lambda file: file['images'][1].pop('height')),
     "{file} has an image without height: {{'id': 9, 'file_name': 'b.png', 'width': 40}}; expected id (int), file_name (str), "
     "height "
     '(int), width (int)'),
    (broken(lambda file: file['images'][1].update(id=7)), '{file} has two images of the id 7; give each its own'),
    (broken(lambda file: file['images'][1].update(file_name='../b.png')),
     '{file} has images outside the folder of images: ../b; make their paths relative to it'),
    (broken(lambda file: file['images'][1].update(file_name='town/a.png')),
     'an image town/a and an image town/a would both be written to {out}/town/a.png; give them different names, or write them '
     'in two calls to two folders'),
    (broken(lambda file: file['annotations'][0].update(segmentation=dict(size=[3, 4], counts=[5, 7]))),
     'annotation 1 of {file} is a mask of height and width [3, 4], its image [30, 40]; correct or remove it'),
    (broken(lambda file: file['annotations'][0].update(segmentation=dict(size=[30, 40], counts=[5, 7]))),
     'annotation 1 of {file} has run lengths that cannot be decoded (12 pixels of 30x40); correct or remove it'),
    (dict(labelme(), imageHeight=None),
     '{file} has no imageHeight and imageWidth; open and save it in LabelMe, or add them'),
    (labelme(dict(label='a', points=[[1, 2], [3]])),
     'shape 1 of {file} has points that are not pairs of numbers; correct or remove it'),
    (labelme(dict(label='a', points=[[1, 2], [3, 4]], shape_type='line')),
     'shape 1 of {file} is a line, which has no area; remove it, or draw a polygon'),
    (labelme(dict(label='a', points=[[1, 2]], shape_type='circle')), 'shape 1 of {file} is a circle of 1 points; expected 2'),
    (labelme(dict(label='a', points=[[38, 2], [45, 6]], shape_type='mask', mask=png(np.ones((4, 7))))),
     'shape 1 of {file} has a mask that extends beyond its image; correct or remove it')], ids=range(17))
def test_broken_annotations_leave_nothing(tmp_path, content, line):
    file, out = tmp_path / 'file.json', tmp_path / 'labels'
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as error:
        make_labels(file, out)
    assert str(error.value) == line.format(
        file=file, out=out, expected="expected one file in COCO's format, or a folder of LabelMe's JSON files")
    assert [*tmp_path.iterdir()] == [file]


@pytest.mark.parametrize(('options', 'line'), [
    (dict(ignored=['truck']), '--ignore truck: no region of {} has that label; the labels are road'),
    (dict(classes_file='names.txt'), '{} has labels that are not among the classes in names.txt: road; add them, or leave them '
     'out with --ignore')], ids=str)
def test_labels_that_do_not_fit_the_classes(tmp_path, monkeypatch, options, line):
    monkeypatch.chdir(tmp_path)
    Path('names.txt').write_text('car\n')
    file = save(tmp_path / 'file.json', coco(dict(segmentation=[SQUARE])))
    with pytest.raises(UserError) as error:
        make_labels(file, tmp_path / 'labels', **options)
    assert str(error.value) == line.format(file)
    assert not (tmp_path / 'labels').exists()


def test_crowd_regions_of_labelme(tmp_path):
    file = save(tmp_path / 'file.json', labelme(dict(label='a', points=[[1, 2], [9, 2], [9, 8]])))
    with pytest.raises(UserError) as error:
        make_labels(file, tmp_path / 'labels', crowd='class')
    assert str(error.value) == f"--crowd is for COCO's crowd regions, but {file} has LabelMe's files; leave it out"


def test_several_files_of_coco_are_refused(tmp_path):
    for name in ('train', 'val'):
        save(tmp_path / 'json' / f'{name}.json', coco())
    with pytest.raises(DataError) as error:
        make_labels(tmp_path / 'json', tmp_path / 'labels')
    assert str(error.value) == (f"{tmp_path}/json/train.json is in COCO's format, but 1 other JSON files are beside it; "
                                "expected one file in COCO's format, or a folder of LabelMe's JSON files")


def test_areas_are_not_held_as_masks(monkeypatch):
    """Of large images with many regions only one mask at a time is in memory."""
    alive = []
    monkeypatch.setattr(coco_masks, 'decode', lambda runs, decode=coco_masks.decode: alive.append(1) or decode(runs))
    image = AnnotatedImage('a', (HEIGHT, WIDTH), [Region('road', [SQUARE], False, 'here')] * 3)
    assert rasterize(image, dict(road=1), 0, True, False).sum() == 400 and len(alive) == 3


def test_command(tmp_path, capsys):
    from repvgg_seg.commands.main import main
    file = save(tmp_path / 'file.json', coco(dict(segmentation=[SQUARE]), dict(segmentation=[[1, 2, 3, 4]])))
    main(['make-labels', str(file), '--out', str(tmp_path / 'labels')])
    said = capsys.readouterr().out
    assert 'road' in said and '16.67%' in said
    assert said.splitlines()[-2:] == ['1 annotations have fewer than three points and cover nothing',
                                      f'Wrote 2 label files and classes.txt to {tmp_path / "labels"}']
