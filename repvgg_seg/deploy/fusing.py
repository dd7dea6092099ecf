"""Fuse every convolution + batch norm of a model into single convolutions."""
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

BATCH_NORMS = ('BN', 'BatchNorm2d', 'BatchNorm')  # Ends of their names: BN, SyncBN, MMSyncBN, nn.SyncBatchNorm ...
# MMCV's, of dict(type='Conv'), differs from PyTorch's on empty inputs only.
PLAIN_CONVS = ('torch.nn.modules.conv.Conv2d', 'mmcv.cnn.bricks.wrappers.Conv2d')
if TYPE_CHECKING:
    from mmengine.config import Config

Model = TypeVar('Model', bound=nn.Module)


@overload
def fuse(model: LinearPart, inplace: bool = ...) -> nn.Conv2d: ...


@overload
def fuse(model: Model, inplace: bool = ...) -> Model: ...


def fuse(model: nn.Module, inplace: bool = False) -> nn.Module:
    """Fuse RepVGG blocks, and convolution + batch norm in MMCV's ``ConvModule`` and in ``nn.Sequential``.

    Modules of other packages that have a ``switch_to_deploy()``, such as MMPretrain's RepVGG, fuse themselves by it.

    The result equals the model in eval mode, up to the rounding of its dtype; the algebra is done in float64. It has the
    keys that the same model has when it is built with ``deploy=True`` in the backbone and ``norm_cfg=None`` in the heads.
    Fusing twice does nothing more. A convolution that several norms share becomes one for each of them; subclasses that compute
    something else than a plain convolution or batch norm stay as they are.

    Args:
        model: any model; dtype, device, mode and ``requires_grad`` are kept.
        inplace: change ``model`` itself instead of a copy.

    Returns:
        The fused model.

    Raises:
        ArgumentTypeError: a variant of the RepVGG block, a norm in one, a batch norm without running statistics, or
            MMPretrain's D2se cannot be fused; nothing was changed.
    """
    model = model if inplace else copy.deepcopy(model)
    if isinstance(model, LinearPart):
        return model.fuse()
    # What re-parameterizes itself in another package must find its branches as they were.
    others: list[Any] = [module for module in model.modules()
                         if hasattr(module, 'switch_to_deploy') and not isinstance(module, RepVGG)]
    for module in others:
        _check_other(module)
    for module in others:
        module.switch_to_deploy()
    # Everything is computed before anything is replaced, so that an error leaves the model as it was. A place is replaced, not
    # a module: a convolution may be shared by places with norms of their own, as in RetinaNet's head with separate ones.
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
            module.switch_to_deploy()  # Whose blocks are fused already.
    return model


def fuse_for_inference(model: nn.Module) -> Any:
    """A fused copy of a segmentor, without its auxiliary head, or of a classifier.

    Backbones other than RepVGG are left as they are.
    """
    fused: Any = copy.deepcopy(model).eval()
    if hasattr(fused.backbone, 'switch_to_deploy'):
        fuse(fused.backbone, inplace=True)
    if task_of(fused) == SEGMENTATION:
        fuse(fused.decode_head, inplace=True)
        fused.auxiliary_head = None
    return fused


def fused_model_config(config: 'Config') -> 'Config':
    """The config that builds what :func:`fuse_for_inference` returns: ``deploy=True``, no norms in the head."""
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
    """Refuse MMPretrain's RepVGG where its own fusing gives another function.

    Raises:
        ArgumentTypeError: it has squeeze-and-excitation, which is left out when it is fused.
    """
    if any(hasattr(block, 'branch_3x3') and getattr(block, 'se_layer', None) is not None for block in model.modules()):
        raise ArgumentTypeError("MMPretrain's RepVGG loses its squeeze-and-excitation when it is fused; use "
                                "type='repvgg_seg.RepVGG', which takes its checkpoints (docs/use-in-your-project.md)")


def _is_conv_module(module: Any) -> bool:
    """Whether a module is an MMCV ``ConvModule`` that runs its convolution, then its batch norm."""
    return getattr(module, 'order', None) == ('conv', 'norm', 'act') and _can_be_folded(module.conv, module.norm)


def _can_be_folded(conv: Any, norm: Any) -> bool:
    """Whether both compute what their base classes do: not, say, a convolution that pads in its own way."""
    return (f'{type(conv).__module__}.{type(conv).__qualname__}' in PLAIN_CONVS and isinstance(norm, _BatchNorm)
            and type(norm).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward))


def _fuse_conv_norm(conv: Any, norm: Any) -> nn.Conv2d:
    return conv_with(conv, *fold_norm(conv.weight, conv.bias, norm))
