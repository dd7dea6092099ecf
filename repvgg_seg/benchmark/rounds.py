"""Time several subjects in turns, so that slow drifts of the machine affect all equally; in one process each, or all in one."""
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
PAUSE = 0.05  # Seconds before each turn on a CPU, in which the threads of the previous subject stop spinning.


@dataclass(frozen=True)
class Subject:
    """A subject to be timed.

    Args:
        name: name in tables.
        make: picklable function that is called in the subject's process. It returns the function to be timed, which must return
            only when its work is done, and may have a dict ``info``.
        units: number of images (or other units) per run.
        without: packages that its process cannot import, as on a machine without them.
    """
    name: str
    make: Callable[[], Callable[[], object]]
    units: int = 1
    without: tuple[str, ...] = ()


@dataclass
class Measurement:
    """Measurements of a subject.

    Args:
        name, units: those of the subject.
        milliseconds: duration of each timed run.
        peak_bytes: on a GPU, the memory that a run allocates in addition to weights and input; otherwise the peak memory of the
            subject's process, or None if subjects share a process.
        info: the ``info`` of the timed function.
        load_seconds: how long it took to make the timed function, imports included if no earlier subject of its process needed
            them.
    """
    name: str
    units: int
    milliseconds: list[float]
    peak_bytes: int | None = None
    info: dict = field(default_factory=dict)
    load_seconds: float | None = None

    @property
    def median(self) -> float:
        """Median in milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile, in milliseconds."""
        first, _, third = statistics.quantiles(self.milliseconds, n=4)
        return first, third

    @property
    def rate(self) -> float:
        """Units per second, from the median."""
        return 1000 * self.units / self.median


def measure(subjects: Sequence[Subject], rounds: int = 30, warm_up: int = 5, threads: int | None = None,
            shared: bool = False, failures: dict[str, str] | None = None) -> list[Measurement]:
    """Time subjects in turns.

    Args:
        subjects: subjects; all of them are in memory at the same time.
        rounds: number of timed runs of each subject, at least two.
        warm_up: number of earlier runs that are not timed.
        threads: ``OMP_NUM_THREADS`` of the processes; None inherits it.
        shared: whether all subjects share a process, which takes far less memory for many subjects, and only one GPU context.
        failures: filled with the subjects that cannot be made or run, and the reason of each; they are left out. None raises
            the error of the first.

    Raises:
        UserError: there are fewer than two rounds, from which no spread can be computed, or a subject cannot be built.
        OutOfMemoryError (PyTorch's): the memory of the GPU is full.
        RuntimeError: a subject failed; the message contains its traceback.
    """
    if rounds < 2:
        raise UserError(f'two rounds or more are needed to tell the spread, got {rounds}')
    made: list[tuple[Subject, Connection, Measurement]] = []
    workers: list[tuple[subprocess.Popen, Connection]] = []
    try:
        for subject in subjects:
            if not workers or not shared:
                workers.append(_start(subject, threads))
            process, connection = workers[-1]
            try:  # One after another, because building and warming up use all cores.
                info, seconds = _ask(subject, connection, ('make', subject.make, warm_up))
            except (RuntimeError, UserError) as error:
                if failures is None or shared and process.poll() is not None:
                    raise
                failures[subject.name] = str(error).strip().splitlines()[-1]
                continue
            made.append((subject, connection, Measurement(subject.name, subject.units, [], info=info, load_seconds=seconds)))
        for _ in track(range(rounds), description='Timing'):
            for index, (subject, connection, measurement) in enumerate(made):
                seconds, allocated = _ask(subject, connection, ('run', index if shared else 0))
                measurement.milliseconds.append(1000 * seconds)
                if allocated is not None:
                    measurement.peak_bytes = max(measurement.peak_bytes or 0, allocated)
        for subject, connection, measurement in made:
            if measurement.peak_bytes is None and not shared:
                measurement.peak_bytes = _ask(subject, connection, ('peak', ))
        return [measurement for _, _, measurement in made]
    finally:
        for process, connection in workers:
            connection.close()
            process.kill()
            process.wait()


def _start(subject: Subject, threads: int | None) -> tuple[subprocess.Popen, Connection]:
    """Start a process for a subject, and return it with a connection to it."""
    ours, theirs = Pipe()
    program = PROGRAM.format(without=subject.without, descriptor=theirs.fileno())
    environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)} if threads else None
    process = subprocess.Popen([sys.executable, '-c', program], pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    return process, ours


def _ask(subject: Subject, connection: Connection, question: object) -> Any:
    """Send a question to a subject's process, and return the answer."""
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
    """Main loop of a subject process: build and warm up subjects, time a run on request, and report the peak memory."""
    switch_off()
    mute_warnings()
    connection = Connection(descriptor)
    runs = []
    while True:
        try:
            match connection.recv():
                case 'make', make, warm_up:
                    start = time.perf_counter()
                    run = make()
                    seconds = time.perf_counter() - start
                    for _ in range(warm_up):
                        run()
                    runs.append(run)
                    connection.send(((getattr(run, 'info', {}), seconds), None))
                case 'run', index:
                    connection.send((_timed(runs[index]), None))
                case 'peak', :
                    connection.send((process_peak(), None))
        except EOFError:
            return
        except Exception as error:  # Any error is raised again in the process that asked.
            # These two are explained by cli.run.
            explained = isinstance(error, UserError) or type(error).__name__ == 'OutOfMemoryError'
            connection.send((None, error if explained else traceback.format_exc()))


def _timed(run: Callable[[], object]) -> tuple[float, int | None]:
    """Duration of a run in seconds, and the bytes that PyTorch allocated for it on a GPU (None on a CPU).

    A GPU that was idle lowers its clock and launches its first kernels late, so a run that is not timed goes before.
    """
    torch = sys.modules.get('torch')
    # A process that works on the CPU has not initialized CUDA. Asking CUDA for statistics would do that, and its context would
    # count in the peak memory of the process.
    gpu = torch.cuda if torch is not None and torch.cuda.is_initialized() else None
    if gpu:
        run()
        gpu.reset_peak_memory_stats()
        before = gpu.memory_allocated()
    else:
        time.sleep(PAUSE)
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    # If nothing was allocated on the GPU, the run was on the CPU.
    return seconds, gpu.max_memory_allocated() - before if gpu and before else None


def process_peak() -> int:
    """Peak memory of this process in bytes. getrusage() would include the parent's memory before exec()."""
    status = Path('/proc/self/status').read_text()
    return 1024 * int(status.partition('VmHWM:')[2].split()[0])
