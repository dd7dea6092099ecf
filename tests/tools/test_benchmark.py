"""The benchmark tool: tables, files, and wrong arguments."""
from pathlib import Path

from mistakes import assert_mistake

ROOT = Path(__file__).parents[2]


def test_complexity(run_tool, tmp_path):
    config = ROOT / 'configs/pspnet_repvgg_a0_camvid.py'
    result = run_tool('benchmark', 'complexity', 'RepVGG-A0', config, '--out', tmp_path / 'out.json')
    assert result.code == 0, result.err
    assert '| RepVGG-A0 | 8.30 | 1.4 | 0.7 | 8.30 / 1.4 / 0.7 |' in result.out
    assert '| pspnet_repvgg_a0_camvid | 9.75 | ' in result.out and (tmp_path / 'out.json').is_file()
    assert '| RepVGG-A0 | 8.30 | 0.3 | 0.2 |\n' in run_tool('benchmark', 'complexity', 'RepVGG-A0', '--size', '112', '112').out


def test_neither_a_name_nor_a_config(run_tool):
    assert_mistake(run_tool('benchmark', 'complexity', 'RepVGG-A9'), 'RepVGG-A9 is neither the config of a model nor one of')
