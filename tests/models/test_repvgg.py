"""The backbone: its size, shapes, dilation, modes, gradients, and what it says about wrong arguments."""
import weakref

import pytest
import torch
from helpers import TINY_ARCH, TINY_SE_ARCH, assert_same_state, randomize, snapshot
from mmengine.model import BaseModule
from torch import nn

from repvgg_seg.core.errors import ArgumentTypeError, UserError
from repvgg_seg.models import RepVGG
from repvgg_seg.models.archs import ARCHS, RepVGGArch, get_arch
from repvgg_seg.models.blocks import RepConv, RepVGGBlock

# Fused and training form, with the 1000-way classifier. B2g2, B3g2 and D2se, which the design does not give, were
# counted in MMPretrain 1.3.6 (`mmpretrain.models.RepVGG(arch, deploy=...)` on the meta device, plus the linear layer).
PARAMETERS = {
    'A0': (8309384, 9108968), 'A1': (12789864, 14092264), 'A2': (25499944, 28210600),
    'B0': (14339048, 15817960), 'B1': (51829480, 57415016), 'B1g2': (41360104, 45782376), 'B1g4': (36125416, 39966056),
    'B2': (80315112, 89022376), 'B2g2': (63956712, 70846376), 'B2g4': (55777512, 61758376),
    'B3': (110960872, 123085288), 'B3g2': (87404776, 96911848), 'B3g4': (75626728, 83825128),
    'D2se': (120387572, 133334836),
}
WIDTHS = {'A0': (48, 96, 192, 1280), 'A1': (64, 128, 256, 1280), 'A2': (96, 192, 384, 1408), 'B0': (64, 128, 256, 1280),
          'B1': (128, 256, 512, 2048), 'B2': (160, 320, 640, 2560), 'B3': (192, 384, 768, 2560),
          'D2': (160, 320, 640, 2560)}
BLOCKS = {'A': (2, 4, 14, 1), 'B': (4, 6, 16, 1), 'D': (8, 14, 24, 1)}
ALL_STAGES = (0, 1, 2, 3)


def on_meta(arch, **arguments):
    with torch.device('meta'):
        return RepVGG(arch, **arguments)


def layers_of(model):
    """The 3x3 convolutions in order, the stem first."""
    blocks = [module for module in model.modules() if isinstance(module, RepVGGBlock)]
    return [block.conv if isinstance(block.conv, nn.Conv2d) else block.conv.branch_3x3.conv for block in blocks]


def dilations_of(model):
    layers = iter(layers_of(model)[1:])
    return tuple(tuple(next(layers).dilation[0] for _ in stage) for stage in model.stages)


@pytest.mark.parametrize('deploy', [True, False])
@pytest.mark.parametrize('arch', PARAMETERS)
def test_number_of_parameters(arch, deploy):
    model = on_meta(arch, deploy=deploy)
    classifier = model.out_channels[-1] * 1000 + 1000
    assert sum(p.numel() for p in model.parameters()) + classifier == PARAMETERS[arch][0 if deploy else 1]


def test_every_arch_is_tested():
    assert set(PARAMETERS) == set(ARCHS)


@pytest.mark.parametrize('arch', PARAMETERS)
def test_widths_and_depths(arch):
    model = on_meta(arch, out_indices=ALL_STAGES)
    assert model.out_channels == WIDTHS[arch[:2]]
    assert tuple(len(stage) for stage in model.stages) == BLOCKS[arch[0]]
    assert layers_of(model)[0].out_channels == min(64, WIDTHS[arch[:2]][0])


@pytest.mark.parametrize('deploy', [True, False])
@pytest.mark.parametrize('arch', PARAMETERS)
def test_every_second_layer_from_the_3rd_is_groupwise(arch, deploy):
    model = on_meta(arch, deploy=deploy)
    groups = int(arch[-1]) if 'g' in arch else 1
    found = [number for number, layer in enumerate(layers_of(model), start=1) if layer.groups != 1]
    assert found == ([] if groups == 1 else [3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27])
    assert {layer.groups for layer in layers_of(model)} == {1, groups}


@pytest.mark.parametrize('out_indices', [(3, ), (0, 1, 2, 3), [1, 3], (2, 3)], ids=str)
@pytest.mark.parametrize('dilation, strides', [(None, (4, 8, 16, 32)), ('full', (4, 8, 8, 8)), ('fast', (4, 8, 8, 8))])
@pytest.mark.parametrize('height, width', [(64, 96), (65, 97), (33, 47), (1, 5)])
def test_feature_sizes(out_indices, dilation, strides, height, width):
    model = RepVGG(TINY_ARCH, dilation, out_indices).eval()
    outputs = model(torch.randn(2, 3, height, width))
    widths = (16, 24, 32, 48)
    assert isinstance(outputs, tuple)
    assert model.out_channels == tuple(widths[index] for index in out_indices)
    assert [tuple(output.shape) for output in outputs] == [
        (2, widths[index], -(-height // strides[index]), -(-width // strides[index])) for index in out_indices]


@pytest.mark.parametrize('deploy', [True, False])
@pytest.mark.parametrize('arguments, expected', [
    (dict(arch='A0'), ((1, ) * 2, (1, ) * 4, (1, ) * 14, (1, ))),
    (dict(arch='A0', dilation='full'), ((1, ) * 2, (1, ) * 4, (2, ) * 14, (4, ))),
    (dict(arch='A0', dilation='fast'), ((1, ) * 2, (1, ) * 4, (1, ) * 10 + (2, ) * 4, (4, ))),
    (dict(arch='B1g2', dilation='full'), ((1, ) * 4, (1, ) * 6, (2, ) * 16, (4, ))),
    (dict(arch='B1g2', dilation='fast'), ((1, ) * 4, (1, ) * 6, (1, ) * 12 + (2, ) * 4, (4, ))),
    (dict(arch='D2se', dilation='fast'), ((1, ) * 8, (1, ) * 14, (1, ) * 20 + (2, ) * 4, (4, ))),
    (dict(arch=TINY_ARCH, dilations=(1, 2, 3, 4)), ((1, ) * 2, (2, ) * 2, (3, ) * 6, (4, ))),
    (dict(arch=TINY_ARCH, dilations=[[1, 2], 1, (1, 1, 2, 2, 4, 8), (5, )]),
     ((1, 2), (1, 1), (1, 1, 2, 2, 4, 8), (5, ))),
    (dict(arch=dict(TINY_ARCH, num_blocks=(1, 1, 3, 2)), dilation='fast'), ((1, ), (1, ), (2, ) * 3, (4, 4))),
])
def test_dilation_of_every_layer(arguments, expected, deploy):
    model = on_meta(**arguments, deploy=deploy)
    assert dilations_of(model) == expected
    assert all(layer.padding == layer.dilation for layer in layers_of(model))
    assert layers_of(model)[0].dilation == (1, 1)
    narrow = [module for name, module in model.named_modules() if name.endswith('branch_1x1.conv')]
    assert {(conv.dilation, conv.padding) for conv in narrow} == (set() if deploy else {((1, 1), (0, 0))})


@pytest.mark.parametrize('strides', [(1, 1, 1, 1), (2, 1, 2, 1), [1, 2, 2, 2]], ids=str)
def test_strides_of_the_general_form(strides):
    model = RepVGG(TINY_ARCH, strides=strides, out_indices=ALL_STAGES).eval()
    size, expected = 16, []
    for stride in strides:
        size //= stride
        expected.append(size)
    assert [output.shape[-1] for output in model(torch.randn(1, 3, 32, 32))] == expected


def test_general_form_equals_preset():
    preset = randomize(RepVGG(TINY_ARCH, 'fast', ALL_STAGES)).eval()
    general = RepVGG(TINY_ARCH, None, ALL_STAGES, strides=(2, 2, 1, 1), dilations=(1, 1, (1, 1, 2, 2, 2, 2), 4)).eval()
    general.load_state_dict(preset.state_dict())
    x = torch.randn(1, 3, 65, 65)
    torch.testing.assert_close(general(x), preset(x), rtol=0, atol=0)


@pytest.mark.parametrize('deploy', [True, False])
def test_one_checkpoint_loads_into_every_dilation(deploy):
    state = randomize(RepVGG(TINY_ARCH, deploy=deploy)).state_dict()
    x = torch.randn(1, 3, 65, 65)
    outputs = set()
    for dilation in (None, 'full', 'fast'):
        model = RepVGG(TINY_ARCH, dilation, deploy=deploy).eval()
        model.load_state_dict(state, strict=True)
        outputs.add(model(x)[0].mean().item())
    assert len(outputs) == 3, f'dilation must change what is computed, got the means {outputs}'


def test_train_and_eval_return_the_model():
    model = RepVGG(TINY_ARCH)
    assert model.train() is model and model.training
    assert model.eval() is model and not any(module.training for module in model.modules())
    assert model.train(False) is model and not model.training


@pytest.mark.parametrize('deploy', [True, False])
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 3, 4])
def test_frozen_stages(frozen_stages, deploy):
    model = RepVGG(TINY_ARCH, frozen_stages=frozen_stages, deploy=deploy).eval().train()
    for number, part in enumerate([model.stem, *model.stages]):
        frozen = number <= frozen_stages
        assert {p.requires_grad for p in part.parameters()} == {not frozen}
        assert {module.training for module in part.modules()} == {not frozen}
    before = snapshot(model)
    if frozen_stages < 4:
        model(torch.randn(2, 3, 65, 65))[0].sum().backward()
        assert {p.grad is None for p in model.stages[-1].parameters()} == {False}
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    frozen_parts = ('stem', 'stages.0', 'stages.1', 'stages.2', 'stages.3')[:frozen_stages + 1]
    assert not [key for key in changed if key.startswith(frozen_parts)] if frozen_parts else deploy or changed


@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval(norm_eval):
    model = RepVGG(TINY_ARCH, norm_eval=norm_eval).train()
    assert {module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {not norm_eval}
    assert model.training and model.stages[0].training
    before = snapshot(model)
    model(torch.randn(2, 3, 65, 65))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()) == norm_eval
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize('arch', [TINY_ARCH, TINY_SE_ARCH], ids=['groups', 'se'])
@pytest.mark.parametrize('deploy', [True, False])
@pytest.mark.parametrize('with_cp', [True, '1x1'])
@pytest.mark.parametrize('precision', [torch.float64, torch.bfloat16])
def test_checkpointing_changes_nothing(arch, deploy, with_cp, precision):
    dtype = torch.float64 if precision == torch.float64 else torch.float32
    arguments = dict(dilation='fast', out_indices=ALL_STAGES, deploy=deploy)
    plain = randomize(RepVGG(arch, **arguments)).to(dtype).train()
    saving = RepVGG(arch, **arguments, with_cp=with_cp).to(dtype).train()
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 65, 65).to(dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=precision == torch.bfloat16):
        outputs = [model(x) for model in (plain, saving)]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=0)
    for output in outputs:
        sum((feature * feature.detach().cos()).sum() for feature in output).backward()
    for (name, expected), actual in zip(plain.named_parameters(), saving.parameters()):
        torch.testing.assert_close(actual.grad, expected.grad, rtol=1e-10, atol=1e-10,
                                   msg=lambda text, name=name: f'{name}: {text}')
    # A second update of the running statistics, by the recomputation, would change them.
    torch.testing.assert_close(dict(saving.named_buffers()), dict(plain.named_buffers()), rtol=0, atol=0)


@pytest.mark.parametrize('with_cp', [False, '1x1'])
def test_recomputing_the_1x1_branches_stores_none_of_their_maps(with_cp):
    model = RepVGG(TINY_ARCH, with_cp=with_cp).train()
    maps = []
    for module in model.modules():
        if isinstance(module, RepConv):
            module.branch_1x1.conv.register_forward_hook(lambda conv, inputs, output: maps.append(weakref.ref(output)))
    outputs = model(torch.randn(2, 3, 65, 65))
    assert len(maps) == 12 and [stored() is not None for stored in maps] == [not with_cp] * 12
    assert outputs[0].requires_grad


@pytest.mark.parametrize('dilation', [None, 'full', 'fast'])
@pytest.mark.parametrize('arch', [TINY_ARCH, TINY_SE_ARCH], ids=['groups', 'se'])
@pytest.mark.parametrize('deploy', [True, False])
def test_gradient_reaches_every_parameter(arch, dilation, deploy):
    model = randomize(RepVGG(arch, dilation, deploy=deploy)).double().train()
    outputs = model(torch.randn(2, 3, 97, 97).double())
    outputs[0].square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_init_cfg_is_followed_once():
    constant = dict(type='Constant', layer='Conv2d', val=0.5)
    model = RepVGG(TINY_ARCH, init_cfg=constant)
    parent = BaseModule()
    parent.backbone = model
    parent.init_weights()
    assert all((conv.weight == 0.5).all() for conv in model.modules() if isinstance(conv, nn.Conv2d))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    trained = snapshot(model)
    model.init_weights()
    assert_same_state(model, trained)


def test_in_channels():
    model = RepVGG(TINY_ARCH, in_channels=5).eval()
    assert model(torch.randn(1, 5, 32, 32))[0].shape == (1, 48, 1, 1)


def test_arch_object_and_dict_are_one():
    fields = dict(num_blocks=[2, 4, 14, 1], width_factors=[0.75, 0.75, 0.75, 2.5])
    assert get_arch(fields) == get_arch('A0') == get_arch(RepVGGArch(**fields))


@pytest.mark.parametrize('arguments, error, message', [
    (dict(arch='A9'), UserError, r"unknown arch 'A9', expected one of A0, .*B3g4, D2se or a dict"),
    (dict(arch='b2'), UserError, "unknown arch 'b2'"),
    (dict(arch=3), ArgumentTypeError, 'arch must be a name or a dict, got int'),
    (dict(arch=dict(num_blocks=(1, 1, 1, 1))), UserError, 'num_blocks, width_factors, groups, use_se .*got num_blocks'),
    (dict(arch=dict(TINY_ARCH, depth=3)), UserError, 'got num_blocks, width_factors, groups, depth'),
    (dict(arch=dict(TINY_ARCH, num_blocks=(2, 4, 14))), UserError, r'num_blocks must be 4 positive .*\(2, 4, 14\)'),
    (dict(arch=dict(TINY_ARCH, num_blocks=(2, 4, 0, 1))), UserError, r'num_blocks must be 4 positive .*\(2, 4, 0, 1\)'),
    (dict(arch=dict(TINY_ARCH, width_factors=1.5)), UserError, 'width_factors must be 4 positive numbers.* got 1.5'),
    (dict(dilation='slow'), UserError, "dilation must be None or one of 'full', 'fast', got 'slow'"),
    (dict(dilation=8), UserError, "dilation must be None or one of 'full', 'fast', got 8"),
    (dict(dilation='full', strides=(2, 2, 1, 1)), UserError, "dilation='full' already sets strides"),
    (dict(dilation='fast', dilations=(1, 1, 2, 4)), UserError, "dilation='fast' already sets strides"),
    (dict(strides=2), ArgumentTypeError, 'strides must be a sequence of 4.* got 2'),
    (dict(strides=(2, 2, 2)), UserError, r'strides must have 4 entries.* got 3: \(2, 2, 2\)'),
    (dict(strides=(2, 2, 3, 1)), UserError, r'each stride must be 1 or 2, got \(2, 2, 3, 1\)'),
    (dict(dilations=2), ArgumentTypeError, 'dilations must be a sequence of 4.* got 2'),
    (dict(dilations=(1, 1, 2)), UserError, r'dilations must have 4 entries.* got 3: \(1, 1, 2\)'),
    (dict(dilations=(1, 1, (2, 2), 4)), UserError, r'stage 4 has 6 blocks, but dilations gives 2: \(2, 2\)'),
    (dict(dilations=(1, 0, 1, 1)), UserError, r'integers of at least 1, got \(0, 0\) for stage 3'),
    (dict(dilations=(1, 1, 1, (1.5, ))), UserError, r'integers of at least 1, got \(1.5,\) for stage 5'),
    (dict(out_indices=3), ArgumentTypeError, 'out_indices must be a sequence of stage indices, got 3'),
    (dict(out_indices=()), UserError, r'out_indices must be increasing indices from 0 to 3, got \(\)'),
    (dict(out_indices=(0, 4)), UserError, r'from 0 to 3, got \(0, 4\)'),
    (dict(out_indices=(-1, )), UserError, r'from 0 to 3, got \(-1,\)'),
    (dict(out_indices=(3, 2)), UserError, r'increasing indices from 0 to 3, got \(3, 2\)'),
    (dict(out_indices=(3, 3)), UserError, r'increasing indices from 0 to 3, got \(3, 3\)'),
    (dict(frozen_stages=5), UserError, r'frozen_stages must be .*-1 \(none\) to 4 \(all\), got 5'),
    (dict(frozen_stages=-2), UserError, 'frozen_stages .*got -2'),
    (dict(frozen_stages=None), UserError, 'frozen_stages .*got None'),
    (dict(in_channels=0), UserError, 'in_channels must be a positive integer, got 0'),
    (dict(in_channels='3'), UserError, "in_channels must be a positive integer, got '3'"),
    (dict(with_cp='3x3'), UserError, r"with_cp must be False, True \(each block\) or '1x1' .* got '3x3'"),
    (dict(with_cp=1), UserError, 'with_cp must be .* got 1'),
], ids=lambda value: str(value) if isinstance(value, dict) else '')
def test_wrong_argument(arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        on_meta(**{'arch': TINY_ARCH, **arguments})
    assert isinstance(raised.value, TypeError) == (error is ArgumentTypeError)


@pytest.mark.slow
@pytest.mark.situation('Tracebacks', '`with_cp` with `torch.compile`', before="an AssertionError of PyTorch's",
                       now='works: the same gradients, statistics updated once')
@pytest.mark.parametrize('with_cp', [True, '1x1'])
def test_checkpointing_in_a_compiled_model(with_cp):
    """Without its code generator, which needs minutes and a C++ compiler."""
    arch = dict(num_blocks=(1, 1, 1, 1), width_factors=(0.125, 0.0625, 0.03125, 0.015625))
    plain, saving = (RepVGG(arch, frozen_stages=2, with_cp=value).train() for value in (False, with_cp))
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    for forward in (plain, torch.compile(saving, backend='aot_eager')):
        forward(images)[-1].square().sum().backward()
    assert_same_state(saving, plain.state_dict())
    for one, other in zip(saving.parameters(), plain.parameters()):
        assert one.grad is other.grad is None or torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('with_cp', [True, '1x1'])
def test_a_graph_that_is_compiled_takes_no_contexts(with_cp, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.compiler, 'is_compiling', lambda: True)
    monkeypatch.setattr(torch.utils.checkpoint, 'checkpoint', lambda block, x, **options: taken.append(options) or block(x))
    RepVGG(TINY_ARCH, with_cp=with_cp)(torch.randn(2, 3, 32, 32, requires_grad=True))
    assert taken and all(options == dict(use_reentrant=False) for options in taken)
