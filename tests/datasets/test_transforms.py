"""The Gaussian blur of the training pipeline."""
import cv2
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS

from repvgg_seg.core.errors import UserError


def build(**options):
    return TRANSFORMS.build(dict(type='repvgg_seg.RandomGaussianBlur', **options))


def noise():
    return np.random.randint(0, 256, (24, 32, 3), np.uint8)


@pytest.mark.parametrize(('prob', 'is_blurred'), [(0, False), (0.0, False), (1, True), (1.0, True)])
def test_never_and_always(prob, is_blurred):
    for _ in range(50):
        image = noise()
        results = build(prob=prob)(dict(img=image.copy(), gt_seg_map=image[..., 0]))
        assert (results['img'] != image).any() == is_blurred
        np.testing.assert_array_equal(results['gt_seg_map'], image[..., 0])


@pytest.mark.parametrize(('options', 'size'), [(dict(), 5), (dict(kernel_size=5), 5), (dict(kernel_size=3), 3),
                                               (dict(kernel_size=9), 9), (dict(kernel_size=1), 1)])
def test_kernel_is_the_one_that_opencv_derives_from_the_size(options, size):
    impulse = np.zeros((25, 25, 3), np.uint8)
    impulse[12, 12] = 255
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # OpenCV's documentation of getGaussianKernel.
    taps = np.exp(-(np.arange(25) - 12)**2 / (2 * sigma**2)) * (abs(np.arange(25) - 12) <= size // 2)
    expected = 255 * np.outer(taps, taps) / taps.sum()**2
    blurred = build(prob=1, **options)(dict(img=impulse))['img']
    assert blurred.dtype == np.uint8
    # OpenCV rounds the taps of small kernels to multiples of 1/16; other sizes differ by more than 20.
    assert abs(blurred[..., 1] - expected).max() < 6
    assert set(np.argwhere(blurred[..., 0])[:, 0]) <= set(range(12 - size // 2, 13 + size // 2))


def test_result_is_opencvs():
    image = noise()
    np.testing.assert_array_equal(build(prob=1)(dict(img=image.copy()))['img'], cv2.GaussianBlur(image, (5, 5), 0))


@pytest.mark.parametrize(('options', 'share'), [(dict(), 0.5), (dict(prob=0.5), 0.5), (dict(prob=0.1), 0.1)])
def test_probability(options, share):
    image, blur = noise(), build(**options)
    count = sum((blur(dict(img=image.copy()))['img'] != image).any() for _ in range(1000))
    assert abs(count / 1000 - share) < 0.07


@pytest.mark.parametrize('options', [
    dict(prob=-0.1), dict(prob=1.1), dict(prob=float('nan')), dict(kernel_size=4), dict(kernel_size=0),
    dict(kernel_size=-1), dict(kernel_size=-5), dict(kernel_size=5.0),
], ids=str)
def test_wrong_arguments(options):
    with pytest.raises(UserError, match='expected 0 <= prob <= 1 and an odd kernel_size, got'):
        build(**options)
