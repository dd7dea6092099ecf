"""A server under load: several clients, each answer compared with the predictor's, and its memory before and after."""
import http.client
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from ..core.errors import UserError
from ..core.images import list_images
from ..runtime.predictor import Predictor
from ..serving.limits import DEFAULT_LIMITS, RequestError
from ..serving.pictures import TYPES, label_png, read_picture
from ..serving.running import load_segmentor

WARM_UP = 0.2  # Part of the time after which the memory is measured for the first time.
MEMORY = 'process_resident_memory_bytes'


@dataclass
class Load:
    """What the clients saw of a server.

    Attributes:
        seconds: duration, and of each answer.
        wrong: answers that differ from the predictor's.
        failed: requests without an answer, by what came instead.
        alone: images per second of the predictor alone, before and after.
        memory: resident memory of the server in bytes, after the warm-up and at the end; None where there is no /proc.
        images, runs: images that the network segmented, and its runs.
    """
    seconds: float = 0
    answers: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: list[str] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    memory: list[float | None] = field(default_factory=list)
    images: float = 0
    runs: float = 0

    def row(self, name: str, clients: int) -> dict[str, object]:
        """The row of the table."""
        alone, served = statistics.mean(self.alone), len(self.answers) / self.seconds
        hundredths = statistics.quantiles(self.answers, n=100)
        before, after = ('' if value is None else f'{value / 1e6:.0f}' for value in self.memory)
        return {
            'artifact': name, 'clients': clients, 'seconds': f'{self.seconds:.0f}', 'answers': len(self.answers),
            'wrong': self.wrong, 'failed': len(self.failed), 'images/s': f'{served:.1f}', 'runtime alone': f'{alone:.1f}',
            'ratio': f'{served / alone:.2f}', 'ms (median)': f'{1000 * statistics.median(self.answers):.0f}',
            'ms (99%)': f'{1000 * hundredths[98]:.0f}', 'images a run': f'{self.images / self.runs:.2f}',
            'memory before (MB)': before, 'after': after}


@dataclass
class Sample:
    """A picture: its file, its type, the image for the predictor, and the answer that is expected."""
    body: bytes
    kind: str
    image: np.ndarray
    expected: bytes


def measure(source: str, images: str, clients: int, seconds: float, threads: int, options: Sequence[str] = ()) -> Load:
    """Load a server, and measure the predictor alone, as one caller uses it, before and after.

    Args:
        source: exported file or its folder.
        images: PNG or JPEG file, folder or glob pattern.
        clients: number of clients, each of which sends its next picture when it has its answer.
        seconds: duration of the load; the predictor alone is measured as long in all.
        threads: number of CPU threads of the network.
        options: further options of ``repvgg-seg serve``.

    Raises:
        UserError: the model cannot be served, a picture cannot be segmented, or there was no answer.
    """
    predictor = load_segmentor(Path(source), threads, trust=False)
    samples, load = read_samples(images, predictor), Load()
    load.alone.append(alone(predictor, samples, seconds / 2))
    with started(source, '--threads', str(threads), *options) as port:
        run_clients(load, port, samples, clients, seconds)
    load.alone.append(alone(predictor, samples, seconds / 2))
    if len(load.answers) < 2:
        raise UserError(f'there were {len(load.answers)} answers in {seconds:g} s ({(load.failed or ["too slow"])[0]}); give '
                        'more --seconds, or smaller images')
    return load


def read_samples(images: str, predictor: Predictor) -> list[Sample]:
    """Read pictures, and segment them with the predictor.

    Raises:
        UserError: a picture cannot be segmented.
    """
    samples = []
    for path in list_images(images):
        body, kind = path.read_bytes(), 'image/png' if path.suffix.lower() == '.png' else 'image/jpeg'
        try:
            image = read_picture(body, predictor, DEFAULT_LIMITS)
        except RequestError as error:
            raise UserError(f'{path}: {error}; {" and ".join(TYPES)} are served') from None
        samples.append(Sample(body, kind, image, label_png(predictor(image))))
    return samples


def alone(predictor: Predictor, samples: Sequence[Sample], seconds: float) -> float:
    """Images per second of a predictor that one caller gives decoded images, one after another."""
    start, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - start) < seconds:
        predictor(samples[count % len(samples)].image)
        count += 1
    return count / passed


@contextmanager
def started(source: str, *options: str) -> Iterator[int]:
    """Start a server in a process of its own; yields its port.

    Raises:
        UserError: the server does not start.
    """
    process = subprocess.Popen([sys.executable, '-m', 'repvgg_seg', 'serve', source, '--port', '0', *options], text=True,
                               stdout=subprocess.PIPE)
    try:
        line = cast(TextIO, process.stdout).readline()
        if not line:
            raise UserError(f'{source} cannot be served, see above')
        yield int(line.partition(' at http://')[2].partition(',')[0].rpartition(':')[2])
    finally:
        process.terminate()
        process.wait()


def run_clients(load: Load, port: int, samples: Sequence[Sample], clients: int, seconds: float) -> None:
    """Let clients send pictures, and write what they see into ``load``."""
    lock, start = threading.Lock(), time.perf_counter()

    def work(number: int) -> None:
        connection, count = http.client.HTTPConnection('127.0.0.1', port, timeout=60), number
        while (begin := time.perf_counter()) - start < seconds:
            sample = samples[count % len(samples)]
            count += 1
            connection.request('POST', '/segment?output=labels', sample.body, {'Content-Type': sample.kind})
            response = connection.getresponse()
            content = response.read()
            passed = time.perf_counter() - begin
            with lock:
                if response.status == 200:
                    load.answers.append(passed)
                    load.wrong += content != sample.expected
                else:
                    load.failed.append(content.decode())
        connection.close()

    workers = [threading.Thread(target=work, args=(number, )) for number in range(clients)]
    for worker in workers:
        worker.start()
    time.sleep(WARM_UP * seconds)
    load.memory.append(metrics(port).get(MEMORY))
    for worker in workers:
        worker.join()
    load.seconds = time.perf_counter() - start
    found = metrics(port)
    load.memory.append(found.get(MEMORY))
    load.images, load.runs = found['repvgg_seg_images_total'], found['repvgg_seg_runs_total']


def metrics(port: int) -> dict[str, float]:
    """The values in /metrics, by name."""
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    connection.request('GET', '/metrics')
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = (line.rsplit(' ', 1) for line in lines if not line.startswith('#'))
    return {name: float(value) for name, value in pairs}
