"""Reading checkpoints without running any code in them."""
import hashlib
import json
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from pickle import UnpicklingError

import torch

from .errors import CheckpointError, some
from .file_kinds import FileKind, file_kind
from .hub import DEPLOYED, WEIGHTS, download, is_hub
from .logs import print_log
from .pickles import PLAIN, references, takes_any_memory, why_refused
from .stand_ins import stand_ins, unchanged_statistics

# Exceptions that the unpickler and the archive reader raise for damaged files.
DAMAGED = (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, ImportError, AssertionError,
           ArithmeticError, MemoryError, struct.error, zipfile.BadZipFile,
           zlib.error, UnpicklingError)

METADATA = 'repvgg_seg'  # Key in the header of a safetensors file for the meta of a checkpoint, as JSON.

_trusted = ContextVar('trusted', default=False)


def trust_checkpoints(trusted: bool) -> None:
    """Set whether :func:`read_checkpoint` also reads files that could run code, with a warning; by default it does not.

    The setting applies to the current context (see :mod:`contextvars`): to the command for which it was set, but not to the
    next command, nor to threads that were not started for it.
    """
    _trusted.set(trusted)


def trusted() -> bool:
    """Whether :func:`trust_checkpoints` allowed such files."""
    return _trusted.get()


def is_url(source: object) -> bool:
    """Whether a checkpoint has an address of http or https."""
    return bool(re.match(r'https?://', str(source), re.IGNORECASE))


def without_secrets(url: str) -> str:
    """An address as it may be shown and written: without name, password and query, which can hold a key."""
    return re.sub(r'^([a-z][a-z0-9+.-]*://)(?:[^/?#]*@)?([^?#]*).*', r'\1\2', url, flags=re.IGNORECASE | re.DOTALL)


def is_remote(source: object) -> bool:
    """Whether a checkpoint has to be downloaded."""
    return is_url(source) or is_hub(source)


def read_checkpoint(source: str | Path) -> Mapping:
    """Read a checkpoint from a file or URL onto the CPU, with ``weights_only=True``.

    Args:
        source: path; http(s) URL, which is downloaded once and stored in torch's hub cache; or name on the Hugging Face hub,
            see :func:`repvgg_seg.core.hub.download`.

    Returns:
        The content of the file, a dict; for a safetensors file, its tensors, or for one that was deployed, its ``state_dict``
        and ``meta``.

    Raises:
        CheckpointError: there is no such file or no network, the file is damaged or not a checkpoint, an archive would unpack
            to far more than its size, or a pickle contains code (see :func:`trust_checkpoints`).
    """
    source = str(source)
    path = local_file(source)
    try:
        kind = file_kind(path, source)
    except OSError as error:
        raise CheckpointError(f'checkpoint {source} cannot be read: {error.strerror}') from None
    checkpoint = _read_safetensors(path, source) if kind is FileKind.SAFETENSORS else _read_pickled(path, source, kind)
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(f'checkpoint {source} holds a {type(checkpoint).__name__}, expected a dict')
    return checkpoint


def outline(path: Path) -> Mapping:
    """Read the content of a checkpoint without reading its tensors from disk; empty if it cannot be read."""
    if not path.is_file():  # Reading a pipe would block.
        return {}
    try:
        kind = file_kind(path, str(path))
        if kind is FileKind.SAFETENSORS or takes_any_memory(path, kind):
            return {}
        with torch.serialization.safe_globals([*stand_ins()]), unchanged_statistics():
            content = torch.load(path, map_location='cpu', weights_only=not trusted(), mmap=kind is FileKind.ARCHIVE)
    except (CheckpointError, *DAMAGED):
        return {}
    return content if isinstance(content, Mapping) else {}


def local_file(source: str) -> Path:
    """Find the file of a checkpoint; what is elsewhere is downloaded once. Of a deployed folder on the hub, the fused weights.

    Raises:
        CheckpointError: there is no such file, or it cannot be downloaded.
    """
    if is_url(source):
        return _download(source)
    if is_hub(source):
        return _weights_in(download(source), source)
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            raise CheckpointError(f'checkpoint {source} is a folder; expected a .pth file, such as one in it')
        if path.is_file():
            return path
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # The name is too long, or ~user names an unknown user.
        raise CheckpointError(f'checkpoint {source} cannot be read: {getattr(error, "strerror", error)}') from None
    if exists:
        raise CheckpointError(f'checkpoint {source} is a pipe, socket or device; expected a .pth file')
    if '://' in source:
        raise CheckpointError(f'checkpoint {source} cannot be downloaded; expected a file or a URL of http or https')
    raise CheckpointError(f'checkpoint {source} does not exist')


def _weights_in(path: Path, source: str) -> Path:
    found = [each for each in path.iterdir() if each.suffix in WEIGHTS] if path.is_dir() else [path]
    if not found:
        raise CheckpointError(f'checkpoint {source} holds exported files only, see its {DEPLOYED}; expected weights, which '
                              'are written by --formats pth or safetensors')
    return min(found)


def _read_safetensors(path: Path, source: str) -> Mapping:
    try:
        from safetensors import SafetensorError, safe_open
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise CheckpointError(f'checkpoint {source} is in the format safetensors, which needs a package that is not installed; '
                              'run: pip install safetensors') from None
    try:
        with safe_open(path, 'pt') as file:
            meta = (file.metadata() or {}).get(METADATA)
        return load_file(path) if meta is None else dict(meta=json.loads(meta), state_dict=load_file(path))
    except (SafetensorError, *DAMAGED) as error:
        raise CheckpointError(_damaged(source, error)) from None


def _read_pickled(path: Path, source: str, kind: FileKind) -> object:
    known = {name for _, name in stand_ins()}
    try:
        if not takes_any_memory(path, kind):
            with torch.serialization.safe_globals([*stand_ins()]), unchanged_statistics():
                return torch.load(path, map_location='cpu', weights_only=True)
        found = references(path, kind)
    except UnpicklingError as error:  # It holds something other than tensors and plain values, or is damaged.
        if 'getattr(' in str(error):
            known.remove('builtins.getattr')
        try:
            found = references(path, kind)
        except DAMAGED as damage:
            raise CheckpointError(_damaged(source, damage)) from None
    except DAMAGED as error:
        raise CheckpointError(_damaged(source, error)) from None
    names = [name for name in found.names if name not in known and not PLAIN.fullmatch(name)]
    reason = why_refused(found, names)
    if not (reason and trusted()):
        raise CheckpointError(f'checkpoint {source} {reason}' if reason else _damaged(source, ValueError('broken pickle')))
    print_log(f'{source} is trusted: it holds more than tensors and plain values ({some(names) or "a newer pickle"}) and may '
              'run any code now', logger='current', level=logging.WARNING)
    try:
        return torch.load(path, map_location='cpu', weights_only=False)
    except DAMAGED as error:
        raise CheckpointError(f'checkpoint {source} cannot be read, though it is trusted: {_first_line(error)}') from None


def _damaged(source: str, error: Exception) -> str:
    return f'checkpoint {source} is damaged (cut short?): {_first_line(error)}; get it again'


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _download(url: str) -> Path:
    """Download a file to torch's hub cache, once; a file that is not a checkpoint is removed."""
    from mmengine.dist import barrier, is_main_process
    # Published file names end with the first digits of their SHA-256. For other files, the URL distinguishes equal names.
    name = url.partition('?')[0].rsplit('/', 1)[-1]
    sha256 = re.search(r'-([0-9a-f]{8,})\.pth$', name)
    if not sha256:
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    error = None
    if is_main_process() and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), sha256 and sha256[1], progress=False)
            file_kind(path, url)
        except CheckpointError as failure:
            path.unlink()
            error = failure
        except (OSError, RuntimeError) as failure:  # No network (URLError is an OSError), or a wrong hash.
            error = CheckpointError(f'{url} cannot be downloaded ({failure})')
    barrier()
    if not path.is_file():
        raise error or CheckpointError(f'{url} cannot be downloaded')
    return path
