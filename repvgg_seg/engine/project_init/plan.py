"""Choose image sizes, class weights and a training schedule for a dataset and a machine."""
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...datasets.inspection.inspecting import Found
from ...datasets.inspection.pixels import Pixels
from .speed import Speed

IMAGENET_MEAN, IMAGENET_STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
MEAN_DIFFERENCE, STD_RATIO = 40, 1.6  # Deviations from ImageNet's values beyond which the images' own are used.
BATCH = 8
LARGEST_SIDE = {'cpu': 640, 'cuda': 1024}  # Pixels; larger images are resized.
CROP_AREA = {'cpu': 50_000, 'cuda': 264_000}  # Pixels: about 193x257 and 513x513.
IMBALANCE = 4  # Ratio of the most to the least frequent class from which classes are weighted.
WEIGHT_LIMITS = (0.3, 4.0)
# Length of a schedule in iterations: from scratch, from pretrained weights, and minimum.
SCRATCH, PRETRAINED, MIN_ITERATIONS = 4000, 2000, 200
MIN_EPOCHS, MAX_EPOCHS = 10, 500
VALIDATIONS, LOGGED = 10, 20
LEARNING_RATE = 0.03  # From scratch, for a batch of 8; a third of it from pretrained weights.
WARM_UP = 0.05  # Share of the epochs.


@dataclass(frozen=True)
class Plan:
    """Settings of a dataset's config.

    Args:
        size: usual height and width of the images, after resizing.
        resized: (width, height) into which all images are fitted, None if they stay as they are.
        crop: height and width of the training images.
        mean, std: normalization values of the channels, on the scale 0 to 255.
        class_weight: weights of the classes in the loss; None for equal weights.
        batch: number of images in a training step.
        epochs, val_interval, warm_up: length of training, validation interval and warm-up, in epochs.
        learning_rate: initial learning rate for this batch size.
        seconds: estimated duration of training and validation, from the measured speed.
    """
    size: tuple[int, int]
    resized: tuple[int, int] | None
    crop: tuple[int, int]
    mean: list[float]
    std: list[float]
    class_weight: list[float] | None
    batch: int
    epochs: int = 1
    val_interval: int = 1
    warm_up: int = 1
    learning_rate: float = LEARNING_RATE
    seconds: float = 0


def choose_sizes(found: Found, pixels: Pixels, device: str) -> Plan:
    """Choose everything but the schedule.

    Args:
        found: images, labels and splits.
        pixels: statistics of the images.
        device: 'cpu' or 'cuda'.
    """
    height, width = pixels.usual_size()
    largest = LARGEST_SIDE[device]
    shrink = min(1, largest / max(height, width))
    resized = (largest, largest) if shrink < 1 else None
    height, width = round(height * shrink), round(width * shrink)
    factor = min(1, math.sqrt(CROP_AREA[device] / (height * width)))
    crop = tuple(max(8, int(length * factor - 1) // 8 * 8) + 1 for length in (height, width))
    differs = any(abs(one - other) > MEAN_DIFFERENCE for one, other in zip(pixels.mean, IMAGENET_MEAN)) or any(
        max(one / other, other / max(one, 1e-3)) > STD_RATIO for one, other in zip(pixels.std, IMAGENET_STD))
    mean, std = (pixels.mean, [max(value, 1.0) for value in pixels.std]) if differs else (IMAGENET_MEAN, IMAGENET_STD)
    return Plan((height, width), resized, (crop[0], crop[1]), mean, std, class_weights(found.kind.shares()),
                min(BATCH, len(found.splits['train'].pairs)))


def class_weights(shares: np.ndarray) -> list[float] | None:
    """Compute class weights for the loss: square roots of median-frequency weights; None if the frequencies are similar.

    Args:
        shares: share of the pixels that each class has; a class without pixels gets the weight 1.
    """
    present = shares[shares > 0]
    if len(present) < 2 or present.max() / present.min() < IMBALANCE:
        return None
    weights = np.sqrt(np.median(present) / np.maximum(shares, 1e-9)).clip(*WEIGHT_LIMITS)
    return np.where(shares > 0, weights, 1).round(2).tolist()


def with_schedule(plan: Plan, images: int, validated: int, speed: Speed, pretrained: bool, hours: float,
                  epochs: int | None = None) -> Plan:
    """Add a schedule to a plan.

    Args:
        plan: plan without a schedule.
        images, validated: numbers of images for training and for validation.
        speed: measured speed of this machine.
        pretrained: whether the backbone starts from pretrained weights.
        hours: longest training time, in hours.
        epochs: number of epochs; by default as many as fit into the time, but not more than the network needs.
    """
    batch = speed.batch
    steps = max(1, images // batch)
    validation = validated * speed.image
    if epochs is None:
        needed = (PRETRAINED if pretrained else SCRATCH) / steps
        affordable = (3600 * hours - VALIDATIONS * validation) / (steps * speed.iteration)
        epochs = math.ceil(min(max(min(needed, affordable), MIN_ITERATIONS / steps, MIN_EPOCHS), MAX_EPOCHS))
    interval = max(1, math.ceil(epochs / VALIDATIONS))
    rate = LEARNING_RATE * batch / BATCH / (3 if pretrained else 1)
    return replace(plan, batch=batch, epochs=epochs, val_interval=interval, warm_up=max(1, round(WARM_UP * epochs)),
                   learning_rate=float(f'{rate:.2g}'),
                   seconds=epochs * steps * speed.iteration + math.ceil(epochs / interval) * validation)


def wrapped(values: Sequence[object], indent: int, limit: int = 110) -> str:
    """Format a list for a config, broken into lines; all lines but the first are indented."""
    lines, line = [], ''
    for value in values:
        text = f'{value!r}, '
        if line and len(line) + len(text) > limit - indent:
            lines.append(line.rstrip())
            line = ''
        line += text
    return '[' + f'\n{" " * indent}'.join([*lines, line.removesuffix(', ')]) + ']'
