"""Threads that run a predictor on the images that wait, several of one size at once."""
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

import numpy as np

from ..runtime.predictor import Predictor


class Answer(NamedTuple):
    """Labels of an image.

    Args:
        labels: uint8 (H, W) of class indices.
        waited: seconds that the image waited.
        computed: seconds that the predictor took for the batch.
        batch: number of images in the batch.
    """
    labels: np.ndarray
    waited: float
    computed: float
    batch: int


@dataclass
class Batch:
    """Images of one size that are segmented together; an image whose client has gone is None.

    Attributes:
        images: the images.
        submitted: when each image came, in seconds.
        answers: answers by place in ``images``.
    """
    images: list[np.ndarray | None] = field(default_factory=list)
    submitted: list[float] = field(default_factory=list)
    answers: 'Future[dict[int, Answer]]' = field(default_factory=Future)


class Ticket(NamedTuple):
    """Place of an image in a batch."""
    batch: Batch
    place: int

    def drop(self) -> None:
        """Do not segment the image unless that has already begun."""
        self.batch.images[self.place] = None


class Batcher:
    """Segments images in the order in which they arrive, except that images of one size share a run of the network.

    A batch is open for images of its size until its run begins, so no image ever waits for others to come.

    Args:
        predictor: predictor to run.
        limit: largest number of images in a batch.
        tile: height and width of the windows into which larger images are split; None for the predictor's default.
        callers: number of batches that are segmented at the same time.
    """

    def __init__(self, predictor: Predictor, limit: int, tile: tuple[int, int] | None = None, callers: int = 1) -> None:
        self.predictor, self.limit, self.tile = predictor, limit, tile
        self.executor = ThreadPoolExecutor(callers, 'predictor')
        self.open: dict[tuple[int, ...], Batch] = {}
        self.lock = Lock()
        self.runs = self.images = 0

    def submit(self, image: np.ndarray) -> Ticket:
        """Put an image, as the predictor takes it, into a batch, whose answers come when it has been segmented."""
        with self.lock:
            batch = self.open.get(image.shape)
            if batch is None or len(batch.images) >= (1 if self.is_split(image) else self.limit):
                batch = self.open[image.shape] = Batch()
                batch.answers = self.executor.submit(self._run, image.shape, batch)
            batch.images.append(image)
            batch.submitted.append(time.perf_counter())
            return Ticket(batch, len(batch.images) - 1)

    def is_split(self, image: np.ndarray) -> bool:
        """Whether the predictor splits an image into windows."""
        window = self.tile or self.predictor.size
        return window is not None and (image.shape[0] > window[0] or image.shape[1] > window[1])

    def close(self) -> None:
        """Segment what still waits, and end the threads."""
        self.executor.shutdown()

    def _run(self, size: tuple[int, ...], batch: Batch) -> dict[int, Answer]:
        with self.lock:  # From here on, the batch takes no more images.
            if self.open.get(size) is batch:
                del self.open[size]
            chosen = {place: image for place, image in enumerate(batch.images) if image is not None}
        if not chosen:
            return {}
        images, start = list(chosen.values()), time.perf_counter()
        predictor = self.predictor
        outputs = [predictor(images[0], tile=self.tile)] if len(images) == 1 else list(predictor.batch(images))
        seconds = time.perf_counter() - start
        with self.lock:
            self.runs, self.images = self.runs + 1, self.images + len(images)
        return {place: Answer(labels, start - batch.submitted[place], seconds, len(images))
                for place, labels in zip(chosen, outputs)}
