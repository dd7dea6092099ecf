"""ResNet with RepVGG blocks: the paper's cross-check in section 4.2. Needs MMPretrain, so configs import it explicitly."""
from typing import Any

from torch import nn

from ...core.environment import require_mm
from ...registry import MODELS
from ..blocks import RepConv
from ..reparam import fuse_linear_parts

require_mm('mmcv', 'mmpretrain')

from mmcv.cnn import fuse_conv_bn  # noqa: E402
from mmpretrain.models.backbones.resnet import Bottleneck, ResNet  # noqa: E402


class RepVGGBottleneck(Bottleneck):
    """MMPretrain's bottleneck (1x1, 3x3 and 1x1 layers) with a RepVGG block as the 3x3 layer.

    Args:
        *args, **kwargs: see MMPretrain's ``Bottleneck``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv2 = RepConv(self.mid_channels, self.mid_channels, self.conv2_stride, self.dilation, norm_cfg=self.norm_cfg)
        self.add_module(self.norm2_name, nn.Identity())


@MODELS.register_module()
class ResNetRepVGG(ResNet):
    """MMPretrain's ResNet with RepVGG blocks as 3x3 layers: 76.34 top-1 on ImageNet; ResNet-50 has 76.31 (section 4.2).

    Re-parameterization helps plain networks; a ResNet already has shortcuts.

    Args:
        depth: depth of the network, 50, 101 or 152.
        deploy: whether to build the fused form.
        **kwargs: other arguments of MMPretrain's ``ResNet``.
    """
    arch_settings = {depth: (RepVGGBottleneck, blocks) for depth, (block, blocks) in ResNet.arch_settings.items()
                     if block is Bottleneck}

    def __init__(self, depth: int = 50, deploy: bool = False, **kwargs: Any) -> None:
        super().__init__(depth, **kwargs)
        if deploy:
            self.switch_to_deploy()

    def train(self, mode: bool = True) -> 'ResNetRepVGG':
        """Set the mode and return the model; MMPretrain's method returns None."""
        super().train(mode)
        return self

    def switch_to_deploy(self) -> 'ResNetRepVGG':
        """Fuse every RepVGG block, and every other convolution with its batch norm, in place; a second call does nothing.

        Raises:
            ArgumentTypeError: a norm in a RepVGG block cannot be fused; nothing was changed.
        """
        fuse_linear_parts(self)
        fuse_conv_bn(self)
        return self
