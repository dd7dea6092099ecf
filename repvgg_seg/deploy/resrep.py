"""ResRep (arXiv:2007.03260): during training, channels vanish until a share of the multiplications is left."""
import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ..core.errors import UserError
from ..models.variants import CompactedConv
from ..registry import HOOKS
from .channels import ChannelGroup, channel_groups
from .fusing import fuse_for_inference
from .pruning import Selection, output_pixels

KEY = 'resrep'  # Of the state of the hook in a checkpoint.
SMALLEST = 1e-12  # A row with a smaller norm has no direction.
OTHERS = 0.05  # Strength of the lasso term for rows that are kept, relative to that for those that are to vanish.
VANISHED = 0.05  # Norm of a row, which begins with 1, below which removing it is expected to cost little.


@HOOKS.register_module()
class ResRepHook(Hook):
    """Hook that trains the compactors of a segmentor's :class:`~repvgg_seg.models.variants.CompactedConv` blocks.

    The gradient of each row of a compactor gets a lasso term, the direction of the row. Every ``interval`` iterations, the
    channels whose rows have the least squared norm per multiplication are chosen; their rows get the lasso term alone, which
    ResRep (section 3.3) calls gradient resetting, so they vanish. The share of the multiplications that the other channels need
    falls linearly to ``keep``, which is reached after ``ramp`` of the training. ResRep has one factor for all rows; with one
    that is large enough for chosen rows to vanish in few epochs, the others would shrink as well, so theirs is smaller here.

    Afterwards ``repvgg-seg prune --keep`` removes the vanished channels, whose importance is nearly zero.

    Args:
        keep: share of the multiplications of the convolutions to keep, between 0 and 1.
        size: height and width of the image for which these are counted.
        strength: factor of the lasso term for the chosen rows; for the others, it is ``OTHERS`` times as large.
        interval: number of iterations after which channels are chosen again.
        ramp: share of the training, above 0, at most 1.
        multiple: number that the widths of layers should be multiples of.

    Raises:
        UserError: an argument is not sensible.
    """
    priority = 'NORMAL'

    def __init__(self, keep: float, size: Sequence[int], strength: float = 0.2, interval: int = 20, ramp: float = 0.5,
                 multiple: int = 8) -> None:
        if not (0 < keep < 1 and 0 < ramp <= 1 and strength > 0 and interval > 0):
            raise UserError('ResRepHook needs keep between 0 and 1, ramp above 0 and at most 1, and a positive strength and '
                            f'interval, got {keep=}, {ramp=}, {strength=}, {interval=}')
        self.keep, self.size, self.strength = keep, (size[0], size[1]), strength
        self.interval, self.ramp, self.multiple = interval, ramp, multiple
        self.groups: list[ChannelGroup] = []
        self.pixels: dict[Any, int] = {}
        self.parts: dict[str, CompactedConv] = {}  # By the name of the channel group that the part computes.
        self.vanishing: dict[str, Tensor] = {}  # Which of its channels are chosen.

    def before_train(self, runner: Runner) -> None:
        """Find the channels that can vanish, and change the gradients from now on.

        Raises:
            UserError: the model has no compactors or cannot be pruned, or ``keep`` cannot be reached.
        """
        self.attach(runner.model.module if is_model_wrapper(runner.model) else runner.model)

    def attach(self, model: Any) -> None:
        """See :meth:`before_train`."""
        fused = fuse_for_inference(model).cpu()
        self.groups = channel_groups(fused)
        self.pixels = output_pixels(fused, model.backbone.stem.conv.in_channels, self.size)
        names, modules = {conv: name for name, conv in fused.named_modules()}, dict(model.named_modules())
        for group in self.groups:
            part = modules[names[group.producers[0].conv]]
            if len(group.producers) == 1 and isinstance(part, CompactedConv):
                self.parts[group.name] = part
                self.vanishing.setdefault(group.name, torch.zeros(group.size, dtype=torch.bool))
                part.compactor.register_hook(lambda gradient, name=group.name: self.gradient(name, gradient))
        if not self.parts:
            raise UserError('ResRepHook trains compactors, but the model has none; set '
                            "model.backbone.block.type='CompactedConv'")
        self.chosen(self.keep)

    def gradient(self, name: str, gradient: Tensor) -> Tensor:
        """The gradient of a compactor, (C, C / groups, 1, 1), given that of the loss."""
        rows = self.parts[name].compactor.detach()
        direction = rows / rows.norm(dim=1, keepdim=True).clamp_min(SMALLEST)
        kept = ~self.vanishing[name].to(gradient.device).view(-1, 1, 1, 1)
        return gradient * kept + self.strength * torch.where(kept, OTHERS * direction, direction)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Choose the channels that are to vanish."""
        if runner.iter % self.interval == 0:
            progress = min(1.0, runner.iter / (self.ramp * runner.max_iters))
            self.vanishing.update(self.chosen(1 - (1 - self.keep) * progress))

    def chosen(self, keep: float) -> dict[str, Tensor]:
        """Channels without which at most a share of the multiplications is left, as a mask for each compactor.

        Raises:
            UserError: more is left even when every layer with a compactor has its least width.
        """
        importance = {group.name: torch.full((group.size, ), math.inf, dtype=torch.float64) for group in self.groups}
        importance.update({name: part.compactor.detach().double().cpu().square().sum((1, 2, 3))
                           for name, part in self.parts.items()})
        selection = Selection(self.groups, importance, self.pixels, self.multiple)
        total = selection.multiplications
        while selection.multiplications > keep * total and selection.remove_least_important():
            pass
        kept = selection.indices()
        if selection.multiplications > keep * total or any(
                len(kept[group.name]) < group.size for group in self.groups if group.name not in self.parts):
            raise UserError(f'keep={keep:g} cannot be reached by the layers with compactors alone; give ResRepHook a larger '
                            'keep, or a smaller multiple')
        return {name: torch.ones(len(importance[name]), dtype=torch.bool).index_fill_(0, kept[name], False)
                for name in self.parts}

    def after_train(self, runner: Runner) -> None:
        """Log how far the rows of the chosen channels have vanished."""
        norms = torch.cat([part.compactor.detach().cpu().norm(dim=1).flatten()[self.vanishing[name]]
                           for name, part in self.parts.items()])
        largest = float(norms.max()) if len(norms) else 0.0
        runner.logger.info(f'ResRep: {len(norms)} channels are to vanish, the largest norm of their rows is {largest:.2g}')
        if largest > VANISHED:
            runner.logger.warning('Removing these channels will change the outputs; train longer, or give ResRepHook more '
                                  'strength')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Save which channels are chosen."""
        checkpoint[KEY] = dict(self.vanishing)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Restore which channels are chosen."""
        self.vanishing.update(checkpoint.get(KEY, {}))
