"""OpenVINO files."""
import os
import threading
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from .backend import CPU, Backend, DeviceError, Run, Setting
from .description import KEY

# Precision in OpenVINO's terms; for int8, that of the layers that are not quantized. A CPU without bf16 computes in f32.
PRECISIONS = {'fp32': 'f32', 'fp16': 'f16', 'bf16': 'bf16', 'int8': 'bf16'}
DEVICES = {'openvino:GPU': 'GPU', CPU: 'CPU', 'openvino:NPU': 'NPU'}


def load(openvino: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a file; see :class:`repvgg_seg.runtime.backend.Backend`.

    Raises:
        DeviceError: OpenVINO would compute on another device.
    """
    device = DEVICES[setting.device]
    # Otherwise OpenVINO uses bf16 on every CPU that supports it, even for models exported and checked in fp32.
    hint = 'f16' if precision == 'int8' and setting.device != CPU else PRECISIONS[precision]
    settings: dict[str, str | int] = {'INFERENCE_PRECISION_HINT': hint,
                                      'PERFORMANCE_HINT': 'THROUGHPUT' if setting.throughput else 'LATENCY'}
    if setting.threads:
        settings['INFERENCE_NUM_THREADS'] = setting.threads
    model = _core(openvino, os.getpid()).compile_model(path, device, settings)
    if other := [used for used in model.get_property('EXECUTION_DEVICES') if used.partition('.')[0] != device]:
        raise DeviceError(f'{path} on the device {setting.device}: OpenVINO would use {other[0]}; use another device')
    requests = threading.local()  # A request holds the tensors of one inference, so threads must not share it.

    def run(images: np.ndarray) -> np.ndarray:
        if not hasattr(requests, 'own'):
            requests.own = model.create_infer_request()
        return requests.own.infer([images])[0]

    return run


def present(openvino: ModuleType) -> list[str]:
    """Devices that OpenVINO finds; a neural processor on demand only."""
    found = {name.partition('.')[0] for name in _core(openvino, os.getpid()).available_devices}
    return [device for device, name in DEVICES.items() if name in found]


@cache
def _core(openvino: ModuleType, process: int) -> Any:
    """Return the process's only core; a forked process needs its own.

    Each core has a CPU plugin, which sets the memory that signal handlers run on and restores the previous memory when it
    ends. If two plugins end in the order in which they started, the second one restores memory that has been freed, and the
    next signal, such as Ctrl-C, ends the process with a segmentation fault.
    """
    return openvino.Core()


def describe(path: Path, description: str) -> None:
    """Write a description into the ``rt_info`` of a file, which OpenVINO has in every file that it saves.

    Raises:
        ValueError: the file has none.
    """
    before, found, after = path.read_text(encoding='utf-8').rpartition('</rt_info>')
    if not found:
        raise ValueError(f'{path} has no rt_info')
    path.write_text(f'{before}<{KEY} value={quoteattr(description)} />{found}{after}', encoding='utf-8')


def description(path: Path) -> str | None:
    """Read the description of a file; None if there is none.

    Raises:
        ValueError: the file is not XML.
    """
    try:
        found = ElementTree.parse(path).getroot().find(f'rt_info/{KEY}')
    except ElementTree.ParseError as error:
        raise ValueError(f'it is not XML: {error}') from None
    return None if found is None else found.get('value')


BACKEND = Backend('OpenVINO', 'openvino', 'openvino', load, weights_beside=True, devices=tuple(DEVICES), present=present,
                  throughput=True, describe=describe, description=description)
