"""The description in a file of Protocol Buffers: an ONNX file, or the specification of a Core ML package.

Such a file is a message: a sequence of fields, each a number, a kind and a value, which can be a message again. Fields may be
appended, and messages with the same number are merged, so the bytes of the network, which were checked, stay as they are.
"""
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .description import KEY

NAME, VALUE = 1, 2  # Numbers of the fields of an entry.
FIXED_SIZES = {1: 8, 5: 4}  # Kind of a field -> bytes.
VARINT, BYTES = 0, 2


class Metadata(NamedTuple):
    """The place of metadata in a kind of file.

    Args:
        way: numbers of the fields that lead from the message of the whole file to the entries.
    """
    way: tuple[int, ...]

    def write(self, path: Path, description: str) -> None:
        """Append a description to a file."""
        message = _field(NAME, KEY.encode()) + _field(VALUE, description.encode())
        for number in reversed(self.way):
            message = _field(number, message)
        with path.open('ab') as file:
            file.write(message)

    def read(self, path: Path) -> str | None:
        """Read the description of a file, the last one if there are several; None if there is none.

        Raises:
            ValueError: the file is not a message of Protocol Buffers, or is cut short.
        """
        found = None
        with path.open('rb') as file:
            for start, end in _messages(file, path.stat().st_size, self.way):
                parts = {number: _content(file, first, size) for number, first, size in _fields(file, start, end)}
                if parts.get(NAME) == KEY.encode():
                    found = parts.get(VALUE, b'').decode()
        return found


ONNX = Metadata((14, ))  # ModelProto.metadata_props
CORE_ML = Metadata((2, 100, 100))  # Model.description.metadata.userDefined


def _messages(file: BinaryIO, end: int, way: Sequence[int], start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each message that a way leads to, from the message between ``start`` and ``end``."""
    for number, first, size in _fields(file, start, end):
        if number == way[0]:
            yield from _messages(file, first + size, way[1:], first) if way[1:] else [(first, first + size)]


def _content(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes."""
    return _as_varint(8 * number + BYTES) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    """Encode an integer: seven bits a byte, the lowest first; all bytes but the last have their highest bit set."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value % 128 + 128)
        value //= 128
    return bytes([*encoded, value])


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, position and size of each field of bytes of the message between ``start`` and ``end``."""
    while start < end:
        file.seek(start)
        number, kind = divmod(_varint(file), 8)
        if kind == VARINT:
            _varint(file)
        elif kind != BYTES and kind not in FIXED_SIZES:
            raise ValueError('it is not a message of Protocol Buffers')
        size = _varint(file) if kind == BYTES else FIXED_SIZES.get(kind, 0)
        start = file.tell()
        if start + size > end:
            raise ValueError('it is cut short')
        if kind == BYTES:
            yield number, start, size
        start += size


def _varint(file: BinaryIO) -> int:
    """Read an integer that :func:`_as_varint` encoded."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError('it is cut short')
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError('it is not a message of Protocol Buffers')
