"""How far a model and another form of it differ on images, and how long they take."""
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

TIMED_ROUNDS = 10


def as_batch(model: BaseModel, image: np.ndarray) -> Tensor:
    """An image BGR (H, W, C) as the normalized batch (1, C, H, W) of a model."""
    data = dict(inputs=[torch.from_numpy(image.transpose(2, 0, 1).copy())], data_samples=[BaseDataElement()])
    return model.data_preprocessor(data, training=False)['inputs']


@torch.no_grad()
def logits_of(model: BaseModel, batch: Tensor) -> Tensor:
    """Logits of a segmentor at the size of its input, (N, C, H, W), or of a classifier, (N, C)."""
    logits = model(batch)
    if logits.ndim == 4:
        logits = F.interpolate(logits, batch.shape[2:], mode='bilinear', align_corners=model.align_corners)
    return logits


def threshold_of(model: Any) -> float | None:
    """Above which sigmoid the only channel of a segmentor with ``out_channels=1`` means class 1; None for other models."""
    if getattr(model, 'out_channels', None) != 1:
        return None
    head = model.decode_head
    last: Any = head[-1] if isinstance(head, nn.ModuleList) else head
    return float(last.threshold)


class Decision(NamedTuple):
    """How class indices follow from logits.

    Args:
        threshold: threshold of the sigmoid of a single channel, see :func:`threshold_of`; None: the largest logit decides.
        dtype: dtype of the class indices, 'uint8' or 'int64'.
    """
    threshold: float | None
    dtype: str

    def labels_of(self, logits: Tensor) -> Tensor:
        """Logits (N, C, ...) -> class indices (N, ...)."""
        return classes_of(logits, self.threshold).to(getattr(torch, self.dtype))


def classes_of(logits: Tensor, threshold: float | None = None) -> Tensor:
    """Class indices (N, ...) of logits (N, C, ...).

    Args:
        logits: of a channel a class, or of one channel.
        threshold: of the sigmoid of one channel, see :func:`threshold_of`.
    """
    return logits.argmax(1) if threshold is None else (logits[:, 0].sigmoid() > threshold).long()


def compare(pairs: Iterable[tuple[Tensor, Tensor]], threshold: float | None = None) -> tuple[float, float]:
    """How far logits differ from those of the reference.

    Args:
        pairs: for each image the reference's logits, and those to judge, (N, C, ...).
        threshold: see :func:`classes_of`.

    Returns:
        The largest difference divided by the largest logit, and the share of pixels (of a classifier: of images) whose class
        changes. Where a logit is not a number, so is the difference.
    """
    differences, changed, total = [], 0, 0
    for expected, actual in pairs:
        differences.append((expected - actual).abs().max() / expected.abs().max())
        classes = classes_of(expected, threshold)
        changed += int((classes != classes_of(actual, threshold)).sum())
        total += classes.numel()
    return torch.stack(differences).max().item(), changed / total  # Of tensors the maximum is NaN where one of them is.


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute float32 as such on GPUs, which otherwise round the factors of convolutions to 10 bits (TF32)."""
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
    """Milliseconds of each of some functions in ``TIMED_ROUNDS`` rounds, in each of which every one runs once."""
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
