"""Count parameters, FLOPs and Winograd multiplications by running a model on the meta device, without data."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ..deploy.fusing import fuse_for_inference
from .classifiers import PAPER, model_config
from .tables import shorten

WINOGRAD = 4 / 9  # F(2x2, 3x3): 16 instead of 36 multiplications for 2 x 2 outputs of a 3x3 kernel (paper, section 2.3).
PAPER_SIZE = (224, 224)
aten = torch.ops.aten


@dataclass(frozen=True)
class Complexity:
    """Parameters with batch norms folded, multiply-adds for one image, and multiplications with Winograd's algorithm."""
    params: int
    flops: int
    muls: float


class MultiplicationCounter(TorchDispatchMode):
    """Counts the multiplications of convolutions and matrix products while active."""

    def __init__(self) -> None:
        super().__init__()
        self.flops, self.muls = 0, 0.0

    def __torch_dispatch__(self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None) -> object:
        output = func(*args, **(kwargs or {}))
        if func is aten.convolution.default:
            x, weight, _, stride, _, dilation, transposed, *_ = args
            products = (x if transposed else output).numel() * weight[0].numel()
            plain = tuple(weight.shape[2:]) == (3, 3) and set(stride) == set(dilation) == {1} and not transposed
            self.flops += products
            self.muls += products * (WINOGRAD if plain else 1)
        elif func in (aten.mm.default, aten.bmm.default, aten.addmm.default, aten.baddbmm.default):
            products = output.numel() * args[-1].shape[-2]
            self.flops += products
            self.muls += products
        return output


@torch.no_grad()
def complexity(model: nn.Module, size: tuple[int, int]) -> Complexity:
    """Count the parameters and multiplications of a fused model.

    Args:
        model: fused model for inputs (N, 3, H, W). It is moved to the meta device.
        size: image height and width.
    """
    model = model.eval().to('meta')
    # Folding a remaining batch norm would add only a bias to the convolution before it, which has none.
    folded = sum(module.num_features for module in model.modules() if isinstance(module, _BatchNorm))
    with MultiplicationCounter() as counter:
        model(torch.empty(1, 3, *size, device='meta'))
    return Complexity(sum(parameter.numel() for parameter in model.parameters()) - folded, counter.flops, counter.muls)


def build_fused(name: str) -> nn.Module:
    """Build a classifier of the paper, or the model of a config, fused and on the meta device.

    Args:
        name: one of ``NAMES``, or path of a config file.

    Raises:
        UserError: the name is neither.
    """
    # Some of MMPretrain's networks cannot be built on the meta device.
    return fuse_for_inference(MODELS.build(model_config(name)).to('meta'))


def table(names: Sequence[str], size: tuple[int, int]) -> list[dict[str, str]]:
    """Table rows of names and counts; at the paper's image size also the paper's counts."""
    rows = []
    for name in names or PAPER:
        found = complexity(build_fused(name), size)
        row = {'model': shorten(name), 'params (M)': cut(found.params / 1e6),
               'FLOPs (B)': f'{found.flops / 1e9:.1f}', 'Winograd MULs (B)': f'{found.muls / 1e9:.1f}'}
        if size == PAPER_SIZE:
            row['paper'] = ' / '.join('-' if number is None else form.format(number)
                                      for number, form in zip(PAPER[name][1:], ('{:.2f}', '{}', '{}'))) if name in PAPER else ''
        rows.append(row)
    return rows


def cut(millions: float) -> str:
    """Truncate to two decimals, as in the paper."""
    return f'{int(millions * 100) / 100:.2f}'
