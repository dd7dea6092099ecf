"""Tiny datasets, a tiny segmentor and classifier for them, and a way to run the tools without a new process."""
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny
import torch
from exports import picture
from helpers import forget_earlier_runs, randomize
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from repvgg_seg.datasets.toy import write_toy_streets
from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.engine.trained_model import build_trained


@dataclass
class Result:
    """How a tool ended."""
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def nothing_after_training(monkeypatch) -> None:
    """Curves and a report take longer than a tiny training. Where they matter, a fixture of this name leaves them in."""
    for name in ('curves.leave_curves', 'segmentation.leave_report'):
        monkeypatch.setattr(f'repvgg_seg.engine.{name}', lambda *_: None)


@pytest.fixture
def run_tool(capsys, monkeypatch) -> Callable[..., Result]:
    """Run ``tools/NAME.py`` with arguments, in this process, as if from a shell."""

    def run(name: str, *arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, 'argv', [f'tools/{name}.py', *map(str, arguments)])
        monkeypatch.setenv('LOCAL_RANK', '0')
        forget_earlier_runs()
        capsys.readouterr()
        code = 0
        try:
            runpy.run_path(str(tiny.ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        except SystemExit as stop:
            code = stop.code or 0
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(scope='session')
def streets(tmp_path_factory) -> Path:
    """A set of 4 training and 3 validation scenes of 48x64 pixels."""
    folder = tmp_path_factory.mktemp('data') / 'streets'
    write_toy_streets(folder, dict(train=4, val=3), 48, 64)
    return folder


@pytest.fixture(scope='session')
def config(streets) -> Path:
    return tiny.write_segmentor_config(streets.parent / 'tiny.py', streets)


@pytest.fixture(scope='session')
def checkpoint(config, tmp_path_factory) -> Path:
    """A checkpoint of one short training."""
    from repvgg_seg.engine.segmentation import train_segmentor
    return train(train_segmentor, config, tmp_path_factory.mktemp('trained'))


@pytest.fixture(scope='session')
def random_checkpoint(config, tmp_path_factory) -> Path:
    """Weights of the segmentor with randomized batch norms, and a classifier that chooses between the classes."""
    loaded = Config.fromfile(config)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = randomize(MODELS.build(loaded.model)).eval()
    model.decode_head.conv_seg.weight.data.normal_()
    with torch.no_grad():
        model.decode_head.conv_seg.bias -= logits_of(model, as_batch(model, picture(96, 96))).mean((0, 2, 3))
    path = tmp_path_factory.mktemp('random') / 'random.pth'
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope='session')
def random_segmentor(config, random_checkpoint) -> nn.Module:
    """The segmentor with these weights."""
    return build_trained(Config.fromfile(config), str(random_checkpoint))[0]


@pytest.fixture(scope='session')
def folders(tmp_path_factory) -> Path:
    """A set of noise in three colors, one folder for each: 4 training and 2 validation images a class."""
    return tiny.write_noise(tmp_path_factory.mktemp('data') / 'folders', ('blue', 'green', 'red'), train=4, val=2)


@pytest.fixture(scope='session')
def classifier_config(folders) -> Path:
    return tiny.write_classifier_config(folders.parent / 'tiny_classifier.py', folders)


@pytest.fixture(scope='session')
def classifier_checkpoint(classifier_config, tmp_path_factory) -> Path:
    """A checkpoint of one short training of the classifier."""
    from repvgg_seg.engine.classification import train_classifier
    return train(train_classifier, classifier_config, tmp_path_factory.mktemp('classifier'))


def train(by: Callable[[Config], Path], config: Path, work_dir: Path) -> Path:
    """The checkpoint of a training."""
    forget_earlier_runs()
    loaded = Config.fromfile(config)
    loaded.work_dir = str(work_dir)
    return by(loaded)


@pytest.fixture
def fuse(run_tool, tmp_path) -> Callable[[Path, Path], Path]:
    """Fuse a checkpoint by the tool into a folder."""

    def fused(config: Path, checkpoint: Path) -> Path:
        result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused')
        assert result.code == 0, result.err
        return tmp_path / 'fused'

    return fused
