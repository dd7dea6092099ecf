"""Timing several things in turns, each in a process of its own, so that a drifting machine favours none."""
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from rich.progress import track

from ..errors import UserError

PROGRAM = ('import sys; sys.modules.update(dict.fromkeys({without!r})); from repvgg_seg.benchmark.rounds import serve; '
           'serve({descriptor})')
PAUSE = 0.05  # Seconds before each turn, in which the threads of the one before stop spinning.


@dataclass(frozen=True)
class Subject:
    """What is timed.

    Args:
        name: for tables.
        make: called in the process; returns what is timed, which must end only when its work is done, and may have a dict
            ``info`` of what is known of it. It must be possible to pickle ``make``.
        units: images (or whatever is counted) of one run.
        without: packages that its process cannot import, as on a machine that lacks them.
    """
    name: str
    make: Callable[[], Callable[[], object]]
    units: int = 1
    without: tuple[str, ...] = ()


@dataclass
class Measurement:
    """Milliseconds of each timed run; bytes of memory: of the process at its peak, or on a GPU those that PyTorch allocated."""
    name: str
    units: int
    milliseconds: list[float]
    peak_bytes: int
    info: dict = field(default_factory=dict)

    @property
    def median(self) -> float:
        """In milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third, in milliseconds."""
        first, _, third = statistics.quantiles(self.milliseconds, n=4)
        return first, third

    @property
    def rate(self) -> float:
        """Units a second, by the median."""
        return 1000 * self.units / self.median


def measure(subjects: Sequence[Subject], rounds: int = 30, warm_up: int = 5, threads: int | None = None) -> list[Measurement]:
    """Time subjects in turns.

    Args:
        subjects: all are held in memory at once.
        rounds: timed runs of each, at least two.
        warm_up: runs before, not timed.
        threads: ``OMP_NUM_THREADS`` of the processes; by default as it is here.

    Raises:
        UserError: there are less than two rounds, which have no spread.
        RuntimeError: a subject failed; with its traceback.
    """
    if rounds < 2:
        raise UserError(f'two rounds or more are needed to tell the spread, got {rounds}')
    measurements: list[Measurement] = []
    workers: list[tuple[subprocess.Popen, Connection]] = []
    try:
        for subject in subjects:
            workers.append(_start(subject, threads))
            # One after the other: this is heavy.
            measurements.append(Measurement(subject.name, subject.units, [], 0,
                                            _ask(subject, workers[-1][1], (subject.make, warm_up))))
        for _ in track(range(rounds), description='Timing'):
            for subject, (_, connection), measurement in zip(subjects, workers, measurements):
                time.sleep(PAUSE)
                measurement.milliseconds.append(1000 * _ask(subject, connection, 'run'))
        for subject, (_, connection), measurement in zip(subjects, workers, measurements):
            measurement.peak_bytes = _ask(subject, connection, 'end')
        return measurements
    finally:
        for process, connection in workers:
            connection.close()
            process.kill()
            process.wait()


def _start(subject: Subject, threads: int | None) -> tuple[subprocess.Popen, Connection]:
    """A subject's process, and the way to it."""
    ours, theirs = Pipe()
    program = PROGRAM.format(without=subject.without, descriptor=theirs.fileno())
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)} if threads else None
    process = subprocess.Popen([sys.executable, '-c', program], pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    return process, ours


def _ask(subject: Subject, connection: Connection, question: object) -> object:
    """The answer of a subject's process."""
    try:
        connection.send(question)
        answer, error = connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        error = 'its process died'
    if isinstance(error, UserError):
        raise error
    if error:
        raise RuntimeError(f'{subject.name} failed: {error}')
    return answer


def serve(descriptor: int) -> None:
    """What a subject's process does: make and warm up, time a run each time it is asked, tell its memory at the end."""
    connection = Connection(descriptor)
    try:
        make, warm_up = connection.recv()
        run = make()
        for _ in range(warm_up):
            run()
        connection.send((getattr(run, 'info', {}), None))
        while connection.recv() == 'run':
            start = time.perf_counter()
            run()
            connection.send((time.perf_counter() - start, None))
        connection.send((peak_bytes(), None))
    except UserError as error:
        connection.send((None, error))
    except Exception:  # Whatever it is, it is raised again in the process that asked.
        connection.send((None, traceback.format_exc()))


def peak_bytes() -> int:
    """Memory of this process at its peak; where PyTorch has used a GPU, what it allocated there."""
    torch = sys.modules.get('torch')
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    # Not getrusage(), which counts the parent's memory before exec().
    status = Path('/proc/self/status').read_text()
    return 1024 * int(status.partition('VmHWM:')[2].split()[0])
