"""ONNX files, in OpenCV's own inference engine (``cv2.dnn``)."""
import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from ..core.errors import InstallationError
from . import onnx_metadata
from .backend import Backend, Run, Setting


def load(cv2: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a file for images of one size, one at a time; see :class:`repvgg_seg.runtime.backend.Backend`.

    Raises:
        InstallationError: OpenCV is older than version 5.
    """
    if not hasattr(cv2.dnn, 'ENGINE_CLASSIC'):
        raise InstallationError(f'{path.name} needs OpenCV 5 or newer, found {cv2.__version__}; run: pip install --upgrade '
                                f'{BACKEND.package}')
    if setting.threads:
        cv2.setNumThreads(setting.threads)
    try:
        net = cv2.dnn.readNetFromONNX(str(path), cv2.dnn.ENGINE_CLASSIC)  # In which exports were checked.
    except cv2.error as error:
        raise ValueError(error) from None
    lock = threading.Lock()  # A network holds the tensors of one inference.

    def segment(image: np.ndarray) -> np.ndarray:
        with lock:
            net.setInput(image[None].astype(np.float32))
            return net.forward().copy()[0]

    return lambda images: np.stack([segment(image) for image in images])


BACKEND = Backend('OpenCV', 'cv2', 'opencv-python', load, describe=onnx_metadata.write, description=onnx_metadata.read)
