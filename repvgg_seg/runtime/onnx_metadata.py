"""The description in an ONNX file, among the ``metadata_props`` of its model.

An ONNX file is a message of Protocol Buffers: a sequence of fields, each a number, a kind and a value. Fields may be appended,
so the bytes of the network, which were checked, stay as they are.
"""
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .description import KEY

METADATA = 14  # Number of the field in a ModelProto, whose entries have the fields NAME and VALUE.
NAME, VALUE = 1, 2
FIXED_SIZES = {1: 8, 5: 4}  # Kind of a field -> bytes.
VARINT, BYTES = 0, 2


def write(path: Path, description: str) -> None:
    """Append a description to a file."""
    entry = _field(NAME, KEY.encode()) + _field(VALUE, description.encode())
    with path.open('ab') as file:
        file.write(_field(METADATA, entry))


def read(path: Path) -> str | None:
    """Read the description of a file, the last one if there are several; None if there is none.

    Raises:
        ValueError: the file is not a message of Protocol Buffers, or is cut short.
    """
    found = None
    with path.open('rb') as file:
        for number, start, size in _fields(file, path.stat().st_size):
            if number == METADATA:
                file.seek(start)
                entry = file.read(size)
                parts = {name: entry[first:first + length] for name, first, length in _fields(io.BytesIO(entry), size)}
                if parts.get(NAME) == KEY.encode():
                    found = parts.get(VALUE, b'').decode()
    return found


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes."""
    size, remaining = bytearray(), len(content)
    while remaining > 127:
        size.append(remaining % 128 + 128)
        remaining //= 128
    return bytes([8 * number + BYTES, *size, remaining]) + content


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, position and size of each field of bytes of the message from the current position to ``end``."""
    while file.tell() < end:
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
        file.seek(start + size)


def _varint(file: BinaryIO) -> int:
    """Read an integer: seven bits a byte, the lowest first, until a byte whose highest bit is 0."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError('it is cut short')
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError('it is not a message of Protocol Buffers')
