"""Every command line of README, docs and the headers of configs is parsed by the parser of its own tool."""
import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from parsers import nested

ROOT = Path(__file__).parents[1]
TOOLS = sorted(path.stem for path in (ROOT / 'tools').glob('*.py'))
TOOL = re.compile(r'(?:\btools/([a-z_]+)\.(?:py|sh)|(?:\brepvgg-seg|-m repvgg_seg) ([a-z-]+))(?= |$)')
COMMENT = re.compile(r' +#( .*)?$')
# Of the shell: the output of another command, and variables. Of a usage: brackets around what may be left out, and dots.
PLACEHOLDERS = [(r'\$\(.*?\)', 'FILE'), (r'\$\w+', 'VARIABLE'), (r'[\[\]]| \.\.\.', '')]


class Command(NamedTuple):
    """A command line.

    Args:
        place: file and line.
        tool: name of the tool, with underscores.
        arguments: what follows the tool, as the shell divides it.
        complete: whether it is a line to be typed, and no mention within a sentence.
    """
    place: str
    tool: str
    arguments: tuple[str, ...]
    complete: bool


def commands_in(path: Path) -> Iterator[Command]:
    """Lines of code in a document, joined where they go on, and code within its sentences; the header of a config."""
    for number, line, is_code in lines_of(path):
        place = f'{path.relative_to(ROOT)}:{number}'
        if is_code:
            yield from commands_of(line, place, complete=True)
        else:
            for code in re.findall(r'`([^`]+)`', line):
                yield from commands_of(code, place, complete=False)


def lines_of(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Number, text, and whether it is code: of whole commands, and of whole paragraphs."""
    if path.suffix == '.py':
        headers = enumerate(path.read_text(encoding='utf-8').splitlines(), 1)
        yield from ((number, line[2:], True) for number, line in headers if re.match('# (python|torchrun|repvgg-seg) ', line))
        return
    fenced, parts, start = False, [], 1
    for number, line in enumerate([*path.read_text(encoding='utf-8').splitlines(), ''], 1):
        is_fence = line.startswith('```')
        is_code = fenced or line.startswith('    ')
        if not is_fence:
            parts.append(line.removesuffix('\\').strip())
        if line.endswith('\\') or line and not (is_fence or is_code or line.startswith('|')):
            continue
        yield start, ' '.join(parts), is_code and not is_fence
        parts, start, fenced = [], number + 1, fenced != is_fence


def commands_of(code: str, place: str, complete: bool) -> Iterator[Command]:
    """The command of a line of code, if it has one."""
    code = COMMENT.sub('', code)
    for pattern, replacement in PLACEHOLDERS:
        code = re.sub(pattern, replacement, code)
    match = TOOL.search(code)
    if match:
        name = (match[1] or match[2]).replace('-', '_').replace('slurm_train', 'train')
        rest = re.split(r' (?:\||&&|>) ', code[match.end():])[0]
        yield Command(place, name, tuple(shlex.split(rest)), complete)


def documents() -> list[Path]:
    return [*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md'), *(ROOT / 'configs').rglob('*.py')]


COMMANDS = sorted({command[1:]: command for path in documents() for command in commands_in(path)}.values())


def parse(command: Command) -> None:
    """Parse the arguments by the parser of the command; of one that is only mentioned, nothing is required."""
    parser = import_module(f'repvgg_seg.commands.{command.tool}').parser()
    if not command.complete:
        for action in (action for each in nested(parser) for action in each._actions):
            action.required = False
    parser.parse_args(command.arguments)


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command.place)
def test_arguments_are_known(command, capsys):
    assert command.tool in TOOLS
    try:
        parse(command)
    except SystemExit:
        pytest.fail(capsys.readouterr().err)


@pytest.mark.parametrize('tool', TOOLS)
def test_help_tells_the_defaults(tool):
    """Wherever it tells numbers or choices; parsers that share an option share what set_defaults makes of it."""
    parser = import_module(f'repvgg_seg.commands.{tool}').parser()
    for action in (action for each in nested(parser) for action in each._actions):
        told = re.sub(r'.*\bdefault: (.*?)\)?$', r'\1', action.help or '').split()
        given = action.default if isinstance(action.default, (list, tuple)) else [action.default]
        if told and all(word.isdecimal() or word in (action.choices or ()) for word in told):
            assert told == list(map(str, given)), action.option_strings


def config_names(argument: str) -> Iterator[str]:
    """The shipped configs that an argument names, by path or by name, braces of the shell expanded."""
    if match := re.search(r'\{([\w,]+)\}', argument):
        for choice in match[1].split(','):
            yield from config_names(argument[:match.start()] + choice + argument[match.end():])
    elif match := re.fullmatch(r'(?:[\w:]+:)?(?:configs/)([\w/]+)\.py|((?:pspnet|repvgg|upernet|deeplabv3plus)_\w+)', argument):
        yield match[1] or match[2]


@pytest.mark.parametrize('command', COMMANDS, ids=lambda command: command.place)
def test_configs_exist(command):
    names = [name for argument in command.arguments for name in config_names(argument)]
    assert not [name for name in names if name.isupper() or not (ROOT / 'configs' / f'{name}.py').is_file()]


@pytest.mark.parametrize(('line', 'complete'), [
    ('python tools/train.py a.py --no-such-option', True), ('repvgg-seg train a.py --no-such-option', True),
    ('python tools/deploy.py a.py b.pth', True), ('tools/test.py --no-such-option', False),
    ('python tools/deploy.py a.py b.pth --out c --precision int9', True),
    ('python tools/deploy.py a.py b.pth --out c --size 713', True)])
def test_wrong_commands_fail(line, complete, capsys):
    command, = commands_of(line, 'here', complete)
    with pytest.raises(pytest.fail.Exception):
        test_arguments_are_known(command, capsys)


def test_commands_are_found():
    """Fewer than these, and a document is not read any more."""
    assert {command.tool for command in COMMANDS} >= set(TOOLS)
    assert {command.place.partition(':')[0] for command in COMMANDS} >= {'README.md', 'docs/measurements.md', 'docs/scaling.md'}
    assert len(COMMANDS) > 90


def test_code_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'ROOT', tmp_path)
    (tmp_path / 'a.md').write_text(
        'text\n\n    python tools/test.py a.py \\\n        $(cat last) --tta  # why\n\nA `tools/train.py\n[a.py]` and `b`.\n'
        '```bash\nrepvgg-seg check-data b\n```\n')
    assert list(commands_in(tmp_path / 'a.md')) == [
        Command('a.md:3', 'test', ('a.py', 'FILE', '--tta'), True), Command('a.md:6', 'train', ('a.py', ), False),
        Command('a.md:9', 'check_data', ('b', ), True)]
