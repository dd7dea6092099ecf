"""The choice of a device, with stand-ins for the runtimes: what is there, silent fallback, and other answers than the CPU's."""
import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from repvgg_seg.core.errors import UserError
from repvgg_seg.runtime import openvino as openvino_backend
from repvgg_seg.runtime.backend import DeviceError
from repvgg_seg.runtime.devices import known_devices
from repvgg_seg.runtime.predictor import load

INFO = dict(classes=['a', 'b'], palette=[[0, 0, 0], [1, 1, 1]], channels='RGB', min_size=1)
IMAGE = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
SUFFIXES = dict(onnxruntime='model.fp32.onnx', openvino='model.fp32.xml', torch='model.fp32.pt2', ncnn='model.fp32.ncnn.param')
Labels = Callable[[np.ndarray, str], np.ndarray]


def labels(images: np.ndarray, device: str) -> np.ndarray:
    """Of every device."""
    return (images[..., 0] > 127).astype(np.uint8)


def deviating(images: np.ndarray, device: str) -> np.ndarray:
    """A device other than the CPU gives other classes for the darkest of 64 pixels."""
    return labels(images, device) ^ (0 if device in ('CPUExecutionProvider', 'CPU', 'cpu') else images[..., 1] < 4)


class Record(dict):
    """What the last file was loaded with, by the device that runs it."""


def onnxruntime(found: list[str], fallback: bool | str, of: Labels, record: Record) -> dict:
    """ONNX Runtime with these providers, which perhaps do not start, or leave a convolution to the CPU, or do not say so."""
    class Options:
        def add_session_config_entry(self, name, value):
            record[name] = value

    class Session:
        def __init__(self, path, options, providers):
            names = [each if isinstance(each, str) else each[0] for each in providers]
            self.names = ['CPUExecutionProvider'] if fallback is True else [*names, 'CPUExecutionProvider']
            record[names[0]] = dict(providers=providers, threads=getattr(options, 'intra_op_num_threads', None))

            if fallback != 'old':
                self.get_provider_graph_assignment_info = self.assigned

        def assigned(self):
            assert record['session.record_ep_graph_assignment_info'] == '1'
            places = [self.names[0], self.names[-1] if fallback == 'in part' else self.names[0]]
            nodes = (places[0], 'Conv'), (places[1], 'FusedConv'), ('CPUExecutionProvider', 'Shape')
            return [SimpleNamespace(ep_name=place, get_nodes=lambda kind=kind: [SimpleNamespace(op_type=kind)])
                    for place, kind in nodes]

        def get_providers(self):
            return self.names

        def get_inputs(self):
            return [SimpleNamespace(name='images')]

        def get_outputs(self):
            return [SimpleNamespace(name='labels')]

        def run(self, _, inputs):
            return [of(inputs['images'], self.names[0])]

        def io_binding(self):
            return SimpleNamespace(bind_cpu_input=lambda name, images: record.update(bound=images),
                                   bind_output=lambda name: None,
                                   copy_outputs_to_cpu=lambda: [of(record['bound'], self.names[0])])

        def run_with_iobinding(self, binding):
            assert record['bound'].flags.c_contiguous

    errors = ('Fail', 'InvalidArgument', 'InvalidGraph', 'InvalidProtobuf', 'NotImplemented')
    state = SimpleNamespace(**{name: type(name, (Exception, ), {}) for name in errors})
    return dict(get_available_providers=lambda: [*found, 'CPUExecutionProvider'], InferenceSession=Session,
                SessionOptions=Options, capi=SimpleNamespace(onnxruntime_pybind11_state=state))


def openvino(found: list[str], fallback: bool, of: Labels, record: Record) -> dict:
    """OpenVINO with these devices, of which one perhaps stands for the CPU."""
    def compile_model(path, device, settings):
        used = 'CPU' if fallback else device
        record[device] = settings
        return SimpleNamespace(get_property=lambda name: [used], create_infer_request=lambda: SimpleNamespace(
            infer=lambda inputs: [of(inputs[0], device)]))

    return dict(Core=lambda: SimpleNamespace(available_devices=['CPU', *found], compile_model=compile_model))


def torch(found: list[str], fallback: bool, of: Labels, record: Record) -> dict:
    """PyTorch with or without a GPU."""
    class Images:
        def __init__(self, array, device='cpu'):
            self.array, self.device = array, device

        def to(self, device):
            return Images(self.array, device)

        def cpu(self):
            return Images(self.array)

        def numpy(self):
            assert self.device == 'cpu'
            return self.array

    class Program:
        device = 'cpu'

        def module(self):
            def run(images):
                assert images.device == self.device
                return Images(of(images.array, self.device), self.device)
            return run

    def move(program, device):
        program.device = device
        return program

    passes = SimpleNamespace(move_to_device_pass=move)
    backends = SimpleNamespace(cudnn=SimpleNamespace(allow_tf32=True), cuda=SimpleNamespace(matmul=SimpleNamespace()))
    record['backends'] = backends
    return dict(cuda=SimpleNamespace(is_available=lambda: bool(found)), no_grad=lambda: lambda function: function,
                from_numpy=Images, backends=backends, export=SimpleNamespace(load=lambda path: Program(), passes=passes),
                set_num_threads=lambda threads: None)


def ncnn(found: list[str], fallback: bool, of: Labels, record: Record) -> dict:
    """ncnn with these GPUs."""
    class Net:
        def __init__(self):
            self.opt = SimpleNamespace(use_vulkan_compute=False)

        def load_param(self, path):
            return 0

        load_model = load_param

        def output_names(self):
            return ['labels']

        def create_extractor(self):
            record['ncnn'] = device = 'vulkan' if self.opt.use_vulkan_compute else 'cpu'
            pixels = []

            def extract(name):
                classes = of(pixels[0].transpose(1, 2, 0)[None].astype(np.uint8), device)
                return 0, np.stack([classes == 0, classes == 1], 1)[0].astype(np.float32)

            return SimpleNamespace(input=lambda name, image: pixels.append(image), extract=extract)

    return dict(get_gpu_count=lambda: len(found), Net=Net, Mat=lambda pixels: pixels)


RUNTIMES = dict(onnxruntime=onnxruntime, openvino=openvino, torch=torch, ncnn=ncnn)
DEVICES = {  # Each device, with its runtime, and what that finds if the device is here.
    'cuda': [('onnxruntime', 'CUDAExecutionProvider'), ('torch', 'a GPU')],
    'tensorrt': [('onnxruntime', 'TensorrtExecutionProvider')], 'coreml': [('onnxruntime', 'CoreMLExecutionProvider')],
    'openvino:GPU': [('openvino', 'GPU.0')], 'openvino:NPU': [('openvino', 'NPU')], 'vulkan': [('ncnn', 'a GPU')]}
EVERY = [(device, *each) for device, runtimes in DEVICES.items() for each in runtimes]


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Put stand-ins in the place of runtimes; a function that returns the folder of their files, and what was loaded."""
    def made(fallback: bool | str = False, of: Labels = labels, **found: list[str]) -> tuple[Path, Record]:
        record = Record()
        for name, devices in found.items():
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            vars(module).update(RUNTIMES[name](devices, fallback, of, record))
            monkeypatch.setitem(sys.modules, name, module)
            if name == 'torch':
                monkeypatch.setitem(sys.modules, 'torch.export', module.export)
                monkeypatch.setitem(sys.modules, 'torch.export.passes', module.export.passes)
            (tmp_path / SUFFIXES[name]).touch()
        entry = dict(precision='fp32', size=None, output='labels')
        (tmp_path / 'deploy.json').write_text(json.dumps(dict(INFO, artefacts={SUFFIXES[name]: entry for name in found})))
        return tmp_path, record

    monkeypatch.setattr(openvino_backend, '_core', lambda openvino, process: openvino.Core())
    return made


def test_names():
    assert set(known_devices()) == {*DEVICES, 'cpu', 'auto'}


@pytest.mark.parametrize(('device', 'runtime', 'found'), EVERY)
def test_a_device_that_is_here(machine, device, runtime, found):
    folder, record = machine(**{runtime: [found]})
    predictor = load(folder / SUFFIXES[runtime], device=device)
    assert predictor.device == device
    np.testing.assert_array_equal(predictor(IMAGE), IMAGE[..., 0] > 127)
    if device in ('cuda', 'tensorrt') and runtime == 'onnxruntime':
        cuda = ('CUDAExecutionProvider', {'use_tf32': '0'})
        assert record[found]['providers'] == ([found, cuda] if device == 'tensorrt' else [cuda])
    if runtime == 'ncnn':
        assert record['ncnn'] == device
    if runtime == 'torch':
        backends = record['backends']
        assert backends.cudnn.allow_tf32 is backends.cuda.matmul.allow_tf32 is False


@pytest.mark.parametrize(('device', 'runtime', 'found'), EVERY)
def test_a_device_that_is_not_here(machine, device, runtime, found):
    folder, _ = machine(**{runtime: []})
    title = dict(onnxruntime='ONNX Runtime', openvino='OpenVINO', torch='exported program (pt2)', ncnn='ncnn')[runtime]
    with pytest.raises(DeviceError) as error:
        load(folder / SUFFIXES[runtime], device=device)
    assert str(error.value) == f'device {device}: {title} does not find it here; there is cpu'
    assert load(folder / SUFFIXES[runtime], device='auto').device == 'cpu'


@pytest.mark.parametrize(('device', 'runtime', 'found'), EVERY)
def test_a_device_that_gives_other_classes(machine, device, runtime, found):
    folder, _ = machine(of=deviating, **{runtime: [found]})
    with pytest.raises(DeviceError) as error:
        load(folder / SUFFIXES[runtime], device=device)
    path = folder / SUFFIXES[runtime]
    assert str(error.value).startswith(f'{path} on the device {device} gives other classes than on the CPU for ')
    assert str(error.value).endswith('% of the answers (limit 0.1%); use another device')
    assert load(folder / SUFFIXES[runtime], device='auto').device == 'cpu'


@pytest.mark.parametrize(('device', 'runtime', 'found', 'message'), [
    ('cuda', 'onnxruntime', 'CUDAExecutionProvider', 'ONNX Runtime cannot start CUDAExecutionProvider and would use '
     'CPUExecutionProvider; install what it needs, or use another device'),
    ('coreml', 'onnxruntime', 'CoreMLExecutionProvider', 'ONNX Runtime cannot start CoreMLExecutionProvider and would use '
     'CPUExecutionProvider; install what it needs, or use another device'),
    ('openvino:GPU', 'openvino', 'GPU', 'OpenVINO would use CPU; use another device')])
def test_silent_fallback_is_an_error(machine, device, runtime, found, message):
    folder, _ = machine(fallback=True, **{runtime: [found]})
    with pytest.raises(DeviceError) as error:
        load(folder, device=device)
    assert str(error.value) == f'{folder / SUFFIXES[runtime]} on the device {device}: {message}'
    assert load(folder, device='auto').device == 'cpu'


@pytest.mark.parametrize(('fallback', 'message'), [
    ('in part', 'ONNX Runtime would compute 1 of 2 convolutions on the CPU; use another device'),
    ('old', 'this version of ONNX Runtime cannot say what it computes on the CPU; upgrade it')])
def test_fallback_in_part_is_an_error(machine, fallback, message):
    folder, _ = machine(fallback=fallback, onnxruntime=['CoreMLExecutionProvider'])
    with pytest.raises(DeviceError) as error:
        load(folder, device='coreml')
    assert str(error.value) == f'{folder / SUFFIXES["onnxruntime"]} on the device coreml: {message}'
    assert load(folder, device='auto').device == 'cpu'


@pytest.mark.parametrize(('found', 'device', 'expected'), [
    (dict(openvino=[], onnxruntime=['CUDAExecutionProvider']), 'auto', 'cuda'),
    (dict(openvino=['GPU'], onnxruntime=['CUDAExecutionProvider']), 'auto', 'openvino:GPU'),
    (dict(openvino=['NPU'], onnxruntime=['TensorrtExecutionProvider']), 'auto', 'cpu'),  # On demand only.
    (dict(openvino=['NPU'], onnxruntime=['TensorrtExecutionProvider']), 'openvino:NPU', 'openvino:NPU'),
    (dict(openvino=['GPU'], ncnn=['a GPU']), 'vulkan', 'vulkan'),
    (dict(openvino=['GPU'], ncnn=['a GPU']), 'cpu', 'cpu')])
def test_which_of_a_folder(machine, found, device, expected):
    folder, _ = machine(**found)
    assert load(folder, device=device).device == expected


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(device='gpu'), f"device must be among {', '.join(known_devices())}, got 'gpu'"),
    (dict(device='vulkan'), 'device vulkan: no runtime of model.fp32.xml, model.fp32.onnx can use it; there is openvino:GPU, '
     'cpu'),
    (dict(device='cuda'), 'device cuda: ONNX Runtime does not find it here; there is openvino:GPU, cpu'),
    (dict(device='openvino:GPU', threads=2), 'threads is for the CPU, but the device is openvino:GPU; leave it out')])
def test_what_cannot_be_had(machine, arguments, message):
    folder, _ = machine(openvino=['GPU'], onnxruntime=[])
    with pytest.raises(UserError) as error:
        load(folder, **arguments)
    assert str(error.value) == message


def test_throughput(machine):
    folder, record = machine(openvino=[], onnxruntime=[])
    load(folder, throughput=True)
    assert record['CPU']['PERFORMANCE_HINT'] == 'THROUGHPUT'
    load(folder)
    assert record['CPU']['PERFORMANCE_HINT'] == 'LATENCY'
    with pytest.raises(UserError) as error:
        load(folder / SUFFIXES['onnxruntime'], throughput=True)
    assert str(error.value) == 'model.fp32.onnx runs in ONNX Runtime, which has no mode for throughput; leave it out'
