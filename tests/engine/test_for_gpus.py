"""What makes training fast and exact on GPUs, on the CPU: few parameter groups, float32 logits, memory format, compiling."""
import re
from contextlib import nullcontext

import pytest
import runs
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.hardware import keep_logits_in_float32, use_channels_last
from repvgg_seg.engine.optimization import merge_groups


@MODELS.register_module()
class TinyConvModel(BaseModel):
    """Convolution, batch norm and dropout that are trained to give the mean of their input."""
    formats: set[bool] = set()

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.3), nn.Conv2d(8, 2, 1))

    def forward(self, inputs: list[Tensor], mode: str = 'tensor') -> dict[str, Tensor] | list[Tensor]:
        images = torch.stack(inputs).view(-1, 1, 2, 2)
        features = self.layers(images)
        if not torch.compiler.is_compiling():
            self.formats.add(features.is_contiguous(memory_format=torch.channels_last))
        outputs = features.mean((1, 2, 3))
        return dict(loss=(outputs - images.mean((1, 2, 3))).square().mean()) if mode == 'loss' else list(outputs)


@pytest.mark.parametrize('options', [
    dict(channels_last=True), dict(channels_last=True, compile=dict(backend='eager'))], ids=str)
def test_options_are_used_and_resumed_exactly(tmp_path, monkeypatch, options):
    monkeypatch.setattr(Config, 'pretty_text', '')
    monkeypatch.setattr(TinyConvModel, 'formats', set())
    compiled = []
    plain = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda *args, **kwargs: compiled.append(kwargs) or plain(*args, **kwargs))
    options = dict(options, model=dict(type='TinyConvModel'))
    assert runs.run(runs.settings(tmp_path / 'unbroken', **options)) == 'done'
    stop = dict(type='Moment', stage='after_train_iter', iterations=5)
    assert 'after iteration 5' in runs.run(runs.settings(tmp_path / 'stopped', **options), stop)
    assert runs.run(runs.settings(tmp_path / 'stopped', resume=True, **options)) == 'done'
    expected, actual = (runs.last(tmp_path / name) for name in ('unbroken', 'stopped'))
    for name in ('state_dict', 'optimizer'):
        torch.testing.assert_close(actual[name], expected[name], rtol=0, atol=0)
    assert TinyConvModel.formats == {bool(options.get('channels_last'))}
    assert compiled == 3 * [options['compile']] if 'compile' in options else not compiled


@pytest.mark.parametrize(('device', 'kernel_size', 'stride', 'channels', 'refused'), [
    ('cpu', 1, 2, 3, True), ('cpu', 1, 2, 15, True), ('cpu', 1, 2, 16, False), ('cpu', 1, 1, 3, False), ('cpu', 3, 2, 3, False),
    ('cuda', 1, 2, 3, False)])
def test_channels_last_is_refused_where_pytorch_overwrites_memory(device, kernel_size, stride, channels, refused):
    model = nn.Sequential(nn.Conv2d(channels, 4, kernel_size, stride))
    message = ('channels-last training is for GPUs: on CPUs, PyTorch overwrites memory in the backward pass of strided 1x1 '
               'convolutions of few channels; leave channels_last out')
    with pytest.raises(UserError, match=f'^{re.escape(message)}$') if refused else nullcontext():
        use_channels_last(model, device)
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_groups_of_equal_settings_become_one():
    parameters = [nn.Parameter(torch.full((2, ), float(index))) for index in range(6)]
    decays = [0.1, 0.0, 0.1, 0.0, 0.1, 0.2]
    groups = [dict(params=[parameter], weight_decay=decay) for parameter, decay in zip(parameters, decays)]
    apart, together = (torch.optim.SGD(groups, lr=0.5, momentum=0.9) for _ in range(2))
    merge_groups(together)
    found = [(group['weight_decay'], [int(parameter[0]) for parameter in group['params']]) for group in together.param_groups]
    assert found == [(0.1, [0, 2, 4]), (0.0, [1, 3]), (0.2, [5])]
    results = []
    for optimizer in (apart, together):
        for parameter in parameters:
            parameter.data.fill_(1)
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.ones(2)
            optimizer.step()
        results.append([parameter.detach().clone() for parameter in parameters])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


class Head(nn.Module):
    """A head as MMSegmentation's are; its loss calls forward()."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_seg = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_seg(x)


@pytest.mark.parametrize(('dtype', 'expected'), [(torch.bfloat16, torch.float32), (None, torch.float64)], ids=str)
def test_logits_are_resized_in_float32(dtype, expected):
    model = nn.ModuleDict(dict(decode_head=Head(), auxiliary_head=Head()))
    keep_logits_in_float32(model)
    model = model if dtype else model.double()
    with torch.autocast('cpu', dtype, enabled=dtype is not None):
        for head in model.values():
            assert head.forward(torch.ones(1, 4, 2, 2, dtype=torch.float32 if dtype else torch.float64)).dtype == expected
