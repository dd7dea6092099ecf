"""Images per second of exported files that several threads use at once, or that get several images in one call."""
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from ..core.errors import UserError
from ..core.reading import trusted
from ..engine.exported import refuse_program
from ..runtime.backends import backend_of
from ..runtime.predictor import Predictor, load
from .rounds import PAUSE
from .sources import files_in


class Use(NamedTuple):
    """A way to use a file.

    Args:
        callers: number of threads that run it at the same time.
        batch: images in a call.
    """
    callers: int
    batch: int


TURNS = 5  # Of each subject, so that slow drifts of the machine affect all equally.
USES = (Use(1, 1), Use(2, 1), Use(4, 1), Use(1, 4))


@dataclass
class Rate:
    """A measurement.

    Args:
        file: exported file.
        mode: 'latency', the default, or 'throughput', which only some runtimes have.
        callers, batch: see :class:`Use`.
        images: number of images that were answered.
        seconds: duration.
        wrong: number of images whose answer differs from that of a single call without other callers.
    """
    file: str
    mode: str
    callers: int
    batch: int
    images: int = 0
    seconds: float = 0
    wrong: int = 0

    def add(self, images: int, seconds: float, wrong: int) -> None:
        """Add the result of a turn."""
        self.images, self.seconds, self.wrong = self.images + images, self.seconds + seconds, self.wrong + wrong

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def measure(sources: Sequence[str], size: tuple[int, int], seconds: float, threads: int) -> list[Rate]:
    """Measure exported files in turns, each in every way to use it and in every mode that its runtime has.

    Args:
        sources: exported files, or folders of them.
        size: height and width of the images.
        seconds: duration of each measurement, in all turns.
        threads: number of CPU threads of the runtime.

    Raises:
        UserError: a file cannot be loaded, or takes images of another size.
    """
    subjects = []
    for path in files_in(sources):
        refuse_program(path)
        for throughput in (False, True) if backend_of(path).throughput else (False, ):
            predictor = load(path, threads, verify=not trusted(), throughput=throughput)
            images = noise(predictor, path, size)
            expected = [predictor(image) for image in images]
            mode = 'throughput' if throughput else 'latency'
            subjects += [(predictor, images, expected, use, Rate(str(path), mode, *use)) for use in USES]
    for _ in track(range(TURNS), description='Timing'):
        for predictor, images, expected, use, rate in subjects:
            time.sleep(PAUSE)
            rate.add(*run(predictor, images, expected, use, seconds / TURNS))
    return [rate for *_, rate in subjects]


def noise(predictor: Predictor, path: Path, size: tuple[int, int]) -> np.ndarray:
    """Images for a predictor, as many as the largest batch has.

    Raises:
        UserError: it takes images of another size.
    """
    if predictor.size not in (None, size):
        height, width = predictor.size or size
        raise UserError(f'{path} takes {height}x{width} only; give --size {height} {width}')
    limit = np.iinfo(predictor.dtype).max + 1
    shape = (max(use.batch for use in USES), *size, predictor.in_channels)
    return np.random.default_rng(0).integers(0, limit, shape, predictor.dtype)


def run(predictor: Predictor, images: np.ndarray, expected: Sequence[np.ndarray], use: Use,
        seconds: float) -> tuple[int, float, int]:
    """Use a predictor for some time.

    Args:
        predictor: predictor to run.
        images: images (N, H, W, C), at least as many as a call takes.
        expected: answer for each image.
        use: how to use it.
        seconds: duration.

    Returns:
        Number of answered images, duration in seconds, and number of wrong answers.
    """
    def call() -> int:
        found = predictor.batch(images[:use.batch]) if use.batch > 1 else [predictor(images[0])]
        return sum(not np.array_equal(*pair) for pair in zip(found, expected))

    def work(end: float) -> tuple[int, int]:
        calls = wrong = 0
        while not calls or time.perf_counter() < end:
            wrong += call()
            calls += 1
        return calls, wrong

    with ThreadPoolExecutor(use.callers) as pool:
        for _ in pool.map(work, [0.0] * use.callers):  # Each thread may have tensors of its own to prepare.
            pass
        start = time.perf_counter()
        done = list(pool.map(work, [start + seconds] * use.callers))
        passed = time.perf_counter() - start
    return use.batch * sum(calls for calls, _ in done), passed, sum(wrong for _, wrong in done)


def table(rates: Sequence[Rate]) -> list[dict[str, object]]:
    """Table rows; a file is compared with one caller of one image at a time in the default mode."""
    alone = {rate.file: rate.rate for rate in rates if (rate.mode, rate.callers, rate.batch) == ('latency', *USES[0])}
    return [{'file': rate.file, 'mode': rate.mode, 'callers': rate.callers, 'images a call': rate.batch,
             'images/s': f'{rate.rate:.2f}', 'times faster': f'{rate.rate / alone[rate.file]:.2f}', 'wrong': rate.wrong}
            for rate in rates]
