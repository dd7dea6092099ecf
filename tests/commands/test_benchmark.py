"""The benchmark tool: tables, files, and wrong arguments."""
import json
from pathlib import Path

import pytest
import torch
from mistakes import assert_error_line

from repvgg_seg.benchmark import classifiers, networks, suites
from repvgg_seg.benchmark.rounds import Measurement

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]


def test_complexity(run_tool, tmp_path):
    config = ROOT / 'configs/pspnet_repvgg_a0_camvid.py'
    result = run_tool('benchmark', 'complexity', 'RepVGG-A0', config, '--out', tmp_path / 'out.json')
    assert result.code == 0, result.err
    assert '| RepVGG-A0 | 8.30 | 1.4 | 0.7 | 8.30 / 1.4 / 0.7 |' in result.out
    assert '| pspnet_repvgg_a0_camvid | 9.75 | ' in result.out and (tmp_path / 'out.json').is_file()
    assert '| RepVGG-A0 | 8.30 | 0.3 | 0.2 |\n' in run_tool('benchmark', 'complexity', 'RepVGG-A0', '--size', '112', '112').out


def test_loader(run_tool, config, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, 'set_num_threads', lambda _: None)
    result = run_tool('benchmark', 'loader', config, '--images', '3', '--out', tmp_path / 'out.json')
    assert result.code == 0, result.err
    written = json.loads((tmp_path / 'out.json').read_text())
    assert all(len(values) == 3 and min(values) > 0 for values in written['milliseconds'].values())
    steps = [row['step'] for row in written['rows']]
    assert steps[0].startswith('1 ') and steps[-1] == 'all' and list(written['milliseconds']) == steps[:-1]
    total = sum(sum(values) / 3 for values in written['milliseconds'].values())
    assert float(written['rows'][-1]['images/s and core']) == pytest.approx(1000 / total, abs=0.06)


def test_neither_a_name_nor_a_config(run_tool):
    assert_error_line(run_tool('benchmark', 'complexity', 'RepVGG-A9'),
                      f'error: RepVGG-A9 is neither the config of a model nor one of {", ".join(classifiers.NAMES)}')


def test_speed(run_tool, config, tmp_path):
    models = [f'training:{config}', str(config), f'step:{config}']
    result = run_tool('benchmark', 'speed', *models, '--size', '64', '64', '--batch', '2', '--rounds', '2', '--warm-up', '1',
                      '--threads', '1', '--out', tmp_path / 'out.json')
    assert result.code == 0, result.err
    written = json.loads((tmp_path / 'out.json').read_text())
    assert [row['network'] for row in written['rows']] == ['training:tiny', 'tiny', 'step:tiny']
    assert written['rows'][0]['times faster'] == '1.00'
    assert [bool(row['GFLOP/s']) for row in written['rows']] == [True, True, False]
    measured = {each['name']: each for each in written['measurements']}
    first = measured[models[0]]
    assert first['units'] == 2 and len(first['milliseconds']) == 2 and measured['matmul']['info'] == dict(flops=2048 ** 3)


@pytest.mark.parametrize(('arguments', 'message'), [
    (['RepVGG-A9'], 'RepVGG-A9 is neither a config nor one of '
     + ', '.join((*networks.NAMES, *networks.OPERATIONS, networks.MATRIX_PRODUCT))),
    (['stock:configs/pspnet_repvgg_b1g2_fast_cityscapes.py', '--rounds', '2'],
     "MMPretrain's RepVGG has one dilation a stage, which cannot express dilation='fast'; leave stock: out, or give a config "
     'with another'),
    (['configs/_base_/datasets/camvid.py', '--rounds', '2'],
     'configs/_base_/datasets/camvid.py is neither the config of a model nor one of ' + ', '.join(classifiers.NAMES)),
    (['RepVGG-A0', '--rounds', '1'], 'two rounds or more are needed to tell the spread, got 1')])
def test_speed_of_what_is_not(run_tool, arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert_error_line(run_tool('benchmark', 'speed', *arguments), f'error: {message}')


def test_all(run_tool, tmp_path):
    out = tmp_path / 'tables'
    arguments = ['--out', out, '--suites', 'figure3', '--batch', '1', '--size', '8', '8', '--rounds', '2', '--warm-up', '1']
    result = run_tool('benchmark', 'all', *arguments, '--precision', 'fp32', 'bf16', '--threads', '1')
    assert result.code == 0, result.err
    assert sorted(path.name for path in out.iterdir()) == [f'figure3_{precision}.{suffix}' for precision in ('bf16', 'fp32')
                                                           for suffix in ('json', 'md')]
    assert result.out.count('| plain-blocks | ') == result.out.count('| residual-blocks | ') == 2


def test_the_plan_for_a_gpu(run_tool, tmp_path, monkeypatch):
    timed = []

    def measure(subjects, rounds, warm_up, threads, shared, failures):
        setting = subjects[0].make.args[1]
        timed.append((setting.precision, setting.channels_last, setting.compiled, setting.batch, setting.size))
        return [Measurement(subject.name, 1, [1.0, 2.0], info=dict(flops=1)) for subject in subjects]

    monkeypatch.setattr(suites, 'measure', measure)
    result = run_tool('benchmark', 'all', '--plan', '--out', tmp_path, '--batch', '1', '--size', '65', '97', '--device', 'cpu')
    assert result.code == 0, result.err
    expected = [(precision, part.channels_last, part.compiled, 1, (65, 97)) for part in suites.PLAN.values()
                for _ in part.suites for precision in part.precisions]
    assert timed == expected and len({path.name for path in tmp_path.iterdir()}) == len(suites.PLAN)
    assert (tmp_path / 'compiled/table6_bf16.md').is_file()


def test_tables_that_fail_are_told_at_the_end(run_tool, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError('conv3x3 failed: out of memory')

    monkeypatch.setattr(suites, 'measure', fail)
    result = run_tool('benchmark', 'all', '--out', tmp_path, '--suites', 'table1', 'figure3')
    assert result.out.startswith('table1_fp32 failed: conv3x3 failed: out of memory\n')
    assert_error_line(result, f'error: 2 of the tables failed, see above; the others are in {tmp_path}')


@pytest.mark.skipif(torch.cuda.is_available(), reason='needs a machine without a GPU')
def test_no_gpu(run_tool):
    assert_error_line(run_tool('benchmark', 'speed', 'RepVGG-A0', '--device', 'cuda'),
                      'error: --device cuda, but there is no GPU here; use --device cpu')
