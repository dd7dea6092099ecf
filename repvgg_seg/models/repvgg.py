"""The RepVGG backbone: https://arxiv.org/abs/2101.03697."""
import copy
from collections.abc import Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.errors import ArgumentTypeError, UserError
from ..registry import MODELS, root
from .archs import RepVGGArch, get_arch
from .blocks import RepConv, RepVGGBlock
from .branches import BranchSum
from .dilation import resolve_dilation
from .pretrained import load_pretrained, pretrained_config
from .recomputing import recomputed
from .reparam import fuse_linear_parts, get_linear_part


@root.MODELS.register_module()
@MODELS.register_module()
class RepVGG(nn.Module):
    """RepVGG body of five stages, with the dilation needed for segmentation (paper, Table 2 and section 4.3).

    ======== ================== ============= =========================================================
    dilation strides of stages  output stride dilation of the 3x3 convolutions
             2, 3, 4, 5
    ======== ================== ============= =========================================================
    None     2, 2, 2, 2         32            1
    'full'   2, 2, 1, 1         8             2 in stage 4, 4 in stage 5
    'fast'   2, 2, 1, 1         8             2 in the last 4 blocks of stage 4, 4 in stage 5
    ======== ================== ============= =========================================================

    A checkpoint of one variant loads into every other variant. ``init_cfg=dict(type='Pretrained', checkpoint=...)`` loads
    weights completely or not at all; see :func:`repvgg_seg.models.pretrained.load_pretrained`.

    Args:
        arch: name of an architecture in :data:`repvgg_seg.models.archs.ARCHS`, or a dict with the fields of
            :class:`~repvgg_seg.models.archs.RepVGGArch`.
        dilation: dilation preset from the table above: None, 'full' or 'fast'.
        out_indices: indices of the stages whose outputs are returned; 0 to 3 correspond to the paper's stages 2 to 5.
        in_channels: number of image channels.
        strides: stride of the first block of each of the 4 stages, 1 or 2; an alternative to ``dilation``.
        dilations: for each of the 4 stages, one dilation or one for each of its blocks; an alternative to ``dilation``.
        frozen_stages: number of frozen stages. -1: none; 0: the stem; n: the stem and the first n stages. Frozen stages stay in
            eval mode and get no gradients.
        norm_cfg: MMCV config of the norm layers; fusing requires a batch norm.
        norm_eval: whether batch norms stay in eval mode during training.
        with_cp: what to recompute in the backward pass to save memory. True: each block; '1x1': only the 1x1 branches, which
            costs far less time.
        deploy: whether to build the fused form, a plain stack of 3x3 convolutions and ReLUs.
        block: config of the part of a block before its ReLU during training, e.g. ``dict(type='AsymmetricConv')``; see
            :mod:`repvgg_seg.models.variants`. None: the paper's :class:`~repvgg_seg.models.blocks.RepConv`.
        init_cfg: MMEngine's initialization config. By default, layers keep PyTorch's initialization, as in the official code.

    Raises:
        UserError (a ValueError), ArgumentTypeError (a TypeError): an argument is invalid.

    Example:
        >>> import torch
        >>> from repvgg_seg.models import RepVGG
        >>> backbone = RepVGG('A0', dilation='full', out_indices=(2, 3)).eval()
        >>> [tuple(features.shape) for features in backbone(torch.zeros(1, 3, 65, 97))]
        [(1, 192, 9, 13), (1, 1280, 9, 13)]
    """

    def __init__(self, arch: str | Mapping | RepVGGArch = 'B2', dilation: str | None = None, out_indices: Sequence[int] = (3, ),
                 in_channels: int = 3, strides: Sequence[int] | None = None,
                 dilations: Sequence[int | Sequence[int]] | None = None, frozen_stages: int = -1,
                 norm_cfg: dict = dict(type='BN'), norm_eval: bool = False, with_cp: bool | str = False,
                 deploy: bool = False, block: Mapping | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__()
        spec = get_arch(arch)
        strides, dilations = resolve_dilation(spec.num_blocks, dilation, strides, dilations)
        if not isinstance(out_indices, (tuple, list)):
            raise ArgumentTypeError(f'out_indices must be a sequence of stage indices, got {out_indices!r}')
        if not out_indices or not all(isinstance(index, int) for index in out_indices) or (
                list(out_indices) != sorted(set(out_indices) & set(range(4)))):
            raise UserError(f'out_indices must be increasing indices from 0 to 3, got {tuple(out_indices)}')
        if not isinstance(frozen_stages, int) or not -1 <= frozen_stages <= 4:
            raise UserError(f'frozen_stages must be an integer from -1 (none) to 4 (all), got {frozen_stages!r}')
        if not isinstance(in_channels, int) or in_channels < 1:
            raise UserError(f'in_channels must be a positive integer, got {in_channels!r}')
        if not isinstance(with_cp, bool) and with_cp != '1x1':
            raise UserError(f"with_cp must be False, True (each block) or '1x1' (the 1x1 branches), got {with_cp!r}")
        self.arch = arch
        self.out_indices = tuple(out_indices)
        self.out_channels = tuple(spec.stage_widths[index] for index in out_indices)
        self.frozen_stages, self.norm_eval, self.with_cp, self.deploy = frozen_stages, norm_eval, with_cp, deploy
        self.init_cfg, self.is_init = copy.deepcopy(init_cfg), False

        groups = spec.layer_groups()
        make_block = partial(RepVGGBlock, norm_cfg=norm_cfg, use_se=spec.use_se, deploy=deploy,
                             linear_part=RepConv if block is None else get_linear_part(block))
        self.stem = make_block(in_channels, spec.stem_width, stride=2, groups=next(groups))
        self.stages = nn.ModuleList()
        channels = spec.stem_width
        for widths, stride, block_dilations in zip(spec.widths[1:], strides, dilations):
            blocks = []
            for index, (width, block_dilation) in enumerate(zip(widths, block_dilations)):
                blocks.append(make_block(channels, width, stride if index == 0 else 1, block_dilation, next(groups)))
                channels = width
            self.stages.append(self._make_stage(blocks, norm_cfg))
        for module in self.modules():
            if isinstance(module, BranchSum):
                module.recompute_1x1 = with_cp == '1x1'
        self._freeze()

    def init_weights(self) -> None:
        """Initialize according to ``init_cfg``, on the first call only. Pretrained weights are loaded strictly.

        Raises:
            CheckpointError: the weights cannot be read or do not fit this backbone.
        """
        if self.is_init:
            return
        if pretrained := pretrained_config(self.init_cfg):
            load_pretrained(self, pretrained['checkpoint'], pretrained.get('prefix'), pretrained.get('key'))
        elif self.init_cfg:
            # Imported late, because it loads MMEngine's optimizers, which takes ten times as long as importing this package.
            # MMEngine's BaseModule as a base class would load them too.

            from mmengine.model import initialize
            initialize(self, self.init_cfg)
        self.is_init = True

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the feature maps.

        Args:
            x: images (N, in_channels, H, W).

        Returns:
            For each of ``out_indices`` a feature map (N, C, ceil(H / s), ceil(W / s)), where C comes from ``out_channels`` and
            s is the stride of the stage.
        """
        x = self.stem(x)
        outputs = []
        for index, stage in enumerate(self.stages):
            for block in stage.children():
                x = recomputed(block, x) if self.with_cp is True and x.requires_grad else block(x)
            if index in self.out_indices:
                outputs.append(x)
        return tuple(outputs)

    def train(self, mode: bool = True) -> 'RepVGG':
        """Set the mode, but keep frozen stages and, with ``norm_eval``, all batch norms in eval mode."""
        super().train(mode)
        if mode:
            for frozen in self._frozen_modules():
                frozen.eval()
            if self.norm_eval:
                for module in self.modules():
                    if isinstance(module, _BatchNorm):
                        module.eval()
        return self

    def switch_to_deploy(self) -> 'RepVGG':
        """Fuse every block in place; a second call does nothing.

        Raises:
            ArgumentTypeError: a norm or a block variant cannot be fused; nothing was changed.
        """
        fuse_linear_parts(self)
        self.deploy = True
        return self

    def _make_stage(self, blocks: Sequence[RepVGGBlock], norm_cfg: dict) -> nn.Sequential:
        return nn.Sequential(*blocks)

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.stem, *self.stages][:self.frozen_stages + 1]

    def _freeze(self) -> None:
        for frozen in self._frozen_modules():
            frozen.eval().requires_grad_(False)
