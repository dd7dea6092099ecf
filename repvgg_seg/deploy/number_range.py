"""The range of numbers that a network computes with, which a CPU that computes in float32 does not show."""
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ..core.errors import UserError
from .graph import Graph


class Largest(TorchFunctionMode):
    """Context manager that finds the largest absolute value that any function of PyTorch returns."""

    value = 0.

    def __torch_function__(self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None) -> object:
        output = func(*args, **(kwargs or {}))
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
            self.value = max(self.value, float(output.detach().abs().max()))
        return output


@torch.no_grad()
def check_range(name: str, graph: Graph, images: Sequence[np.ndarray], dtype: torch.dtype) -> None:
    """Check that what a network computes between the normalization and the logits can be represented in a dtype.

    Args:
        name: name of the file for the error message.
        graph: network in float32.
        images: images, uint8 or uint16 (H, W, channels).
        dtype: dtype in which the file computes.

    Raises:
        UserError: a value is too large.
    """
    largest = Largest()
    for image in images:
        x = graph.normalized(torch.from_numpy(image[None]).float().permute(0, 3, 1, 2))
        with largest:
            graph.head(graph.neck(graph.backbone(x)))
    if not largest.value <= (limit := torch.finfo(dtype).max):
        raise UserError(f'{name} would overflow: the network reaches {largest.value:.0f}, the largest number of its precision '
                        f'is {limit:.0f}; use another --precision')
