"""Counts of a server, in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # Upper limits of the histogram's buckets.
STATM = Path('/proc/self/statm')
CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'


class Metrics:
    """Counts of requests, which the event loop's thread updates.

    Attributes:
        statuses: number of responses by status code; 499 counts clients that went away before their answer.
        seconds: duration of each bucket's pictures that were segmented.
        in_progress: number of requests in progress.
    """

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.buckets: Counter[float] = Counter()
        self.total = 0.0
        self.in_progress = 0

    def answered(self, seconds: float) -> None:
        """Count a picture that was segmented, from the first byte of its request to its answer."""
        self.total += seconds
        self.buckets[next((limit for limit in SECONDS if seconds <= limit), float('inf'))] += 1

    def text(self, runs: int, images: int) -> str:
        """Format the counts.

        Args:
            runs: number of runs of the network.
            images: number of images in these runs.
        """
        return '\n'.join([*self._lines(runs, images), ''])

    def _lines(self, runs: int, images: int) -> Iterator[str]:
        yield from header('repvgg_seg_requests_total', 'counter', 'Requests to segment a picture, by status code.')
        for status, count in sorted(self.statuses.items()):
            yield f'repvgg_seg_requests_total{{status="{status}"}} {count}'
        yield from header('repvgg_seg_request_seconds', 'histogram', 'Duration of the requests that were answered.')
        below = 0
        for limit in (*SECONDS, float('inf')):
            below += self.buckets[limit]
            yield f'repvgg_seg_request_seconds_bucket{{le="{"+Inf" if limit == float("inf") else limit}"}} {below}'
        yield f'repvgg_seg_request_seconds_sum {self.total}'
        yield f'repvgg_seg_request_seconds_count {below}'
        for name, kind, what, value in (
                ('repvgg_seg_in_progress', 'gauge', 'Requests in progress.', self.in_progress),
                ('repvgg_seg_runs_total', 'counter', 'Runs of the network.', runs),
                ('repvgg_seg_images_total', 'counter', 'Images in these runs.', images)):
            yield from header(name, kind, what)
            yield f'{name} {value}'
        if (memory := resident_bytes()) is not None:
            yield from header('process_resident_memory_bytes', 'gauge', 'Resident memory.')
            yield f'process_resident_memory_bytes {memory}'


def header(name: str, kind: str, what: str) -> list[str]:
    """The two lines that introduce a metric."""
    return [f'# HELP {name} {what}', f'# TYPE {name} {kind}']


def resident_bytes() -> int | None:
    """Resident memory of this process; None where there is no /proc."""
    return int(STATM.read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') if STATM.is_file() else None
