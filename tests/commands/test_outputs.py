"""No tool writes over what it reads, or over another file that it writes."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mistakes import assert_error_line
from mmengine.config import Config
from PIL import Image

from repvgg_seg.models import RepVGG

OVER = '{} is read, but {} would be written over it; write to another place'
TWICE = '{} and {} would both be written to {}; give them different names, or write them in two calls to two folders'


def draw(*paths: Path) -> list[Path]:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.randint(0, 256, (48, 64, 3), np.uint8)).save(path)
    return list(paths)


@pytest.fixture
def unchanged(tmp_path):
    """A function that compares what is in the test's folder with what was there when it was first called."""
    seen = []

    def check() -> None:
        seen.append({path: path.is_file() and path.read_bytes() for path in tmp_path.rglob('*')})
        assert seen[-1] == seen[0]

    return check


@pytest.mark.situation('Data loss', 'predict.py --out is the folder of the images, or leads to one by links',
                       before='the images were replaced by label maps, exit code 0', now='one line, nothing is written')
@pytest.mark.parametrize('way', ['folder', 'link to the folder', 'link to an image', 'checkpoint', 'config'])
def test_predict_over_what_it_reads(run_tool, config, random_checkpoint, tmp_path, unchanged, way):
    image, = draw(tmp_path / 'images/a.png')
    config = Path(shutil.copy(config, tmp_path / 'c.py'))
    checkpoint, out, lost = random_checkpoint, tmp_path / 'out', image
    if way == 'folder':
        out = image.parent
    elif way == 'link to the folder':
        out.symlink_to(image.parent)
    else:
        out.mkdir()
        checkpoint = Path(shutil.copy(checkpoint, tmp_path / 'm.pth'))
        lost = {'link to an image': image, 'checkpoint': checkpoint, 'config': config}[way]
        (out / 'a.png').symlink_to(lost)
    unchanged()
    assert_error_line(run_tool('predict', config, checkpoint, image.parent, '--out', out),
                      f'error: {OVER.format(lost, out / "a.png")}')
    unchanged()


@pytest.mark.situation('Data loss', 'predict.py on a.png beside a_overlay.png, or names that are too long for "_overlay"',
                       before='three files of four, or a traceback after some were written', now='one line, nothing is written')
@pytest.mark.parametrize(('names', 'message'), [
    (['a.png', 'a_overlay.png'], TWICE.format('{}/a.png', '{}/a_overlay.png', '{}/out/a_overlay.png')),
    (['a.jpg', 'a.png'], TWICE.format('{}/a.jpg', '{}/a.png', '{}/out/a.png')),
    (['x/a.png', 'x_a.png', 'y/a.png'], TWICE.format('{}/x/a.png', '{}/x_a.png', '{}/out/x_a.png')),
    (['n' * 250 + '.png'], f'the name {"n" * 250}_overlay.png would have 262 bytes, the file system takes 255; give the file '
     'that it is named after a shorter name'),
], ids=['overlay', 'endings', 'folders', 'too long'])
def test_predictions_that_would_replace_each_other(run_tool, config, random_checkpoint, tmp_path, unchanged, names, message):
    draw(*(tmp_path / 'images' / name for name in names))
    unchanged()
    message = message.replace('{}/out', str(tmp_path / 'out')).replace('{}', str(tmp_path / 'images'))
    assert_error_line(run_tool('predict', config, random_checkpoint, tmp_path / 'images', '--out', tmp_path / 'out'),
                      f'error: {message}')
    unchanged()


@pytest.mark.situation('Tracebacks', 'predict.py on ..png, ...png and names of 243 letters', before='a traceback',
                       now='predicted')
def test_unusual_names(run_tool, config, random_checkpoint, tmp_path):
    sound, = draw(tmp_path / 'sound.png')
    (tmp_path / 'images').mkdir()
    for name in ('..png', '...png', '.png', 'n' * 243 + '.png', 'b c.png', '-x.png'):
        shutil.copy(sound, tmp_path / 'images' / name)
    result = run_tool('predict', config, random_checkpoint, tmp_path / 'images', '--out', tmp_path / 'out')
    assert result.code == 0, result.err
    assert len(list((tmp_path / 'out').iterdir())) == 12


@pytest.fixture
def streets_config(config, streets, tmp_path) -> Path:
    """A config of a copy of the streets, whose validation set has images in two towns."""
    copy = tmp_path / 'streets'
    shutil.copytree(streets, copy)
    path = tmp_path / 'copy.py'
    path.write_text(Path(config).read_text().replace(str(streets), str(copy)))
    return path


@pytest.mark.situation('Data loss', 'test.py --out with images of equal names in different folders or parts of a dataset',
                       before='later predictions replaced earlier ones', now='one line before anything is evaluated')
@pytest.mark.parametrize('option', ['--out', '--submit'])
@pytest.mark.parametrize('kind', ['folders', 'concatenated'])
def test_predictions_of_equal_names(run_tool, streets_config, random_checkpoint, streets, tmp_path, unchanged, kind, option):
    images = tmp_path / 'streets/leftImg8bit/val'
    first = min((images / 'toytown').iterdir())
    second = (images if kind == 'folders' else tmp_path / 'more/leftImg8bit/val') / 'city' / first.name
    if kind == 'folders':
        shutil.copytree(images / 'toytown', second.parent)
        shutil.copytree(tmp_path / 'streets/gtFine/val/toytown', tmp_path / 'streets/gtFine/val/city')
        first, second = second, first
    else:
        shutil.copytree(streets, tmp_path / 'more')
        for folder in ('leftImg8bit', 'gtFine'):
            (tmp_path / 'more' / folder / 'val/toytown').rename(tmp_path / 'more' / folder / 'val/city')
        loaded = Config.fromfile(streets_config)
        parts = [dict(loaded.test_dataloader.dataset, data_root=str(tmp_path / name)) for name in ('streets', 'more')]
        loaded.test_dataloader.dataset = dict(type='ConcatDataset', datasets=parts)
        loaded.dump(streets_config)
    result = run_tool('test', streets_config, random_checkpoint, '--work-dir', tmp_path / 'run', option, tmp_path / 'out')
    assert_error_line(result, f'error: {TWICE.format(first, second, tmp_path / "out" / first.name)}')
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'run/test.json').exists()


@pytest.mark.situation('Data loss', 'test.py --out is the folder of the images or of the labels',
                       before='they were replaced by predictions', now='one line before anything is evaluated')
@pytest.mark.parametrize('lost', ['image', 'label', 'config'])
def test_predictions_over_the_dataset(run_tool, streets_config, random_checkpoint, tmp_path, lost):
    image = min((tmp_path / 'streets/leftImg8bit/val/toytown').iterdir())
    label = min((tmp_path / 'streets/gtFine/val/toytown').iterdir())
    read = {'image': image, 'label': label, 'config': streets_config}[lost]
    out = image.parent
    if lost != 'image':
        out = tmp_path / 'out'
        out.mkdir()
        (out / image.name).hardlink_to(read)
    before = read.read_bytes()
    result = run_tool('test', streets_config, random_checkpoint, '--work-dir', tmp_path / 'run', '--out', out)
    assert_error_line(result, f'error: {OVER.format(read, out / image.name)}')
    assert read.read_bytes() == before and not (tmp_path / 'run/test.json').exists()


@pytest.mark.situation('Data loss', 'train.py or test.py with a config in the work dir',
                       before='the config was replaced by what MMEngine makes of it',
                       now='it stays as it is, and test.py writes none')
def test_a_config_in_the_work_dir_stays(run_tool, streets_config, random_checkpoint, tmp_path):
    (tmp_path / 'run').mkdir()
    path = Path(shutil.move(streets_config, tmp_path / 'run/copy.py'))
    before = path.read_text()
    assert run_tool('test', path, random_checkpoint, '--work-dir', path.parent).code == 0
    assert path.read_text() == before
    assert run_tool('test', path, random_checkpoint, '--work-dir', tmp_path / 'other').code == 0
    assert not [*(tmp_path / 'other').glob('*.py')]


@pytest.mark.situation('Data loss', 'train.py starts from a checkpoint in its own work dir', before='it was replaced',
                       now='one line')
@pytest.mark.parametrize('key', ['load_from', 'model.backbone.init_cfg.checkpoint'])
def test_training_over_the_weights_from_which_it_starts(run_tool, config, tmp_path, key):
    weights = tmp_path / 'run/epoch_1.pth'
    weights.parent.mkdir()
    weights.write_bytes(b'weights')
    options = [f'{key}={weights}'] + ['model.backbone.init_cfg.type=Pretrained'] * key.startswith('model')
    assert_error_line(run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options),
                      f'error: training starts from {weights}, but can write a checkpoint of that name itself; choose another '
                      '--work-dir, or copy the file to another folder')
    assert weights.read_bytes() == b'weights'


@pytest.mark.situation('Data loss', 'deploy.py --out is an older folder that holds the checkpoint, config or images given',
                       before='they were removed with it', now='one line')
@pytest.mark.parametrize('lost', ['config', 'checkpoint', 'images', 'dataset'])
def test_deploy_over_what_it_reads(run_tool, config, streets_config, random_checkpoint, tmp_path, lost):
    out = tmp_path / 'fused'
    out.mkdir()
    (out / 'deploy.json').write_text('{}')
    paths = dict(config=config, checkpoint=random_checkpoint)
    read = out / {'config': 'c.py', 'checkpoint': 'm.pth', 'images': 'a.png', 'dataset': 'streets/leftImg8bit/train'}[lost]
    if lost in paths:
        paths[lost] = shutil.copy(paths[lost], read)
    elif lost == 'images':
        draw(read)
    else:
        shutil.move(tmp_path / 'streets', out / 'streets')
        paths['config'] = streets_config
        streets_config.write_text(streets_config.read_text().replace(f'{tmp_path}/streets', f'{out}/streets'))
    result = run_tool('deploy', *paths.values(), '--out', out, *(['--images', read] if lost == 'images' else []))
    assert_error_line(result, f'error: {read} is read, but it is in {out}, which would be replaced; write to another place')
    assert read.exists()


@pytest.mark.situation('Data loss', 'check_data.py, plot_curves.py, benchmark.py or convert_weights.py is told to write over '
                       'what it reads', before='it was replaced', now='one line')
@pytest.mark.parametrize('tool', ['check_data config', 'check_data base', 'check_data image', 'check_data broken set',
                                  'plot_curves', 'benchmark', 'benchmark twice', 'convert_weights', 'convert_weights link'])
def test_other_tools(run_tool, streets_config, tmp_path, unchanged, tool):
    name, _, way = tool.partition(' ')
    image = min((tmp_path / 'streets/leftImg8bit/train/toytown').iterdir())
    read = out = streets_config
    message = None
    if name == 'check_data':
        if way == 'base':
            streets_config = tmp_path / 'leaf.py'
            streets_config.write_text("_base_ = 'copy.py'")
        elif way != 'config':
            read = out = image
        if way == 'broken set':
            min((tmp_path / 'streets/gtFine/train/toytown').iterdir()).unlink()
        arguments = [streets_config, '--out', out]
    elif name == 'plot_curves':
        read, out = tmp_path / 'run/1/vis_data/scalars.json', tmp_path / 'c.png'
        read.parent.mkdir(parents=True)
        read.write_text(json.dumps(dict(loss=1.0, step=1)))
        out.symlink_to(read)
        arguments = [tmp_path / 'run', '--out', out]
    elif name == 'benchmark':
        arguments = ['complexity', read, '--out', out]
        if way == 'twice':
            arguments = ['speed', 'RepVGG-A0', '--out', tmp_path / 'x.png', '--figure', tmp_path / 'x.png']
            message = TWICE.format('--out', '--figure', tmp_path / 'x.png')
    else:
        read = out = tmp_path / 'm.pth'
        torch.save(RepVGG('A0').state_dict(), read)
        if way == 'link':
            out = tmp_path / 'link.pth'
            out.hardlink_to(read)
        arguments = [read, out]
    unchanged()
    assert_error_line(run_tool(name, *arguments), f'error: {message or OVER.format(read, out)}')
    unchanged()


def test_classifier_over_what_it_reads(run_tool, classifier_config, classifier_checkpoint, folders, tmp_path):
    image = min((folders / 'val/red').iterdir())
    for read in (image, classifier_checkpoint):
        before = read.read_bytes()
        result = run_tool('classify_test', classifier_config, classifier_checkpoint, '--work-dir', tmp_path, '--out', read)
        assert_error_line(result, f'error: {OVER.format(read, read)}')
        assert read.read_bytes() == before


@pytest.mark.situation('Data loss', 'a file of the user in a deployed folder that is written again', before='it was removed',
                       now='one line that names it')
def test_deploy_removes_only_what_it_wrote(run_tool, fuse, config, checkpoint):
    folder = fuse(config, checkpoint)
    (folder / 'notes.txt').write_text('precious')
    assert_error_line(run_tool('deploy', config, checkpoint, '--out', folder), f'error: folder {folder}, which would be '
                      'replaced, holds notes.txt, which this tool did not write; move that away, or choose another folder')
    assert (folder / 'notes.txt').read_text() == 'precious'
