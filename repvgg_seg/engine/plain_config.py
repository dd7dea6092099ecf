"""Read the config of a fused model as data. If MMEngine ran it as a Python file, it could execute any code."""
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.command_names import command
from ..core.errors import CheckpointError, some
from ..models.archs import ARCHS

# Packages whose classes a config can name with the full path, while another form of the same config has only their names.
PACKAGES = ('mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'repvgg_seg', 'torch')
# Words that are allowed in addition to those of the config: settings of RepVGG, and a type that MMPretrain adds.
HARMLESS = {*ARCHS, 'full', 'fast', '1x1', 'BN', 'SyncBN', 'ClsDataPreprocessor'}


def read_plain_config(path: Path) -> dict[str, Any]:
    """Read a config that ``mmengine.Config.dump`` wrote, with names and plain values but no code.

    Raises:
        CheckpointError: the config cannot be read, or contains something other than plain values.
    """
    try:
        tree = ast.parse(path.read_text('utf-8'))
        return dict(map(_assignment, tree.body))
    except (SyntaxError, UnicodeDecodeError, RecursionError, MemoryError, OSError) as error:
        raise CheckpointError(f'{path} cannot be read: {error}; write the folder again with {command("deploy")}') from None
    except _Code as code:
        raise CheckpointError(f'{path} is refused: line {code} is code, where {command("deploy")} writes plain values; write '
                              'the folder again') from None


def check_words(model: Mapping, wanted: Mapping, source: Path) -> None:
    """Check that the config of a fused model names no classes, files or URLs other than those in the user's config.

    Different sizes and RepVGG archs are allowed. The check is needed because MMEngine builds any class that is named, from any
    package.

    Args:
        model: model config in the folder.
        wanted: model config of the user.
        source: path of the folder.

    Raises:
        CheckpointError: the config names something else.
    """
    allowed = HARMLESS | {*_words(wanted)}
    if foreign := [repr(word) for word in dict.fromkeys(_words(model)) if word not in allowed]:
        raise CheckpointError(f'the model in {source} has what that of the config has not: {some(foreign)}; give the config '
                              'that it was trained with, and the same --cfg-options. If you know who made it, add '
                              '--trust-checkpoint')


class _Code(Exception):
    """Something other than a plain value was found; the argument is its line."""


def _assignment(statement: ast.stmt) -> tuple[str, Any]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, _value(value)
    raise _Code(statement.lineno)


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_value(element) for element in elements)
        case ast.Set(elts=elements):
            return {_value(element) for element in elements}
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_value(key): _value(value) for key, value in zip(keys, values) if key}
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords) if all(keyword.arg for keyword in keywords):
            return {keyword.arg: _value(keyword.value) for keyword in keywords}
        case ast.Call(func=ast.Name(id='set'), args=[], keywords=[]):
            return set()
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Name(id='inf' | 'nan' as word):
            return float(word)
    raise _Code(node.lineno)


def _words(part: Any) -> Iterator[str]:
    """Yield the strings in a config except names of settings; classes in ``PACKAGES`` without their path."""
    if isinstance(part, Mapping):
        for value in part.values():
            yield from _words(value)
    elif isinstance(part, (list, tuple, set)):
        for value in part:
            yield from _words(value)
    elif isinstance(part, (str, type)):
        word = part if isinstance(part, str) else f'{part.__module__}.{part.__qualname__}'
        yield word.rpartition('.')[2] if word.partition('.')[0] in PACKAGES else word
