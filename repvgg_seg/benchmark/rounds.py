"""Timing several things in turns, so that a drifting machine favors none; each in a process of its own, or all in one."""
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
from typing import Any

from rich.progress import track

from ..core.errors import UserError
from ..core.noise import mute_warnings
from ..core.telemetry import switch_off

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
    """What was measured.

    Args:
        name, units: of the subject.
        milliseconds: of each timed run.
        peak_bytes: on a GPU what a run allocates beyond what was there before it (weights and input); else of the subject's
            process at its peak, None where it shares one.
    """
    name: str
    units: int
    milliseconds: list[float]
    peak_bytes: int | None = None
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


def measure(subjects: Sequence[Subject], rounds: int = 30, warm_up: int = 5, threads: int | None = None,
            shared: bool = False) -> list[Measurement]:
    """Time subjects in turns.

    Args:
        subjects: all are held in memory at once.
        rounds: timed runs of each, at least two.
        warm_up: runs before, not timed.
        threads: ``OMP_NUM_THREADS`` of the processes; by default as it is here.
        shared: put all into one process, which takes far less memory where they are many, and one context of a GPU.

    Raises:
        UserError: there are less than two rounds, which have no spread, or a subject cannot be made as it is wanted.
        OutOfMemoryError (PyTorch's): the memory of the GPU is full.
        RuntimeError: a subject failed; with its traceback.
    """
    if rounds < 2:
        raise UserError(f'two rounds or more are needed to tell the spread, got {rounds}')
    measurements: list[Measurement] = []
    workers: list[tuple[subprocess.Popen, Connection]] = []
    try:
        for subject in subjects:
            if not workers or not shared:
                workers.append(_start(subject, threads))
            # One after the other: this is heavy.
            info = _ask(subject, workers[-1][1], ('make', subject.make, warm_up))
            measurements.append(Measurement(subject.name, subject.units, [], info=info))
        connections = [workers[0 if shared else index][1] for index in range(len(subjects))]
        for _ in track(range(rounds), description='Timing'):
            for index, (subject, connection, measurement) in enumerate(zip(subjects, connections, measurements)):
                time.sleep(PAUSE)
                seconds, allocated = _ask(subject, connection, ('run', index if shared else 0))
                measurement.milliseconds.append(1000 * seconds)
                if allocated is not None:
                    measurement.peak_bytes = max(measurement.peak_bytes or 0, allocated)
        for subject, connection, measurement in zip(subjects, connections, measurements):
            if measurement.peak_bytes is None and not shared:
                measurement.peak_bytes = _ask(subject, connection, ('peak', ))
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


def _ask(subject: Subject, connection: Connection, question: object) -> Any:
    """The answer of a subject's process."""
    try:
        connection.send(question)
        answer, error = connection.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        error = 'its process died'
    if isinstance(error, Exception):
        raise error
    if error:
        raise RuntimeError(f'{subject.name} failed: {error}')
    return answer


def serve(descriptor: int) -> None:
    """What a process does: make and warm up subjects, time a run of one each time it is asked, tell its memory."""
    switch_off()
    mute_warnings()
    connection = Connection(descriptor)
    runs = []
    while True:
        try:
            match connection.recv():
                case 'make', make, warm_up:
                    runs.append(make())
                    for _ in range(warm_up):
                        runs[-1]()
                    connection.send((getattr(runs[-1], 'info', {}), None))
                case 'run', index:
                    connection.send((_timed(runs[index]), None))
                case 'peak', :
                    connection.send((process_peak(), None))
        except EOFError:
            return
        except Exception as error:  # Whatever it is, it is raised again in the process that asked.
            explained = isinstance(error, UserError) or type(error).__name__ == 'OutOfMemoryError'  # By cli.run.
            connection.send((None, error if explained else traceback.format_exc()))


def _timed(run: Callable[[], object]) -> tuple[float, int | None]:
    """Seconds of a run, and the bytes that PyTorch allocated on a GPU for it."""
    torch = sys.modules.get('torch')
    gpu = torch.cuda if torch is not None and torch.cuda.is_available() else None
    if gpu:
        gpu.reset_peak_memory_stats()
        before = gpu.memory_allocated()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    # Where nothing is on the GPU the run was on the CPU.
    return seconds, gpu.max_memory_allocated() - before if gpu and before else None


def process_peak() -> int:
    """Bytes of memory of this process at its peak. Not from getrusage(), which counts the parent's before exec()."""
    status = Path('/proc/self/status').read_text()
    return 1024 * int(status.partition('VmHWM:')[2].split()[0])
