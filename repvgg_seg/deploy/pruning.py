"""Structured pruning: remove the channels of a fused segmentor that matter least for its loss."""
import copy
import io
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .. import __version__
from ..core.config_types import type_name
from ..core.errors import UserError
from ..core.replacing import replacement
from ..core.tasks import SEGMENTATION, task_of
from ..engine.runner import Runner
from ..engine.trained_model import FUSED_CONFIG, FUSED_WEIGHTS, build_trained
from ..runtime.backends import load_file
from .channels import ChannelGroup, channel_groups, pruned_state, set_widths
from .comparison import timing
from .deploying import count
from .exporting import is_undilated
from .formats import FORMATS, ExportRequest
from .fusing import fuse_for_inference, fused_model_config
from .plan import DeployPlan
from .programs import Exporter
from .undilation import undilate

TEACHER, REPORT = 'teacher.py', 'prune.json'
DECISIONS = 16  # A group loses its channels in at most so many steps.
# Learning rate of fine-tuning, relative to that of the training. With a quarter, a network without batch norm diverged.
FINE_TUNING_RATE = 0.05


@dataclass
class PruneReport:
    """What pruning did. Multiplications are those of the convolutions for one image of the given size."""
    keep: float
    size: tuple[int, int]
    images: int
    multiplications_before: int
    multiplications_after: int
    parameters_before: int
    parameters_after: int
    widths: dict[str, list[int]]  # Numbers of channels before and after, by group.

    def lines(self) -> list[str]:
        """Format the report as lines for the terminal."""
        before, after = self.multiplications_before / 1e6, self.multiplications_after / 1e6
        return [f'multiplications (millions) {before:>14,.1f} -> {after:>14,.1f}   ({self.keep:.1%}, one image of '
                f'{self.size[0]}x{self.size[1]})',
                f'parameters                 {self.parameters_before:>14,} -> {self.parameters_after:>14,}']


class OutputPixels(TorchFunctionMode):
    """Context manager that counts the output pixels of each convolution.

    Args:
        model: model whose convolutions are counted, also those that a head computes from slices of a weight.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.convs = {conv.weight.untyped_storage().data_ptr(): conv for conv in model.modules() if isinstance(conv, nn.Conv2d)}
        self.pixels: dict[nn.Conv2d, int] = {}

    def __torch_function__(self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func is F.conv2d:
            weight = args[1] if len(args) > 1 else (kwargs or {})['weight']
            if (conv := self.convs.get(weight.untyped_storage().data_ptr())) is not None:
                self.pixels[conv] = output.shape[2] * output.shape[3]
        return output


@torch.no_grad()
def output_pixels(model: Any, channels: int, size: tuple[int, int]) -> dict[nn.Conv2d, int]:
    """Number of output pixels of each convolution of a segmentor for one image.

    Args:
        model: segmentor.
        channels: number of channels of its images.
        size: height and width of the image.
    """
    with OutputPixels(model) as counted:
        model(next(model.parameters()).new_zeros(1, channels, *size), mode='tensor')
    return counted.pixels


class Selection:
    """Channels that are kept, and the multiplications that the convolutions need with them.

    Args:
        groups: channel groups of a model.
        importance: importance of each channel, by the name of the group.
        pixels: number of output pixels of each convolution.
        multiple: number that the widths should be multiples of, in each part of a group.
    """

    def __init__(self, groups: Sequence[ChannelGroup], importance: Mapping[str, Tensor], pixels: Mapping[nn.Conv2d, int],
                 multiple: int) -> None:
        self.groups, self.importance, self.pixels = groups, importance, pixels
        self.steps = {group.name: multiple * max(1, group.size // (group.parts * multiple * DECISIONS)) for group in groups}
        # Of each part, the channels that are kept, the most important ones first.
        self.kept = {group.name: [part + start for start, part in zip(
            range(0, group.size, group.size // group.parts),
            importance[group.name].view(group.parts, -1).argsort(dim=1, descending=True))] for group in groups}
        self.convs = {span.conv: None for group in groups for span in (*group.producers, *group.consumers)}
        self.outputs = {conv: conv.out_channels for conv in self.convs}
        self.inputs = {conv: conv.in_channels for conv in self.convs}

    @property
    def multiplications(self) -> int:
        """Multiplications of the convolutions for one image."""
        return sum(map(self.cost, self.convs))

    def cost(self, conv: nn.Conv2d) -> int:
        """Multiplications of a convolution for one image."""
        return self.pixels[conv] * self.outputs[conv] * self.inputs[conv] // conv.groups * math.prod(conv.kernel_size)

    def remove_least_important(self) -> bool:
        """Remove the channels that matter least per multiplication that they cost.

        Returns:
            False if no group can lose channels.
        """
        candidates = [group for group in self.groups if len(self.kept[group.name][0]) > self.steps[group.name]]
        if not candidates:
            return False
        best = min(candidates, key=self._importance_per_multiplication)
        step = self.steps[best.name]
        self.kept[best.name] = [part[:-step] for part in self.kept[best.name]]
        self._change(best, -1)
        return True

    def indices(self) -> dict[str, Tensor]:
        """Sorted indices of the channels that are kept, by the name of the group."""
        return {name: torch.cat(parts).sort().values for name, parts in self.kept.items()}

    def _importance_per_multiplication(self, group: ChannelGroup) -> float:
        step = self.steps[group.name]
        lost = sum(float(self.importance[group.name][part[-step:]].sum()) for part in self.kept[group.name])
        convs = {span.conv for span in (*group.producers, *group.consumers)}
        before = sum(map(self.cost, convs))
        self._change(group, -1)
        saved = before - sum(map(self.cost, convs))
        self._change(group, 1)
        return lost / saved

    def _change(self, group: ChannelGroup, sign: int) -> None:
        step = self.steps[group.name]
        for role, counts in ((group.producers, self.outputs), (group.consumers, self.inputs)):
            for span in role:
                # A span covers all parts of its group, or one of them.
                counts[span.conv] += sign * step * (group.parts * span.size // group.size)


class Choice(NamedTuple):
    """Channels that are kept: their sorted indices by the name of the group, and the multiplications for one image."""
    kept: dict[str, Tensor]
    multiplications: int

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of channels that are kept, by the name of the group."""
        return {name: len(indices) for name, indices in self.kept.items()}


def choices(selection: Selection) -> list[Choice]:
    """Remove channels step by step, always those with the least importance per multiplication.

    Returns:
        Everything, and what is left after each step, until every layer has its least width.
    """
    found = [Choice(selection.indices(), selection.multiplications)]
    while selection.remove_least_important():
        found.append(Choice(selection.indices(), selection.multiplications))
    return found


def by_multiplications(found: Sequence[Choice], keep: float) -> Choice:
    """The first of some choices that needs at most a share of the multiplications.

    Raises:
        UserError: there is none.
    """
    total = found[0].multiplications
    for choice in found:
        if choice.multiplications <= keep * total:
            return choice
    raise UserError(f'at least {found[-1].multiplications / total:.2f} of the multiplications remain when every layer has its '
                    f'least width; give a larger --keep than {keep:g}, or a smaller --multiple')


def by_time(found: Sequence[Choice], milliseconds: float, time_of: Callable[[Choice], float]) -> Choice:
    """The first of some choices that is fast enough, found by bisection.

    Args:
        found: choices, each with fewer channels than the one before.
        milliseconds: longest time for one image.
        time_of: function that measures a choice, in milliseconds.

    Raises:
        UserError: even the last one is slower.
    """
    if (least := time_of(found[-1])) > milliseconds:
        raise UserError(f'with the least width of every layer, an image takes {least:.1f} ms; give more --milliseconds than '
                        f'{milliseconds:g}, a smaller --multiple, or a smaller --size')
    slow, fast = -1, len(found) - 1
    while fast - slow > 1:
        middle = (slow + fast) // 2
        if time_of(found[middle]) <= milliseconds:
            fast = middle
        else:
            slow = middle
    return found[fast]


def taylor_importance(model: Any, groups: Sequence[ChannelGroup], batches: Sequence[Mapping]) -> dict[str, Tensor]:
    """Importance of channels: the squared change of the loss, to first order, if a channel is removed (arXiv:1906.10771).

    Args:
        model: fused segmentor in eval mode; its gradients are overwritten.
        groups: its channel groups.
        batches: training batches as a data loader returns them.

    Returns:
        Importance of each channel, averaged over the batches, by the name of the group; float64, on the CPU.
    """
    found = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in groups}
    for batch in batches:
        model.zero_grad()
        data = model.data_preprocessor(batch, training=True)
        loss, _ = model.parse_losses(model.loss(**data))
        loss.backward()
        for group in groups:
            change = torch.zeros(group.size, dtype=torch.float64)
            for span in group.producers:
                conv: Any = span.conv
                each = (conv.weight * conv.weight.grad).sum((1, 2, 3)) + conv.bias * conv.bias.grad
                change[span.offset:span.offset + span.size] += each.detach().double().cpu()[span.start:span.start + span.size]
            found[group.name] += change.square()
    return {name: values / len(batches) for name, values in found.items()}


@dataclass(frozen=True)
class PruneRequest:
    """How far to prune, and how to find out what matters.

    Args:
        keep: share of the multiplications to keep, between 0 and 1; None if ``milliseconds`` is given.
        milliseconds: longest time for one image in ``runtime``.
        runtime: key of :data:`repvgg_seg.deploy.formats.FORMATS` other than 'pth'.
        images: number of training images that the importance of channels is computed from.
        size: height and width of the image that counting and timing refer to; by default that of the training crops.
        multiple: number that the widths of layers should be multiples of.
    """
    keep: float | None = None
    milliseconds: float | None = None
    runtime: str = 'openvino'
    images: int = 64
    size: tuple[int, int] | None = None
    multiple: int = 8


def prune(config: Config, checkpoint: str, out: Path, request: PruneRequest) -> PruneReport:
    """Prune a trained segmentor, and write a config that fine-tunes the result with distillation from the original.

    Args:
        config: full config of the trained model.
        checkpoint: training checkpoint, work dir, or folder of a fused model.
        out: folder to create. It gets the config, the weights, the config of the teacher, and a report.
        request: how far to prune.

    Raises:
        UserError: the model cannot be pruned so far, or ``out`` exists; nothing was written.
    """
    if task_of(config.model) != SEGMENTATION:
        raise UserError('only segmentors can be pruned, the config is for a classifier')
    out = out.resolve()
    if out.exists():
        raise UserError(f'{out} exists already; choose another folder')
    original = copy.deepcopy(config)
    trained, meta = build_trained(config, checkpoint)
    fused = fuse_for_inference(trained).requires_grad_(True)
    groups = channel_groups(fused)
    size = request.size or crop_of(config)
    pixels = output_pixels(fused, fused.backbone.stem.conv.in_channels, size)
    importance = taylor_importance(fused.to(get_device()), groups, training_batches(config, request.images))
    fused.cpu()
    found = choices(Selection(groups, importance, pixels, request.multiple))

    def pruned(choice: Choice) -> tuple[Config, nn.Module]:
        pruned_config = fused_model_config(config)
        set_widths(fused, pruned_config.model, choice.counts)
        model = MODELS.build(pruned_config.model).eval()
        model.load_state_dict(pruned_state(fused, groups, choice.kept), strict=True)
        return pruned_config, model

    if request.keep is not None:
        chosen = by_multiplications(found, request.keep)
    elif request.milliseconds is not None:
        plan = DeployPlan.of(copy.deepcopy(config), ExportRequest((request.runtime, ), size=size))
        chosen = by_time(found, request.milliseconds, lambda choice: milliseconds_of(plan, pruned(choice)[1], request.runtime))
    else:
        raise UserError('a request to prune says either keep or milliseconds, got neither')
    pruned_config, model = pruned(chosen)
    report = PruneReport(
        chosen.multiplications / found[0].multiplications, size, request.images, found[0].multiplications,
        chosen.multiplications, count(fused), count(model),
        {group.name: [group.size, chosen.counts[group.name]] for group in groups})
    add_fine_tuning(pruned_config, out, checkpoint)
    with replacement(out) as temporary:
        pruned_config.dump(temporary / FUSED_CONFIG)
        original.dump(temporary / TEACHER)
        buffer = io.BytesIO()  # torch.save() does not report a full disk; write_bytes() does.
        torch.save(dict(meta=dict(dataset_meta=meta.get('dataset_meta', {})), state_dict=model.state_dict()), buffer)
        (temporary / FUSED_WEIGHTS['pth']).write_bytes(buffer.getbuffer())
        info = dict(repvgg_seg_version=__version__, source=Path(checkpoint).name, **asdict(report))
        (temporary / REPORT).write_text(json.dumps(info, indent=2))
    return report


def add_fine_tuning(config: Config, out: Path, checkpoint: str) -> None:
    """Add to the config of a pruned model what its fine-tuning needs: the weights, the teacher, and a lower learning rate.

    Args:
        config: config, which is modified.
        out: folder of the pruned model.
        checkpoint: checkpoint of the original model.
    """
    teacher = Path(checkpoint)
    config.load_from = str(out / FUSED_WEIGHTS['pth'])
    config.distill = dict(teacher=str(out / TEACHER), checkpoint=str(teacher.resolve()) if teacher.exists() else checkpoint)
    config.work_dir = str(Path('work_dirs', out.name))
    config.optim_wrapper.optimizer.lr *= FINE_TUNING_RATE
    config.model.backbone.block = None  # The fused form is trained, which has no compactors.
    config.custom_hooks = [hook for hook in config.get('custom_hooks', []) if type_name(hook) != 'ResRepHook']


def milliseconds_of(plan: DeployPlan, model: nn.Module, runtime: str) -> float:
    """Median time of a model for one image of the plan's size, from pixels to class indices, in a runtime.

    Args:
        plan: deployment plan with a fixed size.
        model: fused model.
        runtime: key of :data:`repvgg_seg.deploy.formats.FORMATS`.
    """
    entry, size = FORMATS[runtime], plan.request.size
    if entry.export is None or size is None:
        raise ValueError('expected an exported format and a fixed size')
    segmentor: Any = undilate(model) if is_undilated(entry, None, cast(BaseModel, model)) else model
    with TemporaryDirectory() as folder:
        path = Path(folder, f'model.fp32{entry.suffix}')
        program = entry.export(Exporter(plan, segmentor, size), 'fp32', Path(folder))
        program.with_labels(plan.task.decision(segmentor)).save(path)
        run = load_file(path, 'fp32')
        image = np.zeros((1, *size, plan.normalization.channels), plan.dtype)
        return statistics.median(timing([lambda: run(image)])[0])


def training_batches(config: Config, images: int) -> list[Mapping]:
    """The first batches of a training set, with at least as many images as given if it has so many."""
    settings = dict(copy.deepcopy(config.train_dataloader), num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(settings, seed=0)
    return list(islice(loader, -(-images // settings['batch_size'])))


def crop_of(config: Config) -> tuple[int, int]:
    """Height and width of the training crops.

    Raises:
        UserError: the config does not say.
    """
    size = (config.model.get('data_preprocessor') or {}).get('size')
    if size is None:
        raise UserError('model.data_preprocessor.size does not say how large images are; give --size H W')
    return size[0], size[1]
