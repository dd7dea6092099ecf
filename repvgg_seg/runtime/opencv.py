"""ONNX files, in OpenCV's own inference engine (``cv2.dnn``)."""
import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from ..core.errors import InstallationError
from .backend import Backend, Run, Setting
from .protobuf_metadata import ONNX

OLDEST = (4, 9)  # Older versions cannot read the files: a product of a constant and a map has another shape there.


def load(cv2: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a file for images of one size, one at a time; see :class:`repvgg_seg.runtime.backend.Backend`.

    Raises:
        InstallationError: OpenCV is older than version 4.9.
    """
    if tuple(map(int, cv2.__version__.split('.')[:2])) < OLDEST:
        raise InstallationError(f'{path.name} needs OpenCV {OLDEST[0]}.{OLDEST[1]} or newer, found {cv2.__version__}; run: pip '
                                f'install --upgrade {BACKEND.package}')
    if setting.threads:
        cv2.setNumThreads(setting.threads)
    # OpenCV 5 has several engines. OpenCV 4 has only this one, in which exports are checked.
    engine = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, 'ENGINE_CLASSIC') else []
    try:
        net = cv2.dnn.readNetFromONNX(str(path), *engine)
    except cv2.error as error:
        raise ValueError(error) from None
    lock = threading.Lock()  # A network holds the tensors of one inference.

    def segment(image: np.ndarray) -> np.ndarray:
        with lock:
            net.setInput(image[None].astype(np.float32))
            return as_exported(net.forward())[0]

    return lambda images: np.stack([segment(image) for image in images])


def as_exported(outputs: np.ndarray) -> np.ndarray:
    """Copy outputs in the dtype and shape of the file: logits, (1, C, H, W) or (1, C), or class indices, (1, H, W) or (1, ).

    OpenCV 4 gives class indices as float32, and those of a classifier as (1, 1).
    """
    if outputs.dtype == np.float32 and outputs.ndim == 3:
        return outputs.astype(np.uint8)
    if outputs.dtype == np.float32 and outputs.shape == (1, 1):
        return outputs[0].astype(np.int64)
    return outputs.copy()


BACKEND = Backend('OpenCV', 'cv2', 'opencv-python', load, describe=ONNX.write, description=ONNX.read)
