"""tools/train_ablations.py trains what is not finished, and compares."""
import json
import re
from pathlib import Path

import pytest
import torch
from exports import skip_without
from mistakes import assert_error_line
from mmengine.runner import EpochBasedTrainLoop

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.engine.curves import read_log

pytestmark = pytest.mark.whole

VARIANTS = ['plain', 'dirac', 'relu_in_branches']
INT8_PACKAGES = ('onnx', 'onnxscript', 'onnxruntime', 'openvino', 'nncf')


@pytest.fixture
def train(run_tool, classifier_config, tmp_path):
    """Run the tool on the tiny dataset, in a folder."""
    return lambda name, *options: run_tool('train_ablations', classifier_config, '--work-dir', tmp_path / name, *options)


def log_of(work_dir: Path) -> str:
    return ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))


def state_of(work_dir: Path, epoch: int = 2) -> dict[str, torch.Tensor]:
    return read_checkpoint(work_dir / f'epoch_{epoch}.pth')['state_dict']


def test_trains_each_and_compares(train, tmp_path):
    result = train('runs', '--variants', *VARIANTS, '--amp')
    assert result.code == 0, result.err
    folders = [tmp_path / 'runs' / f'{name}_seed0' for name in VARIANTS]
    keys = [[key for key in state_of(folder) if key.startswith('backbone.stages.2.1.conv.')] for folder in folders]
    kinds = [{key.rpartition('.')[0].partition('.conv.')[2] for key in group} for group in keys]
    three = {'branch_3x3.conv', 'branch_3x3.norm'}
    assert kinds == [three, three | {''}, three | {'branch_1x1.conv', 'branch_1x1.norm', 'branch_identity'}]
    for folder in folders:
        steps = [record['step'] for record in read_log(folder) if 'loss' in record]
        assert steps == [1, 2, 3, 4, 5, 6], 'each has a log of its own'
        assert 'BFloat16OptimWrapper' in (folder / 'settings.py').read_text()
    top1 = [json.loads((folder / 'test.json').read_text())['accuracy/top1'] for folder in folders]
    assert [f'{value:.2f}' for value in top1] == re.findall(r'seed 0: top-1 (\S+)', result.out)
    written = json.loads((tmp_path / 'runs/results.json').read_text())
    assert written['top1'] == {name: [value] for name, value in zip(VARIANTS, top1)} and 'rank_correlation' in written
    assert (tmp_path / 'runs/results.md').read_text() in result.out
    assert (tmp_path / 'runs/curves.png').read_bytes().startswith(b'\x89PNG')


def test_seeds(train, tmp_path):
    assert train('runs', '--variants', 'plain', '--seeds', '0', '1').code == 0
    zero, one = (state_of(tmp_path / f'runs/plain_seed{seed}') for seed in (0, 1))
    assert not torch.equal(zero['head.fc.weight'], one['head.fc.weight'])
    assert 'of 2) |' in (tmp_path / 'runs/results.md').read_text()


def test_goes_on_where_it_was_interrupted(train, tmp_path, monkeypatch):
    assert train('whole', '--variants', *VARIANTS[:2]).code == 0
    begun = []
    run_epoch = EpochBasedTrainLoop.run_epoch

    def interrupted(self) -> None:
        begun.append(self.runner.work_dir)
        if len(begun) == 4:  # The second epoch of the second.
            raise KeyboardInterrupt
        run_epoch(self)

    with monkeypatch.context() as patch:
        patch.setattr(EpochBasedTrainLoop, 'run_epoch', interrupted)
        result = train('parts', '--variants', *VARIANTS[:2])
        assert (result.code, result.out.splitlines()[-1]) == (130, 'stopped by SIGINT; give the command again to continue')
        begun.clear()
        result = train('parts', '--variants', *VARIANTS[:2])
    assert result.code == 0, result.err
    plain, dirac = (tmp_path / 'parts' / f'{name}_seed0' for name in VARIANTS[:2])
    assert begun == [str(dirac)], 'one epoch was left'
    assert 'resumed epoch: 1, iter: 3' in log_of(dirac) and 'resumed epoch' not in log_of(plain)
    for name in VARIANTS[:2]:
        whole, parts = (state_of(tmp_path / folder / f'{name}_seed0') for folder in ('whole', 'parts'))
        torch.testing.assert_close(parts, whole, rtol=0, atol=0)
    tables = [(tmp_path / folder / 'results.md').read_text() for folder in ('whole', 'parts')]
    assert tables[0] == tables[1]


def test_a_run_is_tested_that_was_interrupted_before(train, tmp_path):
    assert train('runs', '--variants', 'plain').code == 0
    tested = tmp_path / 'runs/plain_seed0/test.json'
    expected = json.loads(tested.read_text())
    tested.unlink()
    assert train('runs', '--variants', 'plain').code == 0
    assert json.loads(tested.read_text()) == expected


def test_other_settings_are_refused_before_anything_is_trained(train, tmp_path):
    assert train('runs', '--variants', 'plain').code == 0
    before = (tmp_path / 'runs/plain_seed0/settings.py').read_text()
    for options in (['--cfg-options', 'optim_wrapper.optimizer.lr=0.2'], ['--amp']):
        result = train('runs', '--variants', 'dirac', 'plain', *options)
        assert_error_line(result, (
            f'error: {tmp_path}/runs/plain_seed0 was started with different settings (see its settings.py); give the same '
            'config, options and --amp to continue, or another --work-dir to start from scratch'))
    assert (tmp_path / 'runs/plain_seed0/settings.py').read_text() == before
    assert not (tmp_path / 'runs/dirac_seed0').exists()


def test_a_recipe_for_another_backbone(train):
    result = train('runs', '--cfg-options', 'model.backbone.type=ResNet')
    assert_error_line(result, 'error: the ablations are for RepVGG, but the recipe has the backbone ResNet; give a config such '
                      'as configs/ablations/b0_cifar10.py')


@pytest.mark.parametrize(('options', 'message'), [
    (['--variants', 'acb'], r"--variants: invalid choice: 'acb' \(choose from '?both'?, '?plain'?"),
    (['--seeds', 'x'], '--seeds: expected a whole number from 0 to 4294967295, got x'),
    (['--int8', 'relu_in_branches'], "--int8: invalid choice: 'relu_in_branches'")])
def test_wrong_arguments(train, options, message):
    result = train('runs', *options)
    assert result.code == 2 and re.search(message, result.err)


def test_int8(train, tmp_path):
    """Tested once, however often the command is given."""
    skip_without(*INT8_PACKAGES)
    for _ in range(2):
        result = train('runs', '--variants', 'both', 'plain', '--int8', 'both', '--cfg-options', 'train_cfg.max_epochs=1')
        assert result.code == 0, result.err
    assert result.out.count('Evaluating') == 0
    fp32, *int8 = (json.loads((tmp_path / 'runs/both_seed0/int8.json').read_text())).values()
    assert fp32 == pytest.approx(json.loads((tmp_path / 'runs/both_seed0/test.json').read_text())['accuracy/top1'])
    assert len(int8) == 4 and all(0 <= value <= 100 for value in int8)
    text = (tmp_path / 'runs/int8.md').read_text()
    assert text in result.out and f'| both | 0 | {fp32:.2f} |' in text and 'plain' not in text


def test_int8_of_what_is_not_trained(train):
    skip_without(*INT8_PACKAGES)
    assert_error_line(train('runs', '--variants', 'plain', '--int8', 'both'),
                      'error: --int8 both is not trained; add it to --variants, or leave it out')
