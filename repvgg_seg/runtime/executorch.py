"""ExecuTorch files (.pte)."""
import importlib
import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from .backend import Backend, Run, Setting


def load(executorch: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a file for images of one size, one at a time; see :class:`repvgg_seg.runtime.backend.Backend`."""
    torch = importlib.import_module('torch')
    if setting.threads:
        importlib.import_module('executorch.extension.pybindings.portable_lib')._unsafe_reset_threadpool(setting.threads)
    method = importlib.import_module('executorch.runtime').Runtime.get().load_program(path).load_method('forward')
    lock = threading.Lock()  # A method holds the tensors of one inference.

    def segment(image: np.ndarray) -> np.ndarray:
        with lock:
            return method.execute([torch.from_numpy(image[None])])[0].numpy().copy()[0]

    return lambda images: np.stack([segment(image) for image in images])


BACKEND = Backend('ExecuTorch', 'executorch', 'executorch', load, needs_torch=True)
