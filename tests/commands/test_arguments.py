"""Each tool declares the arguments that it uses, no others, and says in one line what is wrong with them."""
import argparse
import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
from mistakes import assert_error_line

from repvgg_seg.commands import cli
from repvgg_seg.commands.main import VERBS

FUSED_ONLY = ('fused weights are used by MMSegmentation, which gives logits and reads images as it is configured; --logits and '
              '--channels need --formats besides pth and safetensors')


def commands(parser: argparse.ArgumentParser, names: set[str] = frozenset()) -> Iterator[tuple[set[str], dict]]:
    """Of a tool, or of each of its commands: names of the arguments, and what is set without being one."""
    inside = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    names = names | {action.dest for action in parser._actions if action.dest != 'help'}
    if not inside:
        yield names, parser._defaults
    for action in inside:
        for command in action.choices.values():
            yield from commands(command, names)


def reads(function: Callable, seen: set[str]) -> set[str]:
    """Attributes of ``args`` that a function reads, and the functions that it hands them to."""
    if function.__name__ in seen:
        return set()
    seen.add(function.__name__)
    found = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ('args', 'parser().parse_args(arguments)'):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and 'args' in map(ast.unparse, node.args):
            path = ast.unparse(node.func)
            callee = getattr(cli, path[4:]) if path.startswith('cli.') else function.__globals__.get(path)
            found |= reads(callee, seen) if callee else set()
    return found


@pytest.mark.situation('Silently wrong', 'an argument without effect, e.g. `predict.py --launcher` or `deploy.py --dynamic`',
                       before='accepted', now='no tool declares an argument that it does not read')
@pytest.mark.parametrize('verb', VERBS)
def test_every_declared_argument_is_read(verb):
    module = import_module(f'repvgg_seg.commands.{verb.replace("-", "_")}')
    for names, defaults in commands(module.parser()):
        seen: set[str] = set()
        read = reads(module.main, seen)
        if 'measure' in defaults:
            read |= reads(defaults['measure'], seen)
        assert names - read == set()


@pytest.mark.parametrize('arguments', [
    ('predict', 'c.py', 'm.pth', 'images', '--out', 'x', '--launcher', 'none'),
    ('predict', 'c.py', 'm.pth', 'images', '--out', 'x', '--work-dir', 'y'),
    ('deploy', 'c.py', 'm.pth', '--out', 'x', '--work-dir', 'y'),
    ('deploy', 'c.py', 'm.pth', '--out', 'x', '--dynamic'),
    ('check_data', 'c.py', '--trust-checkpoint'),
    ('check_data', 'c.py', '--launcher', 'none'),
    ('benchmark', 'artefacts', 'c.py', 'm.pth', 'x', '--size', '8', '8', '--work-dir', 'y'),
    ('test', 'c.py', 'm.pth', '--resume'), ('train_ablations', '--resume'), ('demo', '--fast'), ('doctor', '--fast'),
], ids=' '.join)
def test_other_arguments_are_refused(run_tool, arguments):
    given = next(index for index in range(len(arguments) - 1, -1, -1) if arguments[index].startswith('--'))
    assert_error_line(run_tool(*arguments), f'error: unrecognized arguments: {" ".join(arguments[given:])}; see --help')


@pytest.mark.parametrize(('options', 'line'), [
    (['--logits'], FUSED_ONLY), (['--channels', 'BGR'], FUSED_ONLY),
    (['--calibration', 'images'], '--calibration is for int8 only; add --precision int8, or leave it out')])
def test_arguments_of_deploy_without_effect(run_tool, config, tmp_path, options, line):
    assert_error_line(run_tool('deploy', config, 'm.pth', '--out', tmp_path / 'out', *options), f'error: {line}')
    assert not list(tmp_path.iterdir())


@pytest.mark.situation('Silently wrong', 'an option without effect beside the others, e.g. `deploy.py --confidence` without '
                       '`--abstain`', before='accepted', now='one line that says what it is for')
@pytest.mark.parametrize(('arguments', 'line'), [
    (('deploy', 'c.py', 'm.pth', '--out', 'x', '--confidence', '0.9'),
     '--confidence is for --abstain; add --abstain RISK, or leave it out'),
    (('train', 'c.py', '--dry-run', '--no-report'),
     'a dry run leaves no report, which --no-report is for; leave one of them out'),
    (('train', 'c.py', '--out', 'x'), '--out is the file for the config of a dry run; add --dry-run'),
    (('init', 'photos', '--out', 'x.py', '--hours', '1', '--epochs', '3'),
     '--hours chooses the number of epochs, which --epochs gives; leave one of them out'),
    (('configs', '--out', 'x'), '--out is the folder for the copy of a config; give its name, or leave --out out'),
    (('prune', 'c.py', 'm.pth', '--keep', '0.5', '--runtime', 'openvino', '--out', 'x'),
     '--runtime is for --milliseconds; leave it out'),
    (('benchmark', 'all', '--out', 'x', '--plan', '--precision', 'fp32'),
     '--plan has suites, precisions and memory format of its own; leave --suites, --precision, --channels-last and --compile '
     'out'),
    (('benchmark', 'speed', 'RepVGG-A0', 'conv3x3', '--cfg-options', 'model.backbone.arch=A1'),
     '--cfg-options changes settings of configs, but RepVGG-A0, conv3x3 is none; leave it out')],
    ids=lambda value: ' '.join(value) if isinstance(value, tuple) else '')
def test_options_without_effect_beside_the_others(run_tool, config, tmp_path, monkeypatch, arguments, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'c.py').write_text(config.read_text())
    assert_error_line(run_tool(*arguments), f'error: {line}')
    assert [path.name for path in tmp_path.iterdir() if path.name != 'x'] == ['c.py']


@pytest.mark.situation('Tracebacks', '`demo.py --help`', before='the demo started', now='it is explained')
@pytest.mark.parametrize('verb', VERBS)
def test_help(run_tool, verb):
    tool = verb.replace('-', '_')
    result = run_tool(tool, '--help')
    assert result.code == 0 and result.out.startswith(f'usage: tools/{tool}.py ')
