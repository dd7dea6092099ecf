"""Networks that overflow in 16 bits are refused, although the CPU computes them in float32."""
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.deploy.number_range import check_range


class Network(nn.Module):
    """Reaches a value between the pixels and the logits, but in neither of them."""

    def __init__(self, reached: float) -> None:
        super().__init__()
        self.reached, self.backbone, self.neck, self.head = reached, nn.Identity(), nn.Identity(), self.spread

    def normalized(self, pixels: Tensor) -> Tensor:
        return pixels * 1e6 / 1e6 / pixels.max()

    def spread(self, x: Tensor) -> Tensor:
        return x * -self.reached / self.reached


@pytest.mark.parametrize(('reached', 'dtype', 'fits'), [
    (65504, torch.float16, True), (65505, torch.float16, False), (1e30, torch.bfloat16, True)])
def test_range(reached, dtype, fits):
    images = [np.ones((4, 5, 3), np.uint8), np.full((4, 5, 3), 200, np.uint8)]
    if fits:
        check_range('model.fp16.onnx', Network(reached), images, dtype)
        return
    with pytest.raises(UserError) as raised:
        check_range('model.fp16.onnx', Network(reached), images, dtype)
    assert str(raised.value) == (f'model.fp16.onnx would overflow: the network reaches {reached:.0f}, the largest number of '
                                 'its precision is 65504; use another --precision')
