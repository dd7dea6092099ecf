"""From a folder of photos and masks to a deployed model by the commands that ``init`` prints, with no file edited by hand."""
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from mistakes import assert_error_line
from mmengine.config import Config
from PIL import Image

from repvgg_seg.engine.project_init.speed import Speed
from repvgg_seg.engine.trained_model import resolve
from repvgg_seg.models import RepVGG
from repvgg_seg.models.archs import ARCHS, RepVGGArch

COUNT, SIZE = 8, (48, 64)
SMALL = RepVGGArch(num_blocks=(1, 1, 5, 1), width_factors=(0.25, 0.125, 0.125, 0.125))  # In the place of A0, to be fast.


def draw(folder: Path, count: int = COUNT) -> Path:
    """Photos of a bright square before a dark ground, JPEG with endings in upper case, and masks of 0 and 255 beside them."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for index in range(count):
        top, left = random.integers(4, 12, 2)
        mask = np.zeros(SIZE, np.uint8)
        mask[top:top + 20, left:left + 28] = 255
        pixels = random.integers(0, 80, (*SIZE, 3)) + mask[..., None] // 2
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f'IMG_{index}.JPG', format='JPEG')
        Image.fromarray(mask).save(folder / f'IMG_{index}_mask.PNG', format='PNG')
    return folder


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.whole
@pytest.mark.parametrize('form', ['masks', 'LabelMe'])
def test_from_a_folder_to_a_deployed_model(run_tool, tmp_path, monkeypatch, form):
    if form == 'LabelMe':
        pytest.importorskip('pycocotools')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ARCHS, 'A0', SMALL)
    (draw if form == 'masks' else of_labelme)(Path('photos'))
    before = files(Path('photos'))
    made = run_tool('init', 'photos', '--out', 'my.py', '--epochs', '1', '--weights', 'none')
    assert made.code == 0, made.err
    assert files(Path('photos')) == before
    assert ('masks of 0 and 255' if form == 'masks' else "polygons in LabelMe's format") in made.out
    assert 'train 6, val 2' in made.out
    assert len([*Path('my_init/pictures').iterdir()]) == 6
    written = Path('my.py').read_bytes()
    commands = [shlex.split(line) for line in made.out.splitlines() if line.startswith('  tools/')]
    assert [command[0] for command in commands] == ['tools/check_data.py', 'tools/train.py', 'tools/deploy.py']
    for tool, *arguments in commands:
        result = run_tool(Path(tool).stem, *arguments)
        assert result.code == 0, f'{tool}\n{result.out}{result.err}'
    assert Path('my.py').read_bytes() == written
    report = json.loads(Path('my_int8/deploy.json').read_text())
    assert Path('my_int8/model.int8.xml').is_file(), report


@pytest.fixture
def at_once(monkeypatch, tmp_path):
    """In an empty folder, on a machine whose speed need not be measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('repvgg_seg.engine.project_init.initializing.measure_speed',
                        lambda config, batch, *_: Speed('cpu', batch, False, 0.5, 0.1))


def colored(root: Path) -> None:
    """RGB masks in a folder of their own, and names for them."""
    draw(root / 'images')
    for path in (root / 'images').glob('*.PNG'):
        white = np.array(Image.open(path)) > 0
        target = root / 'masks' / path.name.replace('_mask.PNG', '.png')
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.where(white[..., None], np.uint8([128, 64, 128]), np.uint8([0, 0, 142]))).save(target)
        path.unlink()
    (root / 'classes.csv').write_text('name,r,g,b\nroad,128,64,128\ncar,0,0,142\n')


def squares(root: Path) -> list[tuple[str, list[float]]]:
    """Names of images without masks, and for each a polygon."""
    draw(root)
    found = []
    for path in sorted(root.glob('*.PNG')):
        rows, columns = np.nonzero(np.array(Image.open(path)))
        left, top, right, bottom = map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        found.append((path.name.replace('_mask.PNG', ''), [left, top, right, top, right, bottom, left, bottom]))
        path.unlink()
    return found


def write_coco(path: Path, found: list[tuple[str, list[float]]], categories: tuple[str, ...] = ('square', )) -> None:
    """The file of some squares; a category after the first is a group that has no annotations, as in Roboflow's files."""
    ids = {name: number for number, name in enumerate(reversed(categories))}
    path.write_text(json.dumps(dict(
        images=[dict(id=number, file_name=f'{name}.JPG', height=SIZE[0], width=SIZE[1])
                for number, (name, _) in enumerate(found)],
        categories=[dict(id=number, name=name, supercategory=(*categories, 'none')[categories.index(name) + 1])
                    for name, number in ids.items()],
        annotations=[dict(id=number, image_id=number, category_id=ids[categories[0]], segmentation=[square])
                     for number, (_, square) in enumerate(found)])))


def in_coco_format(root: Path) -> None:
    write_coco(root / 'annotations.json', squares(root / 'images'))


def in_coco_splits(root: Path) -> None:
    """A file for each split, and the images of both in one folder."""
    found = squares(root / 'images')
    write_coco(root / 'train.json', found[:6])
    write_coco(root / 'val.json', found[6:])


def of_roboflow(root: Path) -> None:
    """Images and a file of each split in a folder of its own."""
    found = squares(root / 'train')
    for split, part in (('train', found[:4]), ('valid', found[4:6]), ('test', found[6:])):
        (root / split).mkdir(exist_ok=True)
        write_coco(root / split / '_annotations.coco.json', part, ('square', 'shapes'))
        for name, _ in part:
            (root / 'train' / f'{name}.JPG').rename(root / split / f'{name}.JPG')


def of_labelme(root: Path) -> None:
    for name, square in squares(root):
        points = [list(point) for point in zip(square[::2], square[1::2])]
        (root / f'{name}.json').write_text(json.dumps(dict(
            imagePath=f'{name}.JPG', imageHeight=SIZE[0], imageWidth=SIZE[1], shapes=[dict(label='square', points=points)])))


def saved_as_jpeg(root: Path) -> None:
    """Masks whose black and white are not quite black and white."""
    draw(root / 'images')
    (root / 'masks').mkdir()
    for path in (root / 'images').glob('*.PNG'):
        Image.open(path).save(root / 'masks' / path.name.replace('_mask.PNG', '.jpg'), quality=90)
        path.unlink()


@pytest.mark.parametrize(('form', 'classes'), [
    (saved_as_jpeg, ['background', 'foreground']),
    (colored, ['road', 'car']), (in_coco_format, ['background', 'square']), (in_coco_splits, ['background', 'square']),
    (of_roboflow, ['background', 'square']), (of_labelme, ['background', 'square'])])
def test_other_forms(run_tool, at_once, form, classes):
    if 'square' in classes:
        pytest.importorskip('pycocotools')
    options = ['--lossy'] if form is saved_as_jpeg else []
    form(Path('photos'))
    before = files(Path('photos'))
    result = run_tool('init', 'photos', '--out', 'my.py', '--weights', 'none', *options)
    assert result.code == 0, result.err
    assert files(Path('photos')) == before
    config = Config.fromfile('my.py')
    assert [*config.train_dataloader.dataset.metainfo.classes] == classes
    assert config.model.decode_head.num_classes == config.model.auxiliary_head.num_classes == 2
    assert sorted(config.class_weight) == [0.78, 1.66]  # Ground, and the rarer squares.
    checked = run_tool('check_data', 'my.py')
    assert checked.code == 0
    assert f'No fault in {COUNT - 2 if form is of_roboflow else COUNT} pairs' in checked.out  # The test set is not checked.
    splits = {in_coco_splits: 'train 6, val 2', of_roboflow: 'train 4, val 2, test 2'}
    assert f'{splits.get(form, "train 6, val 2")} (' in result.out and 'left out' not in result.out
    assert ('split: by annotation files.' in Path('my.py').read_text()) == (form in splits)
    first = np.array(Image.open(min(Path('my_init/pictures').iterdir())))
    assert first.shape[1] == 3 * SIZE[1] and len(np.unique(first[:SIZE[0], SIZE[1]:2 * SIZE[1]].reshape(-1, 3), axis=0)) == 2


def test_many_labels_are_sampled(run_tool, at_once, monkeypatch):
    monkeypatch.setattr('repvgg_seg.datasets.inspection.inspecting.LOOKED_AT', 3)
    draw(Path('photos'))
    assert run_tool('init', 'photos', '--out', 'my.py', '--weights', 'none').code == 0
    assert f'# Guess: Classes and their shares are those in 3 of the {COUNT} label files, spread evenly.\n' in (
        Path('my.py').read_text())


@pytest.mark.parametrize('names', [('a', 'b'), ('train', 'train_2'), ('val', 'test')])
def test_several_files_of_coco_that_are_no_splits(run_tool, at_once, names):
    found = squares(Path('photos'))
    for name in names:
        write_coco(Path('photos') / f'{name}.json', found)
    listed = ', '.join(f'photos/{name}.json' for name in sorted(names))
    assert_error_line(run_tool('init', 'photos', '--out', 'my.py', '--weights', 'none'), (
        f"error: photos has 2 files in COCO's format: {listed}; name them, or their folders, train, val and test, merge them "
        'into one, or make label files from each with tools/make_labels.py'))
    assert not Path('my_init').exists()


def test_large_images_are_resized_everywhere(run_tool, at_once):
    draw(Path('photos'))
    for path in Path('photos').iterdir():
        image = Image.open(path)
        image.resize((1400, 1000), Image.Resampling.NEAREST).save(path, format=image.format)
    assert run_tool('init', 'photos', '--out', 'my.py', '--weights', 'none').code == 0
    config = Config.fromfile('my.py')
    assert config.test_pipeline[1] == dict(type='Resize', scale=(640, 640), keep_ratio=True)
    assert config.crop_size == (185, 257) and config.train_pipeline[2].scale == (640, 640)


def test_weights_of_a_file(run_tool, at_once):
    torch.save(RepVGG('A0').state_dict(), 'a0.pth')
    draw(Path('photos'))
    assert run_tool('init', 'photos', '--out', 'my.py', '--weights', 'a0.pth').code == 0
    config = Config.fromfile('my.py')
    assert config.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='a0.pth')
    assert config.optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult == 10


@pytest.mark.parametrize(('arguments', 'line'), [
    (['nothing', '--out', 'my.py'], 'nothing is not a folder; expected one with images and labels'),
    (['photos', '--out', 'my.yaml'], '--out my.yaml does not end in .py; configs are Python files'),
    (['photos', '--out', 'old.py'], 'old.py exists already; move it away, or choose another name with --out'),
    (['photos', '--out', 'my.py', '--weights', 'no.pth'],
     'no pretrained weights: no.pth does not exist; give a file with --cfg-options model.backbone.init_cfg.checkpoint=PATH, or '
     'train from scratch with model.backbone.init_cfg=None'),
    (['photos', '--out', 'my.py', '--classes', 'three.txt'],
     'the labels have 2 values (0, 255), but 3 classes are named (a, b, c); name as many, in the order of the '
     'values')], ids=str)
def test_mistakes_leave_nothing(run_tool, at_once, arguments, line):
    draw(Path('photos'))
    Path('old.py').touch()
    Path('three.txt').write_text('a\nb\nc\n')
    before = files(Path())
    assert_error_line(run_tool('init', *arguments), f'error: {line}')
    assert files(Path()) == before and not Path('my_init').exists()


def test_a_work_dir_represents_its_best_checkpoint(checkpoint, config):
    found = resolve(Config.fromfile(config), str(checkpoint.parent))
    assert found == str(checkpoint)
