"""Compare a model with another form of it on images: the difference of their outputs, and their run times."""
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from ..core.labels import IGNORE

TIMED_ROUNDS = 10


def as_batch(model: BaseModel, image: np.ndarray) -> Tensor:
    """Convert an image, BGR (H, W, C), to the normalized batch (1, C, H, W) that a model takes."""
    data = dict(inputs=[torch.from_numpy(image.transpose(2, 0, 1).copy())], data_samples=[BaseDataElement()])
    return model.data_preprocessor(data, training=False)['inputs']


@torch.no_grad()
def logits_of(model: BaseModel, batch: Tensor) -> Tensor:
    """Compute the logits of a segmentor at the size of its input, (N, C, H, W), or of a classifier, (N, C)."""
    logits = model(batch)
    if logits.ndim == 4:
        logits = F.interpolate(logits, batch.shape[2:], mode='bilinear', align_corners=model.align_corners)
    return logits


def threshold_of(model: Any) -> float | None:
    """Sigmoid threshold above which a pixel is class 1, for a segmentor with ``out_channels=1``; None for other models."""
    if getattr(model, 'out_channels', None) != 1:
        return None
    head = model.decode_head
    last: Any = head[-1] if isinstance(head, nn.ModuleList) else head
    return float(last.threshold)


class Decision(NamedTuple):
    """Rule that converts logits to class indices.

    Args:
        threshold: sigmoid threshold for a single channel, see :func:`threshold_of`; None to take the class with the largest
            logit.
        dtype: dtype of the class indices, 'uint8' or 'int64'.
        confidences: smallest softmax probability, by class, with which a pixel gets its class; below it, its value is 255. None
            to give every pixel its class. Multiples of 2^-24.
    """
    threshold: float | None
    dtype: str
    confidences: tuple[float, ...] | None = None

    def labels_of(self, logits: Tensor) -> Tensor:
        """Convert logits (N, C, ...) to class indices (N, ...)."""
        labels = classes_of(logits, self.threshold)
        if self.confidences is not None:
            limits = torch.tensor(self.confidences, device=logits.device)[labels]
            labels = labels.where(logits.softmax(1).amax(1) >= limits, IGNORE)
        return labels.to(getattr(torch, self.dtype))


def classes_of(logits: Tensor, threshold: float | None = None) -> Tensor:
    """Convert logits (N, C, ...) to class indices (N, ...).

    Args:
        logits: logits with one channel per class, or with a single channel.
        threshold: sigmoid threshold for a single channel, see :func:`threshold_of`.
    """
    return logits.argmax(1) if threshold is None else (logits[:, 0].sigmoid() > threshold).long()


def compare(pairs: Iterable[tuple[Tensor, Tensor]], threshold: float | None = None) -> tuple[float, float]:
    """Compare logits with those of a reference.

    Args:
        pairs: for each image, the logits of the reference and the logits to compare, (N, C, ...) each.
        threshold: see :func:`classes_of`.

    Returns:
        The largest difference divided by the largest logit, and the share of pixels (for a classifier, of images) whose class
        changes. The difference is NaN if any logit is NaN.
    """
    differences, changed, total = [], 0, 0
    for expected, actual in pairs:
        differences.append((expected - actual).abs().max() / expected.abs().max())
        classes = classes_of(expected, threshold)
        changed += int((classes != classes_of(actual, threshold)).sum())
        total += classes.numel()
    return torch.stack(differences).max().item(), changed / total  # Unlike max(), torch's maximum propagates NaN.


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute in full float32 on GPUs, which otherwise round the factors of convolutions to 10 bits (TF32)."""
    backends: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before):
            backend.allow_tf32 = allowed


def timing(runs: Sequence[Callable[[], object]]) -> list[list[float]]:
    """Time functions in ``TIMED_ROUNDS`` rounds, each of which runs every function once; returns milliseconds by function."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(1 + TIMED_ROUNDS):
        for run, record in zip(runs, times):
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn > 0:
                record.append(1000 * (time.perf_counter() - start))
    return times
