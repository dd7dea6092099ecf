"""The runtimes of exported files, and loading a file into the one that its name tells."""
import importlib
import zipfile
from pathlib import Path

import numpy as np

from ..core.errors import InstallationError, UserError
from . import aotinductor, coreml, executorch, litert, ncnn, onnxruntime, opencv, openvino, torch
from .backend import ON_CPU, Backend, DeviceError, Run, Setting
from .description import sidecar_of, write_sidecar

# Exceptions that the backends raise for damaged files.
UNREADABLE = (RuntimeError, ValueError, OSError, EOFError, KeyError, AttributeError, TypeError, IndexError, zipfile.BadZipFile)

# Suffix of a file's name -> its runtime, in order of preference.
BACKENDS = {'.xml': openvino.BACKEND, '.onnx': onnxruntime.BACKEND, '.pt2': torch.BACKEND, '.param': ncnn.BACKEND,
            '.opencv.onnx': opencv.BACKEND, '.tflite': litert.BACKEND, '.pte': executorch.BACKEND,
            '.aoti.pt2': aotinductor.BACKEND, coreml.SUFFIX: coreml.BACKEND}


def backend_of(path: Path) -> Backend:
    """The runtime of a file. If its name ends in several keys of ``BACKENDS``, the longest one counts."""
    return BACKENDS[max((suffix for suffix in BACKENDS if path.name.endswith(suffix)), key=len)]


def parts_of(path: Path) -> list[Path]:
    """All files that a file consists of: itself and, if it is an exported file with its weights in a second file, that one; or
    those in it, if it is a folder."""
    if path.is_dir():
        return sorted(part for part in path.rglob('*') if part.is_file())
    with_weights = tuple(suffix for suffix, backend in BACKENDS.items() if backend.weights_beside)
    return [path, path.with_suffix('.bin')] if path.name.endswith(with_weights) else [path]


def holds_files(path: Path) -> bool:
    """Whether a path is a folder of files, and not a package, which is a folder as well."""
    return path.is_dir() and not path.name.endswith(coreml.SUFFIX)


def companions_of(path: Path) -> list[Path]:
    """The parts of a file and, if its format has no place for a description, the file that describes it."""
    return [*parts_of(path), *([sidecar_of(path)] if backend_of(path).describe is write_sidecar else [])]


def load_file(path: Path, precision: str, setting: Setting = ON_CPU) -> Run:
    """Load one exported file into its backend.

    Args:
        path: file to load, whose name ends in a key of ``BACKENDS``.
        precision: precision of the export.
        setting: how to load it.

    Returns:
        A function that maps images, uint8 or uint16 (N, H, W, channels), to the exported output, see :class:`Predictor`.

    Raises:
        UserError: the backend cannot read the file.
        DeviceError: the backend does not run it on the device, or not on this system.
        InstallationError: the backend is not installed.
    """
    backend = backend_of(path)
    if not backend.runs_here:
        raise DeviceError(f'{path} runs in {backend.title}, which is not for this system; load a file of another format')
    try:
        module = importlib.import_module(backend.module)
    except ModuleNotFoundError:
        raise InstallationError(f'{path.name} needs {backend.module}, which is not installed; run: pip install '
                                f'{backend.package}') from None
    try:
        run = backend.load(module, path, precision, setting)
    except DeviceError:
        raise
    except UNREADABLE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{path} cannot be loaded by {backend.module} ({reason}); copy or export it again') from None
    # Some backends take any array for one in C order, and do not check.
    return lambda images: run(np.ascontiguousarray(images))
