"""OpenVINO files."""
import os
import threading
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .backend import Backend, Run

# Precision in OpenVINO's terms; for int8, that of the layers that are not quantized. A CPU without bf16 computes in f32.
PRECISIONS = {'fp32': 'f32', 'fp16': 'f16', 'bf16': 'bf16', 'int8': 'bf16'}


def load(openvino: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    # Otherwise OpenVINO uses bf16 on every CPU that supports it, even for models exported and checked in fp32.
    settings: dict[str, str | int] = {'INFERENCE_PRECISION_HINT': PRECISIONS[precision], 'PERFORMANCE_HINT': 'LATENCY'}
    if threads:
        settings['INFERENCE_NUM_THREADS'] = threads
    model = _core(openvino, os.getpid()).compile_model(path, 'CPU', settings)
    requests = threading.local()  # A request holds the tensors of one inference, so threads must not share it.

    def run(images: np.ndarray) -> np.ndarray:
        if not hasattr(requests, 'own'):
            requests.own = model.create_infer_request()
        return requests.own.infer([images])[0]

    return run


@cache
def _core(openvino: ModuleType, process: int) -> Any:
    """Return the process's only core; a forked process needs its own.

    Each core has a CPU plugin, which sets the memory that signal handlers run on and restores the previous memory when it
    ends. If two plugins end in the order in which they started, the second one restores memory that has been freed, and the
    next signal, such as Ctrl-C, ends the process with a segmentation fault.
    """
    return openvino.Core()


BACKEND = Backend('OpenVINO', 'openvino', 'openvino', load, weights_beside=True)
