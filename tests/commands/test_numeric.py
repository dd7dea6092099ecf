"""A number that an argument does not take ends the command with one line that says what was expected."""
from importlib import import_module

import pytest
from mistakes import assert_error_line
from parsers import nested

from repvgg_seg.commands import numeric
from repvgg_seg.commands.main import VERBS

COUNT, SHARE, SEED = 'a whole number, 1 or more', 'a number above 0 and below 1', 'a whole number from 0 to 4294967295'
DEPLOY, BENCHMARK = ('deploy', 'c.py', 'm.pth', '--out', 'x'), ('benchmark', 'speed', 'RepVGG-A0')


@pytest.mark.situation('Smaller', 'a number that an argument does not take, e.g. `prune.py --keep 1.5`',
                       before="`invalid share value: '1.5'`", now='one line that says which numbers are expected')
@pytest.mark.parametrize(('arguments', 'expected'), [
    (('prune', 'c.py', 'm.pth', '--out', 'x', '--keep', '1'), SHARE),
    (('prune', 'c.py', 'm.pth', '--out', 'x', '--milliseconds', 'inf'), 'a number above 0'),
    (('init', 'photos', '--out', 'x.py', '--hours', 'nan'), 'a number above 0'),
    (('init', 'photos', '--out', 'x.py', '--seed', '-1'), SEED),
    (('train-ablations', '--seeds', '0', '4294967296'), SEED),
    (('predict', 'c.py', 'm.pth', 'images', '--out', 'x', '--tile', '64', '1.5'), COUNT),
    (('predict', 'c.py', 'm.pth', 'images', '--out', 'x', '--min-confidence', '1.01'), 'a number from 0 to 1'),
    (('serve', 'x', '--port', 'http'), 'a whole number from 0 to 65535'),
    ((*BENCHMARK, '--rounds', '0'), COUNT),
    ((*BENCHMARK, '--figure', 'x.png', '--accuracy', '101'), 'a number from 0 to 100'),
    ((*DEPLOY, '--batch', '0'), "'any' or a whole number, 1 or more"),
    ((*DEPLOY, '--opset', '18.5'), 'a whole number'),
    ((*DEPLOY, '--abstain', 'half'), 'a number'),
    (('train', 'c.py', '--local_rank', 'first'), 'a whole number'),
], ids=lambda value: ' '.join(value) if isinstance(value, tuple) else '')
def test_other_numbers_are_refused(run_tool, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    tool, *rest = arguments
    option = next(text for text in reversed(rest) if text.startswith('--'))
    names = '--local_rank/--local-rank' if option == '--local_rank' else option
    assert_error_line(run_tool(tool.replace('-', '_'), *rest),
                      f'error: argument {names}: expected {expected}, got {rest[-1]}; see --help')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('verb', VERBS)
def test_every_number_has_such_a_message(verb):
    module = import_module(f'repvgg_seg.commands.{verb.replace("-", "_")}')
    plain = [action.dest for parser in nested(module.parser()) for action in parser._actions if action.type in (int, float)]
    assert plain == []


@pytest.mark.parametrize(('parse', 'text', 'value'), [
    (numeric.whole, '-3', -3), (numeric.real, '-1.5', -1.5), (numeric.positive, '1', 1), (numeric.positive_or_any, '1', 1),
    (numeric.positive_or_any, 'any', None), (numeric.seed, '0', 0), (numeric.seed, '4294967295', 2**32 - 1),
    (numeric.port, '0', 0), (numeric.port, '65535', 65535), (numeric.above_zero, '7.5', 7.5), (numeric.share, '0.001', 0.001),
    (numeric.fraction, '0', 0), (numeric.fraction, '1', 1), (numeric.percentage, '100', 100)])
def test_numbers_at_the_limits_are_taken(parse, text, value):
    assert parse(text) == value
