"""Pure-Python configs (``read_base``, lazy imports) go through the tools as those with texts for types do."""
import inspect
import json
from pathlib import Path

import pytest
import tiny
import torch
from helpers import forget_earlier_runs
from mmengine.config import Config, ConfigDict
from mmengine.runner import Runner

from repvgg_seg.core.reading import read_checkpoint

NEW_STYLE = tiny.ROOT / 'tests' / 'new_style' / 'pspnet.py'


def with_texts(part):
    """A part of a config with registered names in the place of classes."""
    if isinstance(part, dict):
        return {key: with_texts(value) for key, value in ConfigDict(part).items()}
    if isinstance(part, (list, tuple)):
        return type(part)(map(with_texts, part))
    return f'{part.__module__.partition(".")[0]}.{part.__name__}'.removeprefix('torch.') if inspect.isclass(part) else part


def classes_in(part):
    """Classes in a config, where MMEngine has placeholders for them until something is built."""
    if isinstance(part, (dict, list, tuple)):
        for value in dict.values(part) if isinstance(part, dict) else part:
            yield from classes_in(value)
    elif inspect.isclass(part):
        yield part


@pytest.fixture(autouse=True)
def configs_can_be_printed(monkeypatch):
    """Every runner gets a config with placeholders: MMEngine 0.10 cannot print the config when there are classes in it."""
    from_cfg = Runner.from_cfg.__func__

    def checked(kind, config):
        assert not list(classes_in(config._cfg_dict))
        return from_cfg(kind, config)

    monkeypatch.setattr(Runner, 'from_cfg', classmethod(checked))


@pytest.fixture(scope='module')
def options(streets) -> list[str]:
    return ['--cfg-options', *(f'{split}_dataloader.dataset.data_root={streets}' for split in ('train', 'val', 'test'))]


def test_trains_as_the_form_with_texts(run_tool, options, tmp_path):
    text = tmp_path / 'text.py'
    # Not what it imports.
    settings = {name: value for name, value in Config.fromfile(NEW_STYLE).items() if not callable(value)}
    Config(with_texts(settings)).dump(text)
    assert "type='repvgg_seg.RepVGG'" in text.read_text() and "type='SGD'" in text.read_text()
    states = []
    for config in (NEW_STYLE, text):
        result = run_tool('train', config, '--work-dir', tmp_path / config.stem, '--amp', *options)
        assert result.code == 0, result.err
        states.append(read_checkpoint(str(tmp_path / config.stem / 'epoch_2.pth'))['state_dict'])
    assert list(states[0]) == list(states[1]) and all(torch.equal(*pair) for pair in zip(*(state.values() for state in states)))


@pytest.fixture(scope='module')
def trained(options, tmp_path_factory) -> Path:
    from repvgg_seg.engine.segmentation import train_segmentor
    config = Config.fromfile(NEW_STYLE)
    config.merge_from_dict(dict(option.split('=') for option in options[1:]))
    config.work_dir = str(tmp_path_factory.mktemp('new_style'))
    forget_earlier_runs()
    train_segmentor(config)
    return Path(config.work_dir) / 'epoch_2.pth'


def test_resumes_in_the_middle_of_an_epoch_as_well(run_tool, options, trained):
    """Which needs our hook and loop in the place of MMEngine's classes."""
    longer = 'train_cfg.max_epochs=3', 'param_scheduler.0.end=3'
    assert run_tool('train', NEW_STYLE, '--work-dir', trained.parent, '--resume', *options, *longer).code == 0
    config = Config.fromfile(trained.parent / 'pspnet.py')  # As it was used.
    assert config.train_cfg.type == 'repvgg_seg.EpochBasedTrainLoop'
    assert config.default_hooks.checkpoint.type == 'repvgg_seg.CheckpointHook'


def test_fused_and_predicted(run_tool, options, trained, streets, tmp_path):
    result = run_tool('deploy', NEW_STYLE, trained, '--out', tmp_path / 'fused', *options)
    assert result.code == 0, result.err
    scores = []
    for model in (trained, tmp_path / 'fused'):
        assert run_tool('test', NEW_STYLE, model, '--work-dir', tmp_path, *options).code == 0
        scores.append(json.loads((tmp_path / 'test.json').read_text())['mIoU'])
    assert scores[0] > 0 and scores[0] == scores[1]
    images = streets / 'leftImg8bit' / 'val'
    assert run_tool('predict', NEW_STYLE, tmp_path / 'fused', images, '--out', tmp_path / 'out').code == 0
    assert len(list((tmp_path / 'out').glob('*_overlay.png'))) == 3


def test_dry_run_and_flipped_views(run_tool, options, trained, tmp_path):
    assert run_tool('train', NEW_STYLE, '--work-dir', tmp_path / 'dry', '--dry-run', *options).code == 0
    result = run_tool('test', NEW_STYLE, trained, '--tta', '--work-dir', tmp_path, *options)
    assert result.code == 0, result.err
    assert json.loads((tmp_path / 'test.json').read_text())['tta']


def test_data_are_checked(run_tool, options):
    assert 'No fault in 7 pairs' in run_tool('check_data', NEW_STYLE, *options).out
