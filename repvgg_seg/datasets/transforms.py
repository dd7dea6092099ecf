"""Augmentation that MMSegmentation does not provide."""
import cv2
import numpy as np

from ..core.environment import require_mm
from ..core.errors import UserError
from ..registry import TRANSFORMS

require_mm('mmengine', 'mmcv')

from mmcv.transforms import BaseTransform  # noqa: E402


@TRANSFORMS.register_module()
class RandomGaussianBlur(BaseTransform):
    """Blur the image with a Gaussian kernel, as PSPNet's reference code does in training.

    Args:
        prob: probability of blurring.
        kernel_size: odd size of the kernel in pixels; OpenCV derives sigma from it.

    Raises:
        UserError: the probability is outside [0, 1], or the size is even.
    """

    def __init__(self, prob: float = 0.5, kernel_size: int = 5) -> None:
        if not (0 <= prob <= 1 and isinstance(kernel_size, int) and kernel_size > 0 and kernel_size % 2 == 1):
            raise UserError(f'expected 0 <= prob <= 1 and an odd kernel_size, got {prob} and {kernel_size}')
        self.prob, self.kernel_size = prob, kernel_size

    def transform(self, results: dict) -> dict:
        """Blur ``img``, uint8 (H, W, 3)."""
        if np.random.rand() < self.prob:
            results['img'] = cv2.GaussianBlur(results['img'], (self.kernel_size, self.kernel_size), 0)
        return results
