"""The algebra of fusing, on plain tensors, against the layers that it stands for."""
import pytest
import torch
import torch.nn.functional as F
from helpers import randomize
from mmengine.model.utils import _BatchNormXd
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.models.fusion import fold_norm, identity_kernel, norm_scale_shift, pad_to_3x3

EXACT = dict(rtol=1e-10, atol=1e-10)
CHANNELS = 8
NORMS = {
    'BatchNorm2d': lambda: nn.BatchNorm2d(CHANNELS),
    'SyncBatchNorm': lambda: nn.SyncBatchNorm(CHANNELS),
    'mmengine': lambda: _BatchNormXd(CHANNELS),
    'no affine': lambda: nn.BatchNorm2d(CHANNELS, affine=False),
    'large eps': lambda: nn.BatchNorm2d(CHANNELS, eps=0.1),
}


@pytest.fixture(params=NORMS)
def norm(request):
    return randomize(NORMS[request.param]()).double().eval()


def test_hand_worked_case():
    norm = nn.BatchNorm2d(1, eps=0.25).double().eval()
    with torch.no_grad():
        for tensor, value in ((norm.running_mean, 3), (norm.running_var, 2), (norm.weight, -6), (norm.bias, 0.5)):
            tensor.fill_(value)
    # sqrt(2 + 0.25) = 1.5; scale = -6 / 1.5 = -4; shift = 0.5 + 3 * 4 = 12.5; with the bias 2: 12.5 - 4 * 2 = 4.5
    scale, shift = norm_scale_shift(norm)
    assert (scale.tolist(), shift.tolist()) == ([-4.0], [12.5])
    kernel, bias = fold_norm(torch.tensor([[[[0.5]]]]), torch.tensor([2.0]), norm)
    assert (kernel.tolist(), bias.tolist()) == ([[[[-2.0]]]], [4.5])
    # 10 * 0.5 + 2 = 7 -> (7 - 3) / 1.5 * -6 + 0.5 = -15.5 = -2 * 10 + 4.5
    assert norm(torch.full((1, 1, 1, 1), 7.0).double()).item() == -15.5


def test_scale_and_shift_equal_the_norm(norm):
    x = torch.randn(2, CHANNELS, 5, 7).double()
    scale, shift = norm_scale_shift(norm)
    torch.testing.assert_close(x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), norm(x), **EXACT)


@pytest.mark.parametrize('size', [1, 3])
@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('with_bias', [False, True])
def test_folded_conv_equals_conv_and_norm(norm, size, groups, with_bias):
    conv = nn.Conv2d(4, CHANNELS, size, padding=size // 2, groups=groups, bias=with_bias).double()
    x = torch.randn(2, 4, 5, 7).double()
    kernel, bias = fold_norm(conv.weight, conv.bias, norm)
    torch.testing.assert_close(F.conv2d(x, kernel, bias, padding=size // 2, groups=groups), norm(conv(x)), **EXACT)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32])
def test_algebra_is_in_float64_whatever_the_dtype(dtype):
    norm = randomize(nn.BatchNorm2d(CHANNELS)).to(dtype)
    kernel = torch.randn(CHANNELS, 4, 3, 3, dtype=dtype)
    expected = fold_norm(kernel.double(), None, norm.double())
    actual = fold_norm(kernel, None, norm.to(dtype))
    assert [tensor.dtype for tensor in actual] == [torch.float64, torch.float64]
    torch.testing.assert_close(actual, expected, **EXACT)


@pytest.mark.parametrize('groups', [1, 2, 4])
def test_padded_1x1_kernel_equals_the_1x1_kernel(groups):
    kernel = torch.randn(CHANNELS, 4 // groups, 1, 1).double()
    padded = pad_to_3x3(kernel)
    assert padded.shape == (CHANNELS, 4 // groups, 3, 3)
    assert padded.count_nonzero() == kernel.numel()
    x = torch.randn(2, 4, 5, 7).double()
    expected = F.conv2d(x, kernel, groups=groups)
    torch.testing.assert_close(F.conv2d(x, padded, padding=1, groups=groups), expected, **EXACT)


@pytest.mark.parametrize('groups', [1, 2, 4, CHANNELS])
def test_identity_kernel_returns_its_input(groups):
    kernel = identity_kernel(CHANNELS, groups)
    assert kernel.dtype == torch.float64 and kernel.shape == (CHANNELS, CHANNELS // groups, 1, 1)
    x = torch.randn(2, CHANNELS, 5, 7).double()
    torch.testing.assert_close(F.conv2d(x, kernel, groups=groups), x, rtol=0, atol=0)


@pytest.mark.parametrize('norm, message', [
    (nn.GroupNorm(2, CHANNELS), 'cannot fuse GroupNorm'),
    (nn.InstanceNorm2d(CHANNELS, track_running_stats=True), 'cannot fuse InstanceNorm2d'),
    (nn.LayerNorm(CHANNELS), 'cannot fuse LayerNorm'),
    (nn.Identity(), 'cannot fuse Identity'),
    (nn.BatchNorm2d(CHANNELS, track_running_stats=False), 'cannot fuse BatchNorm2d with track_running_stats=False'),
    (nn.SyncBatchNorm(CHANNELS, track_running_stats=False), 'cannot fuse SyncBatchNorm with track_running_stats=False'),
])
@pytest.mark.parametrize('error', [TypeError, UserError])
def test_norm_that_cannot_be_fused_is_named(norm, message, error):
    with pytest.raises(error, match=message):
        fold_norm(torch.ones(CHANNELS, 1, 1, 1), None, norm)
