"""Identifying a file given as a checkpoint by its first bytes: a real checkpoint, or a file that was given by mistake."""
import codecs
import re
import zipfile
from enum import Enum
from pathlib import Path

from .errors import CheckpointError, some

HEAD = 512  # Number of bytes to inspect.
MAX_EXPANSION = 10  # Maximum expansion of an archive: PyTorch stores without compression, and weights are hardly compressible.
EXPECTED = 'expected a checkpoint that torch.save or safetensors wrote'
SAVE_WEIGHTS = 'save the weights of the model that it was made from, torch.save(model.state_dict(), FILE)'
UNPACK = 'unpack it and give the checkpoint in it'
TORCH_MAGIC = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # Files of torch.save before 1.6 start with this number, after the protocol.
# First bytes -> description of the file, and what to do.
MAGIC = {
    b'version https://git-lfs': ('a Git LFS pointer instead of the file itself', 'run "git lfs pull" in its repository'),
    b'\x1f\x8b': ('compressed by gzip', UNPACK), b'BZh': ('compressed by bzip2', UNPACK),
    b'\xfd7zXZ\0': ('compressed by xz', UNPACK), b'\x28\xb5\x2f\xfd': ('compressed by zstd', UNPACK),
    b'7z\xbc\xaf\x27\x1c': ('a 7z archive', UNPACK), b'Rar!': ('a RAR archive', UNPACK),
    b'\x93NUMPY': ('a NumPy array', EXPECTED), b'\x89HDF\r\n\x1a\n': ('an HDF5 file, as Keras writes them', EXPECTED),
    b'\x89PNG\r\n\x1a\n': ('a PNG image', EXPECTED), b'\xff\xd8\xff': ('a JPEG image', EXPECTED), b'%PDF': ('a PDF', EXPECTED),
}
WEB_PAGE = re.compile(rb'\s*(<!doctype html|<html|<head|<body|<script)', re.IGNORECASE)
# Beginnings of serialized graphs, whose formats have no magic number: for ONNX the version, then the name of the program that
# wrote the file; for TensorFlow a node.
ONNX = re.compile(rb'\x08[\x01-\x20](\x12[\x01-\x40][\w .+-]+|:[\x80-\xff])', re.DOTALL)
TENSORFLOW = re.compile(rb'\n.{1,3}\n.[\w/.]+\x12.[A-Z]\w+|\x08\x01\x12.{1,4}[\n\x12]', re.DOTALL)
CHECKPOINT_SUFFIXES = ('.pth', '.pt', '.ckpt', '.bin', '.safetensors', '.tar', '.pkl')


class FileKind(Enum):
    """Checkpoint formats that can be read."""
    ARCHIVE = 'torch.save'
    LEGACY = 'torch.save before PyTorch 1.6'
    SAFETENSORS = 'safetensors'


def file_kind(path: Path, source: str) -> FileKind:
    """Identify the format of a checkpoint without unpacking or running anything in it.

    Args:
        path: path of the file.
        source: what the user entered, for messages.

    Raises:
        CheckpointError: the file is not a checkpoint, is a damaged archive, or would unpack to far more than its size.
        OSError: the file cannot be opened.
    """
    size = path.stat().st_size
    with path.open('rb') as file:
        head = file.read(HEAD)
    if head.startswith(b'PK'):
        return _kind_of_zip(path, source, size)
    if TORCH_MAGIC in head[:32]:
        return FileKind.LEGACY
    if head[8:9] == b'{' and 2 <= int.from_bytes(head[:8], 'little') <= size:
        return FileKind.SAFETENSORS
    what, remedy = _describe(head, size)
    raise CheckpointError(f'checkpoint {source} is {what}; {remedy}')


def _describe(head: bytes, size: int) -> tuple[str, str]:
    for magic, description in MAGIC.items():
        if head.startswith(magic):
            return description
    text = head.removeprefix(codecs.BOM_UTF8)
    if not head.strip(b'\0'):
        return 'empty' if not size else 'full of zeros, as a broken download leaves it', 'get it again'
    if WEB_PAGE.match(text):
        return 'a web page (HTML), as a link that first asks for a login or a click gives it', 'download the file itself'
    if head[257:262] == b'ustar':
        return 'a tar archive', UNPACK
    if head[4:8] == b'TFL3':
        return 'a TensorFlow Lite model', EXPECTED
    if ONNX.match(head):
        return 'an ONNX model', EXPECTED
    if TENSORFLOW.match(head):
        return 'a TensorFlow graph', EXPECTED
    if head[:1] == b'\x80' and 2 <= head[1] <= 5 and len(head) > 2:
        return 'a plain pickle, not a file of torch.save', EXPECTED
    try:
        beginning = codecs.getincrementaldecoder('utf-8')().decode(text).strip()
    except UnicodeDecodeError:
        beginning = ''
    if beginning and all(letter.isprintable() or letter.isspace() for letter in beginning):
        return f'a text file that begins with {beginning.splitlines()[0][:40]!r}', EXPECTED
    return f'in no known format, it begins with the bytes {head[:8].hex(" ")}', EXPECTED


def _kind_of_zip(path: Path, source: str, size: int) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise CheckpointError(f'checkpoint {source} is damaged (cut short?): {str(error) or type(error).__name__}; get it '
                              'again') from None
    if (unpacked := sum(entry.file_size for entry in entries)) > MAX_EXPANSION * size:
        raise CheckpointError(f'checkpoint {source} is refused: it is an archive of {size:,} bytes that unpacks to '
                              f'{unpacked:,}; checkpoints are hardly compressed')
    names = [entry.filename for entry in entries]
    inside = {name.partition('/')[2] for name in names}
    if 'archive_format' in inside or 'serialized_exported_program.json' in names:
        what, remedy = 'a program of torch.export', EXPECTED
    elif 'constants.pkl' in inside:
        what, remedy = 'a TorchScript program', SAVE_WEIGHTS
    elif 'data.pkl' in inside:
        return FileKind.ARCHIVE
    elif names and all(name.endswith('.npy') for name in names):
        what, remedy = 'an archive of NumPy arrays (.npz)', EXPECTED
    elif packed := [name for name in names if name.endswith(CHECKPOINT_SUFFIXES)]:
        what, remedy = f'a zip archive with {some(packed)} in it', UNPACK
    else:
        what, remedy = f'a zip archive of other files ({some(names) or "none"})', EXPECTED
    raise CheckpointError(f'checkpoint {source} is {what}; {remedy}')
