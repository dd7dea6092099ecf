"""The command prune: what it writes trains, is tested and exported; mistakes leave nothing behind."""
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from exports import skip_without
from mistakes import assert_error_line
from mmengine.config import Config

from repvgg_seg.deploy import pruning


@pytest.fixture
def prune(run_tool, config, checkpoint, tmp_path):
    """Run the tool on the tiny segmentor."""
    def run(*arguments: str | Path):
        return run_tool('prune', config, checkpoint, '--out', tmp_path / 'pruned', '--images', 4, '--multiple', 2, *arguments)
    return run


def test_pruned_model_is_an_ordinary_one(prune, run_tool, tmp_path):
    result = prune('--keep', 0.6)
    assert result.code == 0, result.err
    folder = tmp_path / 'pruned'
    assert {path.name for path in folder.iterdir()} == {'config.py', 'model.pth', 'teacher.py', 'prune.json'}
    report = json.loads((folder / 'prune.json').read_text())
    assert 0.5 < report['keep'] <= 0.6 and report['multiplications_after'] <= 0.6 * report['multiplications_before']
    assert any(after < before for before, after in report['widths'].values())
    assert f"Wrote {folder}; fine-tune it with tools/train.py {folder / 'config.py'}" in result.out
    assert run_tool('test', folder / 'config.py', folder / 'model.pth', '--work-dir', tmp_path).code == 0

    result = run_tool('train', folder / 'config.py', '--work-dir', tmp_path / 'run', '--cfg-options', 'train_cfg.max_epochs=1')
    assert result.code == 0, result.err
    before, after = (torch.load(path, weights_only=False)['state_dict'] for path in (
        folder / 'model.pth', tmp_path / 'run/epoch_1.pth'))
    assert list(before) == list(after) and any((before[name] != after[name]).any() for name in before)
    result = run_tool('deploy', folder / 'config.py', tmp_path / 'run', '--out', tmp_path / 'fused')  # With a config.py, too.
    assert result.code == 0, result.err
    result = run_tool('test', folder / 'config.py', tmp_path / 'run', '--work-dir', tmp_path,
                      '--cfg-options', 'model.decode_head.dropout_ratio=0.2')
    assert result.code == 0, result.err


def test_original_config_takes_the_folder_as_a_checkpoint(prune, run_tool, config, tmp_path):
    assert prune('--keep', 0.8).code == 0
    assert run_tool('test', config, tmp_path / 'pruned', '--work-dir', tmp_path).code == 0


def test_fine_tuning_is_slower_and_has_a_teacher(prune, config, checkpoint, tmp_path):
    assert prune('--keep', 0.8).code == 0
    pruned, original = Config.fromfile(tmp_path / 'pruned/config.py'), Config.fromfile(config)
    assert pruned.optim_wrapper.optimizer.lr == pytest.approx(original.optim_wrapper.optimizer.lr / 20)
    assert pruned.distill == dict(teacher=str(tmp_path / 'pruned/teacher.py'), checkpoint=str(checkpoint))
    assert pruned.load_from == str(tmp_path / 'pruned/model.pth')
    assert Config.fromfile(tmp_path / 'pruned/teacher.py').model == original.model


def test_time_is_a_limit(prune, tmp_path, monkeypatch):
    skip_without('ncnn', 'pnnx')
    measured, measure = [], pruning.milliseconds_of

    def milliseconds_of(plan, model, runtime: str) -> float:
        if not measured:  # The first one really runs.
            measured.append(measure(plan, model, runtime))
        return sum(parameter.numel() for parameter in model.parameters()) / 1000

    monkeypatch.setattr(pruning, 'milliseconds_of', milliseconds_of)
    result = prune('--milliseconds', 60, '--runtime', 'ncnn', '--size', 48, 64)
    assert result.code == 0, result.err
    report = json.loads((tmp_path / 'pruned/prune.json').read_text())
    assert 50_000 < report['parameters_after'] <= 60_000 < report['parameters_before']
    assert measured[0] > 0


@pytest.mark.parametrize(('arguments', 'message'), [
    (['--keep', '0.001'], re.compile(r'error: at least 0\.\d\d of the multiplications remain when every layer has its least '
                                     r'width; give a larger --keep than 0\.001, or a smaller --multiple')),
    (['--keep', '0.5', '--cfg-options', 'model.data_preprocessor.size=None'],
     'error: model.data_preprocessor.size does not say how large images are; give --size H W'),
    (['--keep', '2'], 'error: argument --keep: expected a number above 0 and below 1, got 2; see --help'),
], ids=['too little', 'no size', 'more than everything'])
def test_mistakes_write_nothing(prune, tmp_path, arguments, message):
    assert_error_line(prune(*arguments), message)
    assert not (tmp_path / 'pruned').exists()


def test_folder_that_exists(prune, tmp_path):
    (tmp_path / 'pruned').mkdir()
    assert_error_line(prune('--keep', 0.5), f'error: {tmp_path / "pruned"} exists already; choose another folder')


def test_classifier(run_tool, classifier_config, classifier_checkpoint, tmp_path):
    result = run_tool('prune', classifier_config, classifier_checkpoint, '--out', tmp_path / 'out', '--keep', 0.5)
    assert_error_line(result, f'error: config {classifier_config} is for a classifier, this tool needs one for a segmentor; '
                              'use tools/classify_train.py and tools/classify_test.py')
    assert not (tmp_path / 'out').exists()


def test_resrep(run_tool, config, checkpoint, tmp_path):
    """Compactors are trained from ordinary weights, also when resumed between two choices, and the result is pruned."""
    path = tmp_path / 'my_resrep.py'
    path.write_text(f'''_base_ = '{config}'
model = dict(backbone=dict(block=dict(type='CompactedConv')))
custom_hooks = [dict(type='repvgg_seg.ResRepHook', keep=0.9, size=(48, 64), multiple=2, interval=3)]
load_from = '{checkpoint}'
train_cfg = dict(max_epochs=2)
''')
    assert run_tool('train', path, '--work-dir', tmp_path / 'whole').code == 0
    (tmp_path / 'resumed').mkdir()
    shutil.copy(tmp_path / 'whole/epoch_1.pth', tmp_path / 'resumed')
    result = run_tool('train', path, '--work-dir', tmp_path / 'resumed', '--resume')
    assert result.code == 0, result.err
    whole, resumed = (torch.load(tmp_path / run / 'epoch_2.pth', weights_only=False) for run in ('whole', 'resumed'))
    assert all(torch.equal(value, resumed['state_dict'][name]) for name, value in whole['state_dict'].items())
    assert any(chosen.any() for chosen in whole['resrep'].values())
    result = run_tool('prune', path, tmp_path / 'whole/epoch_2.pth', '--keep', 0.9, '--multiple', 2, '--images', 4, '--out',
                      tmp_path / 'pruned')
    assert result.code == 0, result.err
    pruned = Config.fromfile(tmp_path / 'pruned/config.py')
    assert pruned.model.backbone.block is None and pruned.custom_hooks == []
    assert run_tool('test', tmp_path / 'pruned/config.py', tmp_path / 'pruned/model.pth', '--work-dir', tmp_path).code == 0
