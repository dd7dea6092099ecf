"""Measure how fast this machine trains a network; the measurement takes seconds."""
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from ..hardware import cpu_has_bfloat16

ITERATIONS, LIMIT = 3, 4  # Number of timed iterations after an untimed one; no iteration starts after this number of seconds.
PROBE = 2  # Images per step on a CPU, the minimum for batch norm.
WORTHWHILE = 0.9  # Mixed precision is used if it takes at most this share of the time.


@dataclass(frozen=True)
class Speed:
    """Measured speed of a machine.

    Args:
        device: 'cpu' or 'cuda'.
        batch: number of images in a training step; smaller than requested if the requested batch exceeds the GPU's memory.
        amp: whether mixed precision is faster.
        iteration: duration of a training step, in seconds.
        image: duration of predicting one whole image, in seconds.
    """
    device: str
    batch: int
    amp: bool
    iteration: float
    image: float


def device_of() -> str:
    """Return the device that training will use."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def measure_speed(config: Config, batch: int, crop: tuple[int, int], size: tuple[int, int], classes: int) -> Speed:
    """Time a few iterations on noise.

    Args:
        config: config of the network.
        batch: number of images in a training step.
        crop: height and width of the training images.
        size: height and width of whole images.
        classes: number of classes.
    """
    init_default_scope('mmseg')
    device = device_of()
    with torch.random.fork_rng():
        model = revert_sync_batchnorm(MODELS.build(config.model)).to(device)
        probe = min(batch, PROBE) if device == 'cpu' else batch  # On a CPU, the time is proportional to the batch.
        while True:
            try:
                fp32, mixed = _training_seconds(model, probe, crop, classes, device)
                break
            except torch.OutOfMemoryError:
                if probe <= PROBE:
                    raise
                probe = batch = probe // 2
        model.eval()
        image = _seconds(partial(_predict, model, size, device), device)
    amp = mixed < WORTHWHILE * fp32
    return Speed(device, batch, amp, (mixed if amp else fp32) * batch / probe, image)


def _training_seconds(model: nn.Module, batch: int, crop: tuple[int, int], classes: int, device: str) -> tuple[float, float]:
    """Seconds per step in single and in mixed precision; infinite if the device has no instructions for the latter."""
    mixed = cpu_has_bfloat16() if device == 'cpu' else torch.cuda.is_bf16_supported()
    precisions = (False, True) if mixed else (False, )
    seconds = [_seconds(partial(_step, model, batch, crop, classes, device, amp), device) for amp in precisions]
    return seconds[0], seconds[1] if mixed else inf


def _seconds(step: Callable[[], None], device: str) -> float:
    """Median time of several calls, not counting the first one."""
    times: list[float] = []
    begin = time.monotonic()
    while len(times) < ITERATIONS + 1 and (len(times) < 2 or time.monotonic() - begin < LIMIT):
        start = time.monotonic()
        step()
        if device == 'cuda':
            torch.cuda.synchronize()
        times.append(time.monotonic() - start)
    return sorted(times[1:])[(len(times) - 1) // 2]


def _step(model: Any, batch: int, crop: tuple[int, int], classes: int, device: str, amp: bool) -> None:
    images = torch.randint(0, 256, (batch, 3, *crop), dtype=torch.uint8)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, classes, (1, *crop))),
                             metainfo=dict(img_shape=crop, ori_shape=crop)) for _ in range(batch)]
    data = model.data_preprocessor(dict(inputs=[*images], data_samples=samples), training=True)
    context = torch.autocast(device, torch.bfloat16) if amp else contextlib.nullcontext()
    with context:
        losses = model(**data, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    model.zero_grad()


@torch.no_grad()
def _predict(model: nn.Module, size: tuple[int, int], device: str) -> None:
    model(torch.rand(1, 3, *size, device=device), mode='tensor')
