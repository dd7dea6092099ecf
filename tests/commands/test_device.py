"""--device of the commands: what the machine does not have, and the device that MMEngine uses for checkpoints."""
import json

import numpy as np
import pytest
from mistakes import assert_error_line
from mmengine.device import get_device
from mmengine.device import utils as mmengine_device

from repvgg_seg.core.errors import UserError
from repvgg_seg.datasets.toy import CLASSES
from repvgg_seg.engine.hardware import torch_device
from repvgg_seg.runtime import devices, predictor
from repvgg_seg.runtime.backend import ON_CPU


@pytest.fixture
def gpu(monkeypatch) -> None:
    """As MMEngine sees a machine with a GPU."""
    monkeypatch.setattr(mmengine_device, 'DEVICE', 'cuda')


@pytest.mark.parametrize(('device', 'used'), [(None, 'cuda'), ('auto', 'cuda'), ('cuda', 'cuda'), ('cpu', 'cpu')])
def test_the_device_of_checkpoints(gpu, device, used):
    with torch_device(device):
        assert get_device() == used
    assert get_device() == 'cuda'


def test_the_device_is_restored_after_an_error(gpu):
    with pytest.raises(KeyError), torch_device('cpu'):
        raise KeyError
    assert get_device() == 'cuda'


@pytest.mark.parametrize(('device', 'launcher', 'message'), [
    ('vulkan', 'none', 'device vulkan: a checkpoint runs in PyTorch, which has cuda and cpu here; leave --device out, or '
     'export the model for another runtime'),
    ('cpu', 'pytorch', '--device is for one process; leave it or --launcher out')])
def test_what_checkpoints_do_not_run_on(gpu, device, launcher, message):
    with pytest.raises(UserError) as error, torch_device(device, launcher):
        pass
    assert str(error.value) == message


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A folder with a file for a stand-in of ONNX Runtime, which finds a GPU."""
    entry = dict(format='onnx', precision='fp32', size=None, output='labels')
    (tmp_path / 'model.fp32.onnx').touch()
    (tmp_path / 'deploy.json').write_text(json.dumps(dict(
        classes=[name for name, *_ in CLASSES], palette=[list(color) for *_, color in CLASSES], channels='RGB', min_size=1,
        artefacts={'model.fp32.onnx': entry})))
    used = []

    def load_file(path, precision, setting=ON_CPU):
        def run(images):
            used.append(setting.device)
            return images[..., 0] // 128
        return run

    monkeypatch.setattr(devices, 'present_devices', lambda backend: ['cuda', 'cpu'])
    monkeypatch.setattr(predictor, 'load_file', load_file)
    return tmp_path, used


@pytest.mark.parametrize(('options', 'expected'), [
    ((), {'cpu'}), (('--device', 'cpu'), {'cpu'}), (('--device', 'cuda'), {'cuda'}), (('--device', 'auto'), {'cuda'})])
@pytest.mark.parametrize('tool', ['predict', 'test'])
def test_exported_files(run_tool, config, streets, exported, tmp_path, tool, options, expected):
    folder, used = exported
    arguments = {'predict': (next(streets.rglob('val/*/*leftImg8bit.png')), '--out', tmp_path / 'pictures'),
                 'test': ('--work-dir', tmp_path / 'run')}[tool]
    result = run_tool(tool, config, folder, *arguments, *options)
    assert result.code == 0, result.err
    gate = 2 * (expected == {'cuda'})  # The comparison with the CPU comes first.
    assert set(used[gate:]) == expected and len(used) > gate


@pytest.mark.parametrize('tool', ['predict', 'test'])
@pytest.mark.parametrize(('kind', 'device', 'message'), [
    ('exported', 'vulkan', 'device vulkan: no runtime of model.fp32.onnx can use it; there is cuda, cpu'),
    ('checkpoint', 'openvino:GPU', 'device openvino:GPU: a checkpoint runs in PyTorch, which has cpu here; leave --device out, '
     'or export the model for another runtime')])
def test_what_is_not_here(run_tool, config, random_checkpoint, streets, exported, tmp_path, monkeypatch, tool, kind, device,
                          message):
    monkeypatch.setattr(mmengine_device, 'DEVICE', 'cpu')
    source = exported[0] if kind == 'exported' else random_checkpoint
    arguments = {'predict': (next(streets.rglob('val/*/*leftImg8bit.png')), '--out', tmp_path / 'pictures'),
                 'test': ('--work-dir', tmp_path / 'run')}[tool]
    assert_error_line(run_tool(tool, config, source, *arguments, '--device', device), f'error: {message}')


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_forms_on_a_device(config, exported, monkeypatch, device):
    from mmengine.config import Config

    from repvgg_seg.benchmark import deployed_forms
    subjects = deployed_forms.subjects(Config.fromfile(config), 'c.pth', exported[0], (48, 64), 1, device)
    assert [subject.name for subject in subjects] == [
        name + ('' if device == 'cpu' else ', on cuda') for name in (
            'PyTorch, training form, fp32', 'PyTorch, fused, fp32', 'PyTorch, fused, bf16', 'ONNX Runtime, fp32')]
    run = subjects[-1].make()
    assert np.asarray(run()).shape == (1, 48, 64) and exported[1][-1] == device
