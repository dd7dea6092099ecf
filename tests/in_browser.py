"""The page of a folder that ``deploy --formats web`` wrote, in Chromium beside the same files in Python.

python tests/in_browser.py FOLDER [PICTURE] segments 20 drawn streets by both, prints differences and times, and writes a
picture of the page.
"""
import functools
import http.server
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from browser import Browser, browser
from PIL import Image

SCENE = 5_000_004  # Seed of a street that the model of the quick demo has not seen.
STREETS = 20


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files that the browser asks for again each time."""

    def end_headers(self) -> None:
        self.send_header('Cache-Control', 'no-store')
        super().end_headers()

    def log_message(self, *_) -> None:
        pass


@contextmanager
def static_server(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; the address of the server."""
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f'http://127.0.0.1:{server.server_port}/'
        finally:
            server.shutdown()


def segmented(page: Browser, file: Path) -> np.ndarray:
    """The label map that the page makes of a picture: uint8 (H, W)."""
    before = page.run('document.querySelectorAll("#strip button").length')
    page.choose('#files', file)
    page.wait(f'document.querySelectorAll("#strip button").length === {before + 1} && find("busy").hidden')
    width, height = page.run('[shown.canvas.width, shown.canvas.height]')
    return np.array(page.run('[...shown.labels]'), np.uint8).reshape(height, width)


def measure(folder: Path, picture: Path | None = None) -> None:
    """Compare and time a deployed folder; see the module."""
    from repvgg_seg.datasets.toy import draw_scene
    from repvgg_seg.runtime.predictor import load
    with (tempfile.TemporaryDirectory() as temporary, browser(Path(temporary, 'profile')) as page,
          static_server(folder) as address):
        streets = [draw_scene(SCENE + number)[0] for number in range(STREETS)]
        files = [Path(temporary, f'{number}.png') for number in range(STREETS)]
        for street, file in zip(streets, files):
            Image.fromarray(street).save(file)
        for path in sorted(folder.glob('*.web.onnx')):
            page.open(f'{address}?precision={path.name.split(".")[1]}')
            page.wait('document.body.dataset.ready')
            predictor = load(path, threads=1)
            differing, in_browser, in_python = 0, [], []
            for street, file in zip(streets, files):
                labels = segmented(page, file)
                in_browser.append(page.run('shown.milliseconds.Network'))
                start = time.perf_counter()
                expected = predictor(street)
                in_python.append(1000 * (time.perf_counter() - start))
                differing += int((labels != expected).sum())
            sys.stdout.write(f'{path.name}: {differing} of {STREETS * labels.size} pixels differ; median ms of a street in the '
                             f'browser {statistics.median(in_browser):.1f}, in Python with 1 thread '
                             f'{statistics.median(in_python):.1f}\n')
        if picture is not None:
            page.open(address, height=700)
            page.wait('document.body.dataset.ready')
            for file in [*files[1:4], files[0]]:
                segmented(page, file)
            page.screenshot(picture)
            Image.open(picture).convert('RGB').quantize(256).save(picture, optimize=True)


if __name__ == '__main__':
    measure(*map(Path, sys.argv[1:]))
