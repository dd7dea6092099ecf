"""Knowledge distillation: a segmentor also learns to give the logits of a trained one."""
import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmseg.models import EncoderDecoder
from torch import Tensor, nn

from ..core.config_types import type_name
from ..core.configs import existing_config
from ..core.errors import UserError
from ..registry import MODELS
from .trained_model import build_trained

SETTINGS = ('teacher', 'checkpoint', 'pixel_weight', 'channel_weight', 'temperature')
STUDENT = 'DistilledSegmentor'


def add_teacher(config: Config) -> None:
    """If a config has the key ``distill``, make its model a :class:`DistilledSegmentor`.

    Args:
        config: full config; ``distill`` is a dict with ``teacher`` (a config file, or the name of a shipped config) and
            ``checkpoint`` (a checkpoint of it), and optionally with the other arguments of :class:`DistilledSegmentor`.

    Raises:
        UserError: the settings are incomplete or unknown, there is no such config, or the model is not an ``EncoderDecoder``.
    """
    settings = config.get('distill')
    if settings is None:
        return
    if not isinstance(settings, Mapping) or not {'teacher', 'checkpoint'} <= set(settings) <= set(SETTINGS):
        found = ', '.join(settings) if isinstance(settings, Mapping) else repr(settings)
        raise UserError(f'distill is a dict with {", ".join(SETTINGS)} (the first two required), got {found or "no keys"}')
    if (kind := type_name(config.model)) not in ('EncoderDecoder', STUDENT):
        raise UserError(f'only an EncoderDecoder can be distilled, got {kind}; leave distill out')
    existing_config(settings['teacher'])
    config.model = ConfigDict({**config.model, **settings, 'type': f'repvgg_seg.{STUDENT}'})


@MODELS.register_module()
class DistilledSegmentor(EncoderDecoder):
    """An ``EncoderDecoder`` whose training losses also compare its logits with those of a trained segmentor, the teacher.

    The teacher is loaded when training starts. It is part of neither the state dict nor copies of this model, so checkpoints
    are those of an ``EncoderDecoder``.

    Args:
        teacher: config file of the teacher, or the name of a shipped config.
        checkpoint: checkpoint of the teacher, a work dir, or the folder of a fused model.
        pixel_weight: weight of :func:`pixel_loss`.
        channel_weight: weight of :func:`channel_loss`.
        temperature: temperature of :func:`channel_loss`.
        **kwargs: arguments of MMSegmentation's ``EncoderDecoder``.

    Raises:
        UserError: the decode head has no classifier ``conv_seg`` of its own, or the settings are not sensible numbers.
    """

    def __init__(self, teacher: str, checkpoint: str, pixel_weight: float = 1.0, channel_weight: float = 3.0,
                 temperature: float = 4.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(getattr(self.decode_head, 'conv_seg', None), nn.Module):
            raise UserError(f'{type(self.decode_head).__name__} has no classifier conv_seg, so it cannot be distilled; leave '
                            'distill out')
        if min(pixel_weight, channel_weight) < 0 or temperature <= 0:
            raise UserError('distill needs weights of at least 0 and a temperature above 0, got '
                            f'{pixel_weight=}, {channel_weight=}, {temperature=}')
        self.teacher, self.checkpoint = teacher, checkpoint
        self.pixel_weight, self.channel_weight, self.temperature = pixel_weight, channel_weight, temperature
        self.trained: Teacher | None = None

    def init_weights(self) -> None:
        """Initialize this model, and load the teacher.

        Raises:
            UserError: the teacher cannot be loaded, has other classes, or takes other images.
        """
        super().init_weights()
        self.trained = Teacher(self.teacher, self.checkpoint)
        self.trained.check(self)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the losses of ``EncoderDecoder``, and those of distillation.

        Args:
            inputs: normalized images (N, C, H, W).
            data_samples: labels of the images.

        Raises:
            RuntimeError: :meth:`init_weights` was not called.
        """
        if self.trained is None:
            raise RuntimeError('the teacher is loaded by init_weights(), which was not called')
        outputs: list[Tensor] = []
        hook = self.decode_head.conv_seg.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            losses = super().loss(inputs, data_samples)
        finally:
            hook.remove()
        logits = outputs[0].float()
        target = self.trained.logits(inputs, logits.shape[2:], self.align_corners)
        if self.pixel_weight:
            losses['distill.loss_pixel'] = self.pixel_weight * pixel_loss(logits, target)
        if self.channel_weight:
            losses['distill.loss_channel'] = self.channel_weight * channel_loss(logits, target, self.temperature)
        return losses


class Teacher:
    """A trained segmentor in eval mode. Copies of a student share it.

    Args:
        config: config file, or the name of a shipped config.
        checkpoint: training checkpoint, work dir, or folder of a fused model.

    Raises:
        UserError: the config or the checkpoint cannot be read, or they do not belong together.
    """

    def __init__(self, config: str, checkpoint: str) -> None:
        self.config = config
        model, _ = build_trained(Config.fromfile(existing_config(config)), checkpoint)
        self.model: Any = model.requires_grad_(False)

    def __deepcopy__(self, memo: dict) -> 'Teacher':
        return self

    def check(self, student: EncoderDecoder) -> None:
        """Check that the teacher has the classes of a student, and takes the same images.

        Raises:
            UserError: the number of classes or the normalization differs.
        """
        if (found := self.model.out_channels) != student.out_channels:
            raise UserError(f'the teacher {self.config} has {found} classes, the model {student.out_channels}; distill from a '
                            'model that was trained with the same classes')
        found, wanted = (_normalization(model.data_preprocessor) for model in (self.model, student))
        if found != wanted:
            raise UserError(f'the teacher {self.config} normalizes images differently ({found}; the model: {wanted}); set '
                            "model.data_preprocessor as in the teacher's config")

    @torch.no_grad()
    def logits(self, inputs: Tensor, size: tuple[int, ...], align_corners: bool) -> Tensor:
        """Compute logits, float32 (N, num_classes, *size).

        Args:
            inputs: normalized images (N, C, H, W).
            size: height and width of the logits.
            align_corners: how they are resized, see ``torch.nn.functional.interpolate``.
        """
        self.model.to(inputs.device)
        meta = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape'), tuple(inputs.shape[2:]))
        logits = self.model.encode_decode(inputs, [copy.copy(meta) for _ in inputs])
        return F.interpolate(logits.float(), size=size, mode='bilinear', align_corners=align_corners)


def pixel_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the class distributions of each pixel, averaged over pixels.

    Args:
        logits: logits of the student, (N, C, H, W); with a single channel, of the class against everything else.
        target: logits of the teacher, of the same shape.
    """
    if logits.shape[1] == 1:
        logits, target = (F.pad(x, (0, 0, 0, 0, 1, 0)) for x in (logits, target))
    divergence = F.kl_div(logits.log_softmax(1), target.log_softmax(1), reduction='none', log_target=True)
    return divergence.sum(1).mean()


def channel_loss(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Channel-wise distillation (Shu et al., arXiv:2011.13256).

    For each class, the logits of all pixels divided by the temperature become a distribution over the pixels. The loss is the
    Kullback-Leibler divergence of these distributions, averaged over classes and images, times the squared temperature.

    Args:
        logits, target: see :func:`pixel_loss`.
        temperature: temperature, above 0.
    """
    student, teacher = (x.flatten(2).div(temperature).log_softmax(2) for x in (logits, target))
    return temperature**2 * F.kl_div(student, teacher, reduction='none', log_target=True).sum(2).mean()


def _normalization(preprocessor: Any) -> str:
    """Describe the mean, standard deviation, and channel order of a data preprocessor."""
    empty = torch.zeros(0)
    parts = [f'{name} {" ".join(f"{value:g}" for value in getattr(preprocessor, name, empty).flatten()) or "none"}'
             for name in ('mean', 'std')]
    return f'{", ".join(parts)}, channels {"swapped" if preprocessor._channel_conversion else "in order"}'
