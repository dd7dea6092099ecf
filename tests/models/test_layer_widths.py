"""Architectures with a width for each layer."""
import pytest
import torch
from helpers import assert_relatively_close, randomize
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.models import RepVGG
from repvgg_seg.models.archs import RepVGGArch, get_arch
from repvgg_seg.models.layouts import arch_of, describe_arch
from repvgg_seg.models.pretrained import load_pretrained

WIDTHS = [[10], [12, 16], [16, 16, 20], [24, 22, 22, 26], [30]]


@pytest.mark.parametrize('groups', [1, 2])
def test_layers_have_these_widths_in_both_forms(groups):
    trained = randomize(RepVGG(dict(layer_widths=WIDTHS, groups=groups), dilation='fast', out_indices=(0, 3))).double().eval()
    images = torch.randn(1, 3, 40, 57).double()
    expected = trained(images)
    identities = [name for name, module in trained.named_modules() if name.endswith('branch_identity')]
    assert identities == [f'stages.{block}.conv.branch_identity' for block in ('1.1', '2.2')], 'where in and out are equal'
    fused = trained.switch_to_deploy()
    convs = [module for module in fused.modules() if isinstance(module, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == sum(WIDTHS, []) and fused.out_channels == (16, 30)
    assert_relatively_close(fused(images), expected, 1e-10)


def test_checkpoint_says_its_widths(save):
    arch = RepVGGArch.of_layers(WIDTHS, groups=2)
    for deploy in (False, True):
        source = RepVGG(arch, deploy=deploy)
        assert arch_of(source.state_dict()) == arch
        assert describe_arch(source.state_dict()) == 'a RepVGG of (2, 3, 4, 1) blocks, (16, 20, 26, 30) channels, 2 groups'
        target = RepVGG(arch, deploy=deploy)
        load_pretrained(target, str(save(source.state_dict())))
        torch.testing.assert_close(dict(target.state_dict()), dict(source.state_dict()))


NEEDED = ('arch layer_widths must be positive integers for each layer of the stages 1 to 5, of which the first has one layer, '
          'got ')


@pytest.mark.parametrize(('arch', 'message'), [
    (dict(layer_widths=WIDTHS[:4]), NEEDED + str(WIDTHS[:4])),
    (dict(layer_widths=[[8, 8], *WIDTHS[1:]]), NEEDED + str([[8, 8], *WIDTHS[1:]])),
    (dict(layer_widths=[[0], *WIDTHS[1:]]), NEEDED + str([[0], *WIDTHS[1:]])),
    (dict(layer_widths=8), NEEDED + '8'),
    (dict(layer_widths=WIDTHS, num_blocks=(1, 1, 1, 1)),
     'an arch dict with layer_widths has only groups and use_se besides, got num_blocks'),
    (dict(layer_widths=WIDTHS, groups=4), 'arch groups must be a positive integer that divides the widths (10, 12, 16, 16, 16, '
                                          '20, 24, 22, 22, 26, 30), got 4'),
], ids=str)
def test_mistakes(arch, message):
    with pytest.raises(UserError) as caught:
        get_arch(arch)
    assert str(caught.value) == message
