"""Fuse each convolution and the batch norm after it into a single convolution."""
import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, overload

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.config_types import type_name
from ..core.errors import ArgumentTypeError
from ..core.tasks import SEGMENTATION, task_of
from ..models.fusion import conv_with, fold_norm
from ..models.reparam import LinearPart
from ..models.repvgg import RepVGG

BATCH_NORMS = ('BN', 'BatchNorm2d', 'BatchNorm')  # Suffixes of the type names: BN, SyncBN, MMSyncBN, nn.SyncBatchNorm ...
# MMCV's Conv2d, which dict(type='Conv') builds, differs from PyTorch's only on empty inputs.
PLAIN_CONVS = ('torch.nn.modules.conv.Conv2d', 'mmcv.cnn.bricks.wrappers.Conv2d')
if TYPE_CHECKING:
    from mmengine.config import Config

Model = TypeVar('Model', bound=nn.Module)


@overload
def fuse(model: LinearPart, inplace: bool = ...) -> nn.Conv2d: ...


@overload
def fuse(model: Model, inplace: bool = ...) -> Model: ...


def fuse(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Fuse RepVGG blocks, and each convolution + batch norm in MMCV's ``ConvModule`` and in ``nn.Sequential``.

    Modules of other packages that have a ``switch_to_deploy()`` method, such as MMPretrain's RepVGG, are fused by that method.

    The fused model computes the same function as the original in eval mode, up to rounding in its dtype; the weights are fused
    in float64. Its state dict has the same keys as a model built with ``deploy=True`` in the backbone and ``norm_cfg=None`` in
    the heads. Fusing a fused model changes nothing. If several norms share a convolution, each gets a fused convolution of its
    own. Subclasses that compute anything other than a plain convolution or batch norm are left unchanged.

    Args:
        model: any model; its dtype, device, mode, and ``requires_grad`` are preserved.
        inplace: whether to modify ``model`` itself instead of a copy.

    Returns:
        The fused model.

    Raises:
        ArgumentTypeError: the model contains a variant of the RepVGG block that cannot be fused, a RepVGG block with an
            unsupported norm, a batch norm without running statistics, or MMPretrain's D2se; the model is left unchanged.
    """
    model = model if inplace else copy.deepcopy(model)
    if isinstance(model, LinearPart):
        return model.fuse()
    # Modules of other packages go first, because switch_to_deploy() expects the branches as they were trained.
    others: list[Any] = [module for module in model.modules()
                         if hasattr(module, 'switch_to_deploy') and not isinstance(module, RepVGG)]
    for module in others:
        _check_other(module)
    for module in others:
        module.switch_to_deploy()
    # Compute everything before replacing anything, so that an error leaves the model unchanged. Replacements are keyed by
    # parent and name, because parents with separate norms may share a convolution, as in RetinaNet's head.
    parts = {module: module.fuse() for module in model.modules() if isinstance(module, LinearPart)}
    replacements: dict[tuple[nn.Module, str], nn.Module] = {
        (parent, name): parts[child] for parent in model.modules() for name, child in parent._modules.items() if child in parts}
    conv_modules: list[Any] = [module for module in model.modules() if _is_conv_module(module)]
    for conv_module in conv_modules:
        replacements[conv_module, 'conv'] = _fuse_conv_norm(conv_module.conv, conv_module.norm)
    for module in model.modules():
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for (name, conv), (norm_name, norm) in pairwise(module._modules.items()):
                if _can_be_folded(conv, norm):
                    replacements[module, name] = _fuse_conv_norm(conv, norm)
                    replacements[module, norm_name] = nn.Identity()

    for (parent, name), module in replacements.items():
        setattr(parent, name, module)
    for conv_module in conv_modules:
        delattr(conv_module, conv_module.norm_name)
        conv_module.norm_name, conv_module.with_norm = None, False
    for module in model.modules():
        if isinstance(module, RepVGG):
            module.switch_to_deploy()  # Its blocks are already fused.
    return model


def fuse_for_inference(model: nn.Module) -> Any:
    """Return a fused copy of a segmentor, without its auxiliary head, or of a classifier.

    Backbones other than RepVGG are left unchanged.
    """
    fused: Any = copy.deepcopy(model).eval()
    if hasattr(fused.backbone, 'switch_to_deploy'):
        fuse(fused.backbone, inplace=True)
    if task_of(fused) == SEGMENTATION:
        fuse(fused.decode_head, inplace=True)
        fused.auxiliary_head = None
    return fused


def fused_model_config(config: 'Config') -> 'Config':
    """Return the config of the model that :func:`fuse_for_inference` returns: ``deploy=True`` and no norms in the head."""
    config = copy.deepcopy(config)
    for key in ('work_dir', 'launcher', 'resume', 'load_from'):
        config.pop(key, None)
    model = config.model
    model.backbone.init_cfg = None
    if type_name(model.backbone).endswith('RepVGG'):  # Also ResidualRepVGG and ResNetRepVGG.
        model.backbone.deploy = True
    if task_of(model) == SEGMENTATION:
        for head in model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]:
            if type_name(head.get('norm_cfg') or {}).endswith(BATCH_NORMS):
                head.norm_cfg = None
        model.auxiliary_head = None
    return config


def _check_other(model: nn.Module) -> None:
    """Reject an MMPretrain RepVGG whose own fusing would change what the model computes.

    Raises:
        ArgumentTypeError: the model has squeeze-and-excitation, which MMPretrain drops when fusing.
    """
    if any(hasattr(block, 'branch_3x3') and getattr(block, 'se_layer', None) is not None for block in model.modules()):
        raise ArgumentTypeError("MMPretrain's RepVGG loses its squeeze-and-excitation when it is fused; use "
                                "type='repvgg_seg.RepVGG', which takes its checkpoints (docs/use-in-your-project.md)")


def _is_conv_module(module: Any) -> bool:
    """Whether a module is an MMCV ``ConvModule`` that applies a convolution and then a batch norm."""
    return getattr(module, 'order', None) == ('conv', 'norm', 'act') and _can_be_folded(module.conv, module.norm)


def _can_be_folded(conv: Any, norm: Any) -> bool:
    """Whether both modules compute what their base classes do, unlike, for example, a convolution with custom padding."""
    return (f'{type(conv).__module__}.{type(conv).__qualname__}' in PLAIN_CONVS and isinstance(norm, _BatchNorm)
            and type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward))


def _fuse_conv_norm(conv: Any, norm: Any) -> nn.Conv2d:
    return conv_with(conv, *fold_norm(conv.weight, conv.bias, norm))
