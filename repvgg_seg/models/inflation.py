"""Weights of networks for RGB images in networks for images of another number of channels."""
from collections.abc import Mapping

from torch import Tensor

from ..core.logs import print_log

RGB = 3  # Channels of the images that published weights are for.


def inflate_stem(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Adapt the first convolutions of a backbone from 3 image channels to another number.

    Each of the ``C`` channels gets the mean of the kernels of red, green and blue, times 3 / C. The kernels then have the same
    sum over the channels as before, so that an image with equal channels gives the same features as a gray RGB image. This
    initialization is common for a single channel (timm) and was introduced for stacks of optical flow (Wang et al., Temporal
    Segment Networks, ECCV 2016).

    Args:
        weights: weights by name.
        wanted: weights of the network that they are loaded into.
        source: origin of the weights, for the log.

    Returns:
        The weights, in which the kernels of the stem have the wanted number of input channels.
    """
    inflated = dict(weights)
    for name, kernel in weights.items():
        shape = wanted[name].shape if name in wanted else kernel.shape
        if '.stem.' in f'.{name}' and kernel.dim() == len(shape) == 4 and kernel.shape[1] == RGB != shape[1]:
            channels = shape[1]
            inflated[name] = kernel.mean(1, keepdim=True).repeat(1, channels, 1, 1) * (RGB / channels)
    if changed := [name for name in weights if inflated[name] is not weights[name]]:
        channels = wanted[changed[0]].shape[1]
        print_log(f'The stem of {source} is for {RGB} image channels, the backbone takes {channels}: each gets the mean of the '
                  f'kernels of red, green and blue, times {RGB} / {channels}', 'current')
    return inflated
