"""LiteRT files (.tflite)."""
import importlib
import threading
from pathlib import Path
from types import ModuleType

import numpy as np

from .backend import Backend, Run, Setting


def load(ai_edge_litert: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a file for images of one size, one at a time; see :class:`repvgg_seg.runtime.backend.Backend`."""
    interpreter = importlib.import_module('ai_edge_litert.interpreter').Interpreter(str(path), num_threads=setting.threads)
    interpreter.allocate_tensors()
    (images, ), (outputs, ) = interpreter.get_input_details(), interpreter.get_output_details()
    lock = threading.Lock()  # An interpreter holds the tensors of one inference.

    def segment(image: np.ndarray) -> np.ndarray:
        with lock:
            interpreter.set_tensor(images['index'], image[None])
            interpreter.invoke()
            return interpreter.get_tensor(outputs['index'])[0]

    return lambda batch: np.stack([segment(image) for image in batch])


BACKEND = Backend('LiteRT', 'ai_edge_litert', 'ai-edge-litert', load)
