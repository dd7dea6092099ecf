"""Networks for timing, by name: ours and the alternatives."""
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..core.config_types import type_name
from ..core.configs import existing_config
from ..core.errors import UserError
from ..deploy.formats import PRECISIONS, native_precisions
from ..deploy.fusing import fuse, fuse_for_inference
from ..deploy.undilation import undilate
from ..engine.hardware import use_channels_last
from ..models.reparam import LinearPart
from .classifiers import NAMES, model_config
from .complexity import MultiplicationCounter
from .runtimes import RUNTIMES, LastMap

FORMS = {
    'stock': "built from MMPretrain's RepVGG and MMSegmentation's PSPHead, fused by MMPretrain's own method",
    'training': 'not fused',
    'body': 'the backbone alone',
    'head': 'the decode head alone',
    'step': 'one step of training a segmentor: forward, backward, SGD',
    'undilated': 'without dilated convolutions',
    **{name: f'in {name} instead of PyTorch' for name in RUNTIMES},
}
MATRIX_PRODUCT = 'matmul'
MANY_VERSIONS = 1000  # More than all networks of a suite have.
Compiled = TypeVar('Compiled', bound=Callable)
Convolution = nn.Conv2d | nn.ConvTranspose2d


class Residual(nn.Module):
    """ReLU(body(x) + x); x stays in memory until the addition."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """Compute an output of the input's shape (N, C, H, W)."""
        return torch.relu_(self.body(x) + x)


def conv(kernel: int, channels: int) -> nn.Conv2d:
    """A convolution that preserves size and number of channels."""
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2)


def run_of_layers(channels: int, dilation: int = 1) -> nn.Sequential:
    """Four 3x3 convolutions with their ReLUs."""
    return nn.Sequential(*(layer for _ in range(4) for layer in (
        nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation), nn.ReLU(True))))


def run_of_blocks(channels: int) -> nn.Sequential:
    """The same four layers in two blocks with shortcuts."""
    return nn.Sequential(*(Residual(nn.Sequential(conv(3, channels), nn.ReLU(True), conv(3, channels))) for _ in range(2)))


# Name -> function that builds a single operation, and its number of input channels.
OPERATIONS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    **{f'conv{kernel}x{kernel}': (partial(conv, kernel, 2048), 2048) for kernel in (1, 3, 5, 7)},  # The paper's Table 1.
    # Figure 3: memory without and with a shortcut. There are two blocks because the caller keeps the input of the first one.
    'plain-blocks': (partial(run_of_layers, 256), 256), 'residual-blocks': (partial(run_of_blocks, 256), 256),
    # Four layers of stage 4 of B1, without dilation, and with the dilation used for segmentation.
    'plain-run': (partial(run_of_layers, 512), 512), 'dilated-run': (partial(run_of_layers, 512, 2), 512),
}
DTYPES = {'fp32': torch.float32, 'tf32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}  # Of PyTorch.
TIMED_PRECISIONS = (*DTYPES, 'int8')


@dataclass(frozen=True)
class Setting:
    """Settings with which networks are timed.

    Args:
        batch: images per batch.
        size: image height and width.
        precision: one of ``TIMED_PRECISIONS``; for a training step, the precision of autocast.
        channels_last: whether to use the channels-last memory format.
        compiled: whether to use ``torch.compile``.
        threads: number of CPU threads.
        device: 'cpu' or 'cuda'.
        options: settings to change in every config, by their dotted keys.
    """
    batch: int = 1
    size: tuple[int, int] = (224, 224)
    precision: str = 'fp32'
    channels_last: bool = False
    compiled: bool = False
    threads: int = 1
    device: str = 'cpu'
    options: dict = field(default_factory=dict)


class Run:
    """Function to be timed. ``info`` contains the multiply-adds of one run if they can be counted."""

    def __init__(self, function: Callable[[], object], device: str, countable: bool = True) -> None:
        self.function, self.device = function, device
        self.info: dict[str, float] = {}
        if countable:
            with MultiplicationCounter() as counter:
                function()
            self.info = dict(flops=counter.flops)

    def __call__(self) -> None:
        self.function()
        if self.device == 'cuda':
            torch.cuda.synchronize()


def split_name(text: str) -> tuple[set[str], str]:
    """'step:stock:NAME' -> {'step', 'stock'}, 'NAME'.

    Raises:
        UserError: unknown forms or name, or forms that cannot be combined.
    """
    *forms, name = text.split(':')
    if unknown := set(forms) - set(FORMS):
        raise UserError(f'{text}: unknown {", ".join(sorted(unknown))}; expected {", ".join(FORMS)}')
    single = name in OPERATIONS or name == MATRIX_PRODUCT
    if name.endswith('.py'):
        existing_config(name)
    elif not (single or name in NAMES or Path(name).is_file()):
        raise UserError(f'{name} is neither a config nor one of {", ".join((*NAMES, *OPERATIONS, MATRIX_PRODUCT))}')
    runtimes = set(forms) & set(RUNTIMES)
    if (single and set(forms) - runtimes) or {'body', 'head'} <= set(forms) or len(runtimes) > 1 or (
            {'undilated', 'training'} <= set(forms)) or ('step' in forms and set(forms) - {'stock', 'step'}):
        raise UserError(f'{text}: these cannot be combined')
    if name in NAMES and set(forms) & {'step', 'head'}:
        raise UserError(f'{text} is for segmentors; give a config instead of {name}')
    return set(forms), name


def is_config(name: str) -> bool:
    """Whether the name of a network is the path of a config."""
    return name not in (*NAMES, *OPERATIONS, MATRIX_PRODUCT)


def possible(text: str, setting: Setting) -> bool:
    """Whether a network supports a setting; see :func:`check_setting`."""
    try:
        check_setting(text, setting)
    except UserError:
        return False
    return True


def check_setting(text: str, setting: Setting) -> None:
    """Check that a network supports a setting.

    Raises:
        UserError: it does not; see :func:`split_name`, too.
    """
    forms, name = split_name(text)
    if name == 'VGG-16' and setting.size != (224, 224):
        raise UserError(f'{text} is for --size 224 224')
    runtime = runtime_of(forms)
    if runtime is None:
        if setting.precision not in DTYPES:
            able = [f'{each}:' for each, entry in RUNTIMES.items() if setting.precision in entry.precisions]
            raise UserError(f'{text}: PyTorch is timed in {", ".join(DTYPES)}, not in {setting.precision}; put '
                            f'{" or ".join(able)} in front')
        return
    able = [each for each in RUNTIMES[runtime].precisions if each in native_precisions()]
    if setting.precision not in able or setting.device != 'cpu' or setting.compiled or setting.channels_last:
        raise UserError(f'{text}: other runtimes are timed on the CPU only, without --compile and --channels-last, this one on '
                        f'this CPU in {" or ".join(able)}')


def runtime_of(forms: set[str]) -> str | None:
    """The runtime other than PyTorch among the forms of a network."""
    return next(iter(forms & set(RUNTIMES)), None)


def matrix_size(setting: Setting) -> int:
    """Side length of the matrices of ``MATRIX_PRODUCT``. It is small on a CPU that emulates the precision, to save minutes."""
    if setting.device == 'cuda':
        return 8192
    return 256 if setting.precision in PRECISIONS and setting.precision not in native_precisions() else 2048


def make(text: str, setting: Setting) -> Run:
    """Build a network to be timed.

    Args:
        text: ``[FORM:]...NAME``, see ``FORMS``; the name of a classifier or of a single operation, or the path of a config.
        setting: settings with which it runs.

    Raises:
        UserError: see :func:`check_setting`; or a part of a network in deployed form cannot be fused.
    """
    forms, name = split_name(text)
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.precision == 'tf32'
    check_setting(text, setting)
    if name == MATRIX_PRODUCT:
        size = matrix_size(setting)
        one, other = (torch.randn(size, size, device=setting.device).to(DTYPES[setting.precision]) for _ in range(2))
        return Run(lambda: one @ other, setting.device)
    runtime = runtime_of(forms)
    if name in OPERATIONS:
        operation, channels = OPERATIONS[name]
        return inference(operation(), (channels, *setting.size), setting, runtime)
    model = build(name, 'stock' in forms, setting.options)
    if 'step' in forms:
        return training_step(model, setting)
    if 'training' not in forms:
        model = deployed(model)
    if 'undilated' in forms:
        model = undilate(model)
    model.eval()
    if 'head' in forms:
        with torch.no_grad():
            features = model.extract_feat(torch.randn(1, 3, *setting.size))
        head = OnFeatures(model.decode_head, len(features))
        return inference(head, tuple(features[model.decode_head.in_index].shape[1:]), setting, runtime)
    return inference(LastMap(model.backbone if 'body' in forms else model), (3, *setting.size), setting, runtime)


class OnFeatures(nn.Module):
    """A head that receives the same map in place of each of the backbone's outputs."""

    def __init__(self, head: nn.Module, maps: int) -> None:
        super().__init__()
        self.head, self.maps = head, maps

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits from a map (N, C, H, W)."""
        return self.head([x] * self.maps)


def build(name: str, stock: bool, options: dict) -> BaseModel:
    """Build a classifier of the paper, or the model of a config, in training form with random weights."""
    config = model_config(name, options)
    return MODELS.build(stock_config(config) if stock else config)


def stock_config(config: ConfigDict) -> ConfigDict:
    """Config of the same network with MMPretrain's RepVGG and MMSegmentation's PSPHead.

    Raises:
        UserError: they cannot express the network.
    """
    config = copy.deepcopy(config)
    backbone, head = config.backbone, config.get('decode_head')
    if type_name(backbone) == 'RepVGG':
        if backbone.get('block'):
            raise UserError(f"MMPretrain's RepVGG has the paper's block only, not {type_name(backbone.block)}; "
                            'leave stock: out')
        dilation = backbone.pop('dilation', None)
        if dilation == 'fast' or not isinstance(backbone.arch, str) or backbone.get('dilations'):
            raise UserError("MMPretrain's RepVGG has one dilation a stage, which cannot express dilation='fast'; leave stock: "
                            'out, or give a config with another')
        backbone.type = 'mmpretrain.RepVGG'
        if dilation == 'full':
            backbone.update(strides=(2, 2, 1, 1), dilations=(1, 1, 2, 4))
    if head and type_name(head) == 'FactorizedPSPHead':
        head.type = 'PSPHead'
        if head.pop('pool_channels', head.channels) != head.channels:
            raise UserError(f"MMSegmentation's PSPHead has {head.channels} channels in its pyramid branches as everywhere; to "
                            f'compare with it use --cfg-options model.decode_head.pool_channels={head.channels}')
    return config


def deployed(model: BaseModel) -> BaseModel:
    """Convert a network to deployed form: fuse its blocks and every convolution with batch norm.

    Raises:
        UserError: a part could not be fused, so the network is not in deployed form.
    """
    model = fuse(fuse_for_inference(model), inplace=True)
    kept = norms_without_convolution(model)
    for module in model.modules():
        for (name, conv), (norm_name, norm) in norms_beside_convolutions(module):
            if norm not in kept:
                setattr(module, name, fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d)))
                setattr(module, norm_name, nn.Identity())
    left = [name for name, module in model.named_modules()
            if isinstance(module, (LinearPart, _BatchNorm)) and module not in kept]
    if left:
        raise UserError(f'{left[0]} and {len(left) - 1} more are not fused, so this is not the deployed form; time it as '
                        'training:NAME')
    return model


def norms_beside_convolutions(module: nn.Module) -> list[tuple[tuple[str, Convolution], tuple[str, _BatchNorm]]]:
    """Pairs of a convolution and the next batch norm among the children of a module, with their names."""
    convolution, pairs = None, []
    for name, child in module.named_children():
        if isinstance(child, Convolution):
            convolution = name, child
        elif isinstance(child, _BatchNorm) and convolution is not None:
            pairs.append((convolution, (name, child)))
            convolution = None
    return pairs


def norms_without_convolution(model: nn.Module) -> set[nn.Module]:
    """Batch norms that remain in deployed form, because no convolution precedes them directly.

    They are those before an activation and a convolution, as in DDRNet and PIDNet, those after pooling, as in BiSeNetV2, and
    those of a convolution's output beside something else, as in ERFNet. PIDNet's heads also have a norm beside a module of the
    first kind, which runtimes other than PyTorch fold.
    """
    found: set[nn.Module] = set()
    for module in model.modules():
        found |= {norm for (_, conv), (_, norm) in norms_beside_convolutions(module) if conv.out_channels != norm.num_features}
        if is_preactivated(module):
            found.add(cast(Any, module).norm)
        elif is_preactivated(getattr(module, 'conv', None)) and isinstance(norm := getattr(module, 'norm', None), _BatchNorm):
            found.add(norm)
        elif isinstance(module, nn.Sequential):
            found |= {norm for before, norm in pairwise(module) if isinstance(norm, _BatchNorm)
                      and not isinstance(before, Convolution | nn.Identity)}
    return found


def is_preactivated(module: Any) -> bool:
    """Whether a module is MMCV's ``ConvModule`` with a norm that comes first."""
    return getattr(module, 'order', ('conv', ))[0] == 'norm' and module.with_norm


def inference(model: nn.Module, shape: tuple[int, ...], setting: Setting, runtime: str | None = None) -> Run:
    """Forward pass of a random batch, in PyTorch or another runtime."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    dtype = torch.float32 if runtime else DTYPES[setting.precision]
    network: Any = model.eval()  # PyTorch's type hints lack the argument `memory_format`.
    network = network.to(setting.device, dtype, memory_format=layout)
    x = torch.randn(setting.batch, *shape).to(setting.device, dtype).to(memory_format=layout)
    run = Run(lambda: torch.no_grad()(network)(x), setting.device)
    if setting.compiled:
        compiled = compile_each(network)
        run.function = lambda: torch.no_grad()(compiled)(x)
    if runtime:
        run.function = RUNTIMES[runtime].prepare(network, x, setting.threads, setting.precision)
    return run


def compile_each(function: Compiled) -> Compiled:
    """Compile one of many networks of a process with ``torch.compile``.

    The networks share the code of their modules' forward(), of which PyTorch compiles only 8 versions by default. It would run
    the others without compiling them, and only log that.
    """
    torch._dynamo.config.recompile_limit = MANY_VERSIONS
    torch._dynamo.config.accumulated_recompile_limit = MANY_VERSIONS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    compiled: Any = torch.compile(function)
    return compiled


def training_step(model: BaseModel, setting: Setting) -> Run:
    """Training step of a segmentor on a random batch."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    model = model.train().to(setting.device)
    if setting.channels_last:
        use_channels_last(model, setting.device)
    x = torch.randn(setting.batch, 3, *setting.size).to(setting.device).to(memory_format=layout)
    classes = model.decode_head.num_classes
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(classes, (1, *setting.size), device=setting.device)))
               for _ in range(setting.batch)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    scaler = torch.amp.GradScaler(setting.device, enabled=setting.precision == 'fp16')
    loss_of = compile_each(model.loss) if setting.compiled else model.loss
    autocast = torch.autocast(setting.device, DTYPES[setting.precision], enabled=setting.precision in ('bf16', 'fp16'))

    def step() -> None:
        with autocast:
            losses = loss_of(x, samples)
        scaler.scale(sum(value for name, value in losses.items() if 'loss' in name)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return Run(step, setting.device, countable=False)
