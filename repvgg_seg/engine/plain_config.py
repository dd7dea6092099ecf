"""Reading the config of a fused model as data. As a Python file, which MMEngine would run, it could do anything."""
import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.command_names import command
from ..core.errors import CheckpointError, some
from ..models.archs import ARCHS

# Packages whose classes a config can name in full, also where another form of it has their names alone.
PACKAGES = ('mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'repvgg_seg', 'torch')
# Words that may be there beside those of the config: what a RepVGG can have, and a type that MMPretrain adds.
HARMLESS = {*ARCHS, 'full', 'fast', '1x1', 'BN', 'SyncBN', 'ClsDataPreprocessor'}


def read_plain_config(path: Path) -> dict[str, Any]:
    """Read a config that ``mmengine.Config.dump`` wrote: names with plain values, no code.

    Raises:
        CheckpointError: it cannot be read, or something in it is no plain value.
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
    """Check that the config of a fused model names no class, file or URL that the config it is used with does not name.

    Other sizes, and other architectures of RepVGG, are allowed; MMEngine builds whatever else is named, from any package.

    Args:
        model: of the folder.
        wanted: the model of the config, fused.
        source: the folder.

    Raises:
        CheckpointError: it does.
    """
    allowed = HARMLESS | {*_words(wanted)}
    if foreign := [repr(word) for word in dict.fromkeys(_words(model)) if word not in allowed]:
        raise CheckpointError(f'the model in {source} has what that of the config has not: {some(foreign)}; give the config '
                              'that it was trained with, and the same --cfg-options. If you know who made it, add '
                              '--trust-checkpoint')


class _Code(Exception):
    """Something that is no plain value; its line."""


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
    """The texts in a config, but for the names of settings; of classes in ``PACKAGES`` the name alone."""
    if isinstance(part, Mapping):
        for value in part.values():
            yield from _words(value)
    elif isinstance(part, (list, tuple, set)):
        for value in part:
            yield from _words(value)
    elif isinstance(part, (str, type)):
        word = part if isinstance(part, str) else f'{part.__module__}.{part.__qualname__}'
        yield word.rpartition('.')[2] if word.partition('.')[0] in PACKAGES else word
