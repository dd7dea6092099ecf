"""MMSegmentation's and MMPretrain's own tools take our configs and checkpoints, with only a wheel's contents on the path."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from mmengine.config import Config
from processes import FOR_THEIR_TOOLS

from repvgg_seg.deploy.deploying import deploy

pytestmark = pytest.mark.whole

# Steps in one process, from a folder that holds nothing of ours; what they find is written to found.json.
BEGINNING = """
import json, runpy, sys
from pathlib import Path

import {package} as package
import repvgg_seg

config, checkpoint, fused, image = sys.argv[1:]
found = dict(package=repvgg_seg.__file__)


def run(name, *arguments):
    sys.argv = [name, *arguments]
    runpy.run_path(str(Path(package.__file__).parent / '.mim' / 'tools' / f'{{name}}.py'), run_name='__main__')


"""
SEGMENTATION = BEGINNING.format(package='mmseg') + """
import cv2
from mmseg.apis import MMSegInferencer, inference_model, init_model
run('train', config, '--work-dir', 'trained')
run('train', config, '--work-dir', 'trained', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
run('test', config, checkpoint, '--work-dir', 'tested')
run('test', config, checkpoint, '--work-dir', 'mirrored', '--tta')
# MMEngine keeps visualizers by name as long as the process lives; MMSegmentation 1.2.2 draws each 50th batch unless told.
run('test', f'{fused}/config.py', f'{fused}/model.pth', '--work-dir', 'fused', '--out', 'labels', '--show-dir', 'pictures',
    '--cfg-options', 'visualizer.name=pictures', 'default_hooks.visualization.interval=1')
for kind, files in dict(trained=(config, checkpoint), fused=(f'{fused}/config.py', f'{fused}/model.pth')).items():
    model = init_model(*files, device='cpu')
    found[kind] = dict(
        classes=list(model.dataset_meta['classes']),
        file=inference_model(model, image).pred_sem_seg.data[0].tolist(),
        array=inference_model(model, cv2.imread(image)).pred_sem_seg.data[0].tolist(),
        inferencer=MMSegInferencer(*files, device='cpu')(image)['predictions'].tolist())
Path('found.json').write_text(json.dumps(found))
"""
# What is left open in our configs for our tool to fill in.
CLASSIFICATION = BEGINNING.format(package='mmpretrain') + """
from mmpretrain import ImageClassificationInferencer

given = ['--cfg-options', 'test_evaluator.topk=1']
filled = [*given, 'val_evaluator.topk=1', 'train_dataloader.batch_size=4', 'model.head.num_classes=3']
run('train', config, '--work-dir', 'trained', *filled)
run('test', config, checkpoint, '--work-dir', 'tested', *filled)
run('test', f'{fused}/config.py', f'{fused}/model.pth', '--work-dir', 'fused', *given)
found['class'] = ImageClassificationInferencer(f'{fused}/config.py', f'{fused}/model.pth', device='cpu')(image)[0]['pred_class']
Path('found.json').write_text(json.dumps(found))
"""


def run_elsewhere(program: str, config: Path, checkpoint: Path, image: Path, folder: Path) -> dict:
    """Run a program from the folder ``here`` in another.

    Returns:
        What it found.
    """
    shutil.copytree(tiny.ROOT / 'repvgg_seg', folder / 'site' / 'repvgg_seg')
    deploy(Config.fromfile(config), str(checkpoint), folder / 'deployed')
    (folder / 'here').mkdir()
    run = subprocess.run([sys.executable, '-c', program, config, checkpoint, folder / 'deployed', image], text=True,
                         cwd=folder / 'here', env=os.environ | FOR_THEIR_TOOLS | dict(PYTHONPATH=str(folder / 'site')),
                         capture_output=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads((folder / 'here' / 'found.json').read_text())
    assert Path(found['package']).is_relative_to(folder / 'site')
    return found


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp('elsewhere')


@pytest.fixture(scope='module', autouse=True)
def found(config, checkpoint, streets, folder) -> dict:
    """What MMSegmentation's tools found in the folder."""
    return run_elsewhere(SEGMENTATION, config, checkpoint, next((streets / 'leftImg8bit' / 'val').rglob('*.png')), folder)


def score(path: Path) -> list[float]:
    """mIoU, mean and pixel accuracy of a test."""
    result = json.loads(path.read_text())
    return [round(result[key], 2) for key in ('mIoU', 'mAcc', 'aAcc')]


def their_score(folder: Path) -> list[float]:
    """That of MMEngine's log, in a folder that is named by the time."""
    path, = folder.rglob('2*.json')
    return score(path)


def test_training_and_resuming(folder):
    assert {path.name for path in (folder / 'here' / 'trained').glob('epoch_*.pth')} >= {'epoch_2.pth', 'epoch_3.pth'}


def test_the_same_scores_as_by_our_tool(folder, run_tool, config, checkpoint, tmp_path):
    for work_dir, options in (('tested', []), ('mirrored', ['--tta'])):
        assert run_tool('test', config, checkpoint, '--work-dir', tmp_path / work_dir, *options).code == 0
        assert their_score(folder / 'here' / work_dir) == score(tmp_path / work_dir / 'test.json')


def test_fused_model(folder):
    assert their_score(folder / 'here' / 'fused') == their_score(folder / 'here' / 'tested')
    assert len(list((folder / 'here' / 'labels').glob('*.png'))) == 3
    assert list((folder / 'here' / 'pictures').rglob('*.png'))


@pytest.mark.parametrize('kind', ['trained', 'fused'])
def test_inference(found, kind):
    labels = found[kind]
    assert len(set(sum(labels['file'], []))) > 1
    assert labels['file'] == labels['array'] == labels['inferencer'] == found['trained']['file']
    assert labels['classes'][:2] == ['road', 'sidewalk']


def test_mmpretrain(classifier_config, classifier_checkpoint, folders, run_tool, tmp_path):
    image = folders / 'val' / 'red' / '0.png'
    found = run_elsewhere(CLASSIFICATION, classifier_config, classifier_checkpoint, image, tmp_path)
    assert (tmp_path / 'here' / 'trained' / 'epoch_2.pth').is_file()
    run_tool('classify_test', classifier_config, classifier_checkpoint, '--work-dir', tmp_path / 'ours')
    ours = json.loads((tmp_path / 'ours' / 'test.json').read_text())['accuracy/top1']
    for work_dir in ('tested', 'fused'):
        path, = (tmp_path / 'here' / work_dir).rglob('2*.json')
        assert json.loads(path.read_text())['accuracy/top1'] == pytest.approx(ours)
    assert found['class'] in ('blue', 'green', 'red')
