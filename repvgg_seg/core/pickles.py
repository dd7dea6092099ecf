"""Determining what the pickle in a checkpoint refers to, from its opcodes: nothing in it is built or run."""
import mmap
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from .errors import some
from .file_kinds import SAVE_WEIGHTS, FileKind

PROTOCOL = 2  # Protocol of torch.save; PyTorch reads newer ones only if code execution is allowed.
# References in a pickle of tensors and plain values, all of which PyTorch allows.
PLAIN = re.compile(
    r'torch\.((\w+\.)?\w*Storage|(cuda\.|sparse\.)?\w*Tensor|Size|device|u?int\d+|b?float\w*|bool|complex\w*|qu?int\w*|'
    r'_utils\._rebuild_\w+|_tensor\._rebuild_\w+|serialization\._get_layout|nn\.parameter\.Parameter)|'
    r'collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex)')
BYTEARRAY = re.compile(rb'c(__builtin__|builtins)\nbytearray\n')


class References(NamedTuple):
    """The references of a pickle.

    Args:
        names: functions and classes, in order of appearance.
        outermost: class of the pickled object; empty if it is a dict or a list.
        protocol: pickle protocol.
    """
    names: list[str]
    outermost: str
    protocol: int


def references(path: Path, kind: FileKind) -> References:
    """Collect the references of the pickle in a file of ``torch.save``.

    Raises:
        ValueError: the pickle is damaged.
    """
    names: dict[str, None] = {}
    outermost, begun, protocol = '', False, 0
    # The last pushed value, if it is a string; the last two strings; the values pushed before.
    text: str | None = None
    texts, memo = ['', ''], dict[int | None, str | None]()
    with _pickle_of(path, kind) as file:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == 'PROTO':
                protocol = int(argument or 0)
            elif opcode.name in ('MEMOIZE', 'PUT', 'BINPUT', 'LONG_BINPUT'):
                memo[len(memo) if argument is None else argument] = text
            elif 'UNICODE' in opcode.name or opcode.name in ('GET', 'BINGET', 'LONG_BINGET'):
                text = argument if isinstance(argument, str) else memo.get(argument)
                texts = [texts[1], text] if text is not None else texts
            elif opcode.name != 'FRAME':
                if opcode.name in ('GLOBAL', 'INST', 'STACK_GLOBAL'):
                    module, name = argument.split(' ', 1) if argument else texts
                    name = f'{module.replace("__builtin__", "builtins")}.{name}'
                    names[name] = None
                    if not begun and not name.startswith('collections.'):
                        outermost = name
                text, begun = None, True
    return References(list(names), outermost, protocol)


def why_refused(found: References, names: list[str]) -> str:
    """Explain to users why PyTorch refuses a pickle, and what to do; empty if no known reason applies.

    Args:
        found: references of the pickle.
        names: those references that are not allowed.
    """
    trust = 'save its state_dict alone. If you know who made it, add --trust-checkpoint'
    if modules := [name for name in names if name.startswith('torch.nn.modules.')]:
        return f'holds pickled modules ({found.outermost or some(modules)}), not only weights; {SAVE_WEIGHTS}'
    if found.outermost in names:
        return f'is one pickled object ({found.outermost}), not a dict with weights; if it is a model, {SAVE_WEIGHTS}'
    if names:
        return f'is refused: it holds more than tensors and plain values ({some(names)}), which could run code; {trust}'
    if found.protocol > PROTOCOL:
        return (f'is refused: it was saved with pickle_protocol={found.protocol}, which PyTorch reads only where code may run; '
                f'{trust}')
    return ''


def takes_any_memory(path: Path, kind: FileKind) -> bool:
    """Whether the pickle makes a ``bytearray``, which PyTorch allows with any size that is written in the pickle."""
    if kind is FileKind.LEGACY:
        with path.open('rb') as legacy, mmap.mmap(legacy.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return bool(BYTEARRAY.search(content))
    with _pickle_of(path, kind) as file:
        return bool(BYTEARRAY.search(file.read()))


@contextmanager
def _pickle_of(path: Path, kind: FileKind) -> Iterator[IO[bytes]]:
    """Open a file at the start of its main pickle."""
    if kind is FileKind.ARCHIVE:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.partition('/')[2] == 'data.pkl')
            with archive.open(name) as file:
                yield file
        return
    with path.open('rb') as legacy:
        for _ in range(3):  # A magic number, the format version, and the system that wrote it.
            list(pickletools.genops(legacy))
        yield legacy
