"""MMSegmentation's own tools take our configs and checkpoints, with nothing on the path but what a wheel installs."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

# Steps in one process, from a folder that holds nothing of ours; what they find is written to found.json.
PROGRAM = """
import json, runpy, sys
from pathlib import Path

import cv2
import mmseg
import repvgg_seg
from mmseg.apis import MMSegInferencer, inference_model, init_model

config, checkpoint, fused, image = sys.argv[1:]
found = dict(package=repvgg_seg.__file__)


def run(name, *arguments):
    sys.argv = [name, *arguments]
    runpy.run_path(str(Path(mmseg.__file__).parent / '.mim' / 'tools' / f'{name}.py'), run_name='__main__')


run('train', config, '--work-dir', 'trained')
run('train', config, '--work-dir', 'trained', '--resume', '--cfg-options', 'train_cfg.max_epochs=3')
run('test', config, checkpoint, '--work-dir', 'tested')
run('test', config, checkpoint, '--work-dir', 'mirrored', '--tta')
# MMEngine keeps visualizers by their names as long as the process lives.
run('test', f'{fused}/config.py', f'{fused}/model.pth', '--work-dir', 'fused', '--out', 'labels', '--show-dir', 'pictures',
    '--cfg-options', 'visualizer.name=pictures')
for kind, files in dict(trained=(config, checkpoint), fused=(f'{fused}/config.py', f'{fused}/model.pth')).items():
    model = init_model(*files, device='cpu')
    found[kind] = dict(
        classes=list(model.dataset_meta['classes']),
        file=inference_model(model, image).pred_sem_seg.data[0].tolist(),
        array=inference_model(model, cv2.imread(image)).pred_sem_seg.data[0].tolist(),
        inferencer=MMSegInferencer(*files, device='cpu')(image)['predictions'].tolist())
Path('found.json').write_text(json.dumps(found))
"""


@pytest.fixture(scope='module')
def folder(config, checkpoint, streets, tmp_path_factory) -> Path:
    """Where the tools ran."""
    from mmengine.config import Config

    from repvgg_seg.deploy.folder import deploy
    folder = tmp_path_factory.mktemp('elsewhere')
    shutil.copytree(tiny.ROOT / 'repvgg_seg', folder / 'site' / 'repvgg_seg')
    deploy(Config.fromfile(config), str(checkpoint), folder / 'deployed')
    (folder / 'here').mkdir()
    image = next((streets / 'leftImg8bit' / 'val').rglob('*.png'))
    run = subprocess.run([sys.executable, '-c', PROGRAM, config, checkpoint, folder / 'deployed', image], text=True,
                         cwd=folder / 'here', env=os.environ | dict(PYTHONPATH=str(folder / 'site')), capture_output=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


@pytest.fixture(scope='module')
def found(folder) -> dict:
    found = json.loads((folder / 'here' / 'found.json').read_text())
    assert Path(found['package']).is_relative_to(folder / 'site')
    return found


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
