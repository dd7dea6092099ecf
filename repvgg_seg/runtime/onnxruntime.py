"""ONNX files, in ONNX Runtime."""
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .backend import CPU, Backend, DeviceError, Run, Setting
from .protobuf_metadata import ONNX

PROVIDERS = {'cuda': 'CUDAExecutionProvider', 'coreml': 'CoreMLExecutionProvider', CPU: 'CPUExecutionProvider',
             'tensorrt': 'TensorrtExecutionProvider'}
RECORD = 'session.record_ep_graph_assignment_info'  # Whether a session remembers which provider computes a node.
FULL_FLOAT32 = {'use_tf32': '0'}  # Otherwise a GPU rounds the factors of products to 10 bits.


def load(onnxruntime: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a file; see :class:`repvgg_seg.runtime.backend.Backend`.

    Raises:
        DeviceError: ONNX Runtime would compute on the CPU instead of the device.
    """
    options = onnxruntime.SessionOptions()
    if setting.threads:
        options.intra_op_num_threads = setting.threads
    provider = PROVIDERS[setting.device]
    providers: list[Any] = [provider]
    if setting.device in ('cuda', 'tensorrt'):  # What TensorRT does not know is computed in CUDA.
        providers = [*([provider] if setting.device == 'tensorrt' else []), (PROVIDERS['cuda'], FULL_FLOAT32)]
    if setting.device != CPU:
        options.add_session_config_entry(RECORD, '1')
    raised = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except (raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf, raised.NotImplemented) as error:
        raise ValueError(error) from None  # ONNX Runtime's exceptions have no common base class.
    if (used := session.get_providers())[0] != provider:  # Only a log message says so.
        raise DeviceError(f'{path} on the device {setting.device}: ONNX Runtime cannot start {provider} and would use '
                          f'{used[0]}; install what it needs, or use another device')
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    if setting.device == CPU:
        return lambda images: session.run(None, {name: images})[0]
    check_convolutions(session, path, setting.device)

    def run(images: np.ndarray) -> np.ndarray:
        binding = session.io_binding()
        binding.bind_cpu_input(name, images)
        binding.bind_output(output)
        session.run_with_iobinding(binding)
        return binding.copy_outputs_to_cpu()[0]

    return run


def check_convolutions(session: Any, path: Path, device: str) -> None:
    """Check that a device computes all convolutions; the rest, such as shapes, may be computed on the CPU.

    Raises:
        DeviceError: the CPU computes some, or ONNX Runtime is too old to say so.
    """
    if not hasattr(session, 'get_provider_graph_assignment_info'):
        raise DeviceError(f'{path} on the device {device}: this version of ONNX Runtime cannot say what it computes on the '
                          'CPU; upgrade it')
    places = [part.ep_name for part in session.get_provider_graph_assignment_info() for node in part.get_nodes()
              if 'Conv' in node.op_type]
    if on_cpu := places.count(PROVIDERS[CPU]):
        raise DeviceError(f'{path} on the device {device}: ONNX Runtime would compute {on_cpu} of {len(places)} convolutions '
                          'on the CPU; use another device')


def present(onnxruntime: ModuleType) -> list[str]:
    """Devices that this build of ONNX Runtime supports; TensorRT, which takes minutes to load a file, on demand only."""
    available = onnxruntime.get_available_providers()
    return [device for device, provider in PROVIDERS.items() if provider in available]


BACKEND = Backend('ONNX Runtime', 'onnxruntime', 'onnxruntime', load, devices=tuple(PROVIDERS), present=present,
                  describe=ONNX.write, description=ONNX.read)
