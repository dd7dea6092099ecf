"""Fuse every convolution + batch norm of a model into single convolutions."""
import copy
from typing import TYPE_CHECKING, Any, TypeVar, overload

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..models.fusion import conv_with, fold_norm
from ..models.linear_part import LinearPart
from ..models.repvgg import RepVGG

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
    Fusing twice does nothing more.

    Args:
        model: any model; dtype, device, mode and ``requires_grad`` are kept.
        inplace: change ``model`` itself instead of a copy.

    Returns:
        The fused model.

    Raises:
        ArgumentTypeError: a variant of the RepVGG block, a norm in one, or a batch norm without running statistics cannot be
            fused; nothing was changed.
    """
    model = model if inplace else copy.deepcopy(model)
    if isinstance(model, LinearPart):
        return model.fuse()
    # What re-parameterizes itself in another package must find its branches as they were.
    for module in list(model.modules()):
        switch_to_deploy = getattr(module, 'switch_to_deploy', None)
        if switch_to_deploy is not None and not isinstance(module, RepVGG):
            switch_to_deploy()
    # Everything is computed before anything is replaced, so that an error leaves the model as it was.
    fused: dict[nn.Module | None, nn.Module] = {}
    conv_modules: list[Any] = [module for module in model.modules() if _is_conv_module(module)]
    for module in model.modules():
        if isinstance(module, LinearPart):
            fused[module] = module.fuse()
        elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            for conv, norm in zip(module, list(module)[1:]):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm):
                    fused.update({conv: _fuse_conv_norm(conv, norm), norm: nn.Identity()})
    for conv_module in conv_modules:
        fused[conv_module.conv] = _fuse_conv_norm(conv_module.conv, conv_module.norm)

    for module in list(model.modules()):
        for name, child in module._modules.items():
            module._modules[name] = fused.get(child, child)
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
    if hasattr(fused, 'decode_head'):
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
    if model.backbone.type.endswith('RepVGG'):  # Also ResidualRepVGG and ResNetRepVGG.
        model.backbone.deploy = True
    if 'decode_head' in model:
        for head in model.decode_head if isinstance(model.decode_head, list) else [model.decode_head]:
            if (head.get('norm_cfg') or {}).get('type', '').endswith('BN'):  # BN, SyncBN, MMSyncBN
                head.norm_cfg = None
        model.auxiliary_head = None
    return config


def _is_conv_module(module: nn.Module) -> bool:
    """Whether a module is an MMCV ``ConvModule`` that runs its convolution, then its batch norm."""
    return (getattr(module, 'order', None) == ('conv', 'norm', 'act') and isinstance(module.conv, nn.Conv2d)
            and isinstance(module.norm, _BatchNorm))


def _fuse_conv_norm(conv: nn.Conv2d, norm: nn.Module) -> nn.Conv2d:
    return conv_with(conv, *fold_norm(conv.weight, conv.bias, norm))
