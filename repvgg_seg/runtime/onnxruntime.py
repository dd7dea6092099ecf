"""ONNX files, in ONNX Runtime."""
from pathlib import Path
from types import ModuleType

from .backend import Backend, Run


def load(onnxruntime: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    raised = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    except (raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf, raised.NotImplemented) as error:
        raise ValueError(error) from None  # ONNX Runtime's exceptions have no common base class.
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


BACKEND = Backend('ONNX Runtime', 'onnxruntime', 'onnxruntime', load)
