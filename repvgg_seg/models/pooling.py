"""Pyramid pooling as products with small matrices.

Unlike adaptive pooling and resizing layers, the products can be exported for images of any size.
"""
import torch
from torch import Tensor


def pool(x: Tensor, scale: int) -> Tensor:
    """Apply adaptive average pooling to (N, C, H, W), giving ``scale`` x ``scale`` cells, as two matrix products.

    Unlike ``AdaptiveAvgPool2d``, it can be exported for any H and W, and its gradient is deterministic on GPUs.
    """
    if scale == 1:
        return x.mean((2, 3), keepdim=True)
    across, down = _pooling_weights(scale, x.shape[3], x), _pooling_weights(scale, x.shape[2], x)
    return down.t() @ (x @ across)


def bilinear_weights(scale: int, size: int, align_corners: bool, like: Tensor) -> Tensor:
    """Weights (scale, size) with which ``scale`` cells are resized bilinearly to ``size`` pixels.

    Args:
        scale: number of cells.
        size: number of pixels.
        align_corners: see ``torch.nn.functional.interpolate``.
        like: tensor on the device of the weights; their dtype is at least float32, as low precision would shift the positions.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)
    pixels = torch.arange(size, dtype=dtype, device=like.device)
    if align_corners:
        positions = pixels * ((scale - 1) / pixels[-1].clamp(min=1))
    else:
        positions = ((pixels + 0.5) * (scale / size) - 0.5).clamp(0, scale - 1)
    cells = torch.arange(scale, dtype=dtype, device=like.device)
    return (1 - (positions - cells[:, None]).abs()).clamp(min=0)


def _pooling_weights(scale: int, size: int, like: Tensor) -> Tensor:
    """Weights (size, scale): cell i averages the pixels from floor(i * size / scale) to ceil((i + 1) * size / scale)."""
    dtype = torch.promote_types(like.dtype, torch.float32)  # Holds the products below exactly.
    cells = torch.arange(scale, dtype=dtype, device=like.device) * size
    pixels = torch.arange(size, dtype=dtype, device=like.device)[:, None] * scale
    # Multiplied by scale, the limits need no rounding. A product, because some runtimes have no boolean operators.
    inside = (pixels + scale > cells).to(dtype) * (pixels < cells + size).to(dtype)
    return inside.to(like.dtype) / inside.sum(0).to(like.dtype)
