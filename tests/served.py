"""A server of a stand-in for a model, in a process of its own, and pictures for it.

The stand-in's labels are the red values of the pixels, modulo the number of classes; 255 stays. A picture whose first pixel is
``SLOW`` takes two seconds.
"""
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from repvgg_seg.runtime.predictor import Predictor

ROOT = Path(__file__).parents[1]
CLASSES = ('road', 'sky', '</script><b>&')
PALETTE = [[128, 64, 128], [70, 130, 180], [220, 20, 60]]
SLOW = (1, 254, 1)


def labels_of(images: np.ndarray) -> np.ndarray:
    """The stand-in: uint8 (N, H, W, C) -> uint8 (N, H, W)."""
    if (images[:, 0, 0] == SLOW).all(axis=1).any():
        time.sleep(2)
    return np.where(images[..., 0] == 255, 255, images[..., 0] % len(CLASSES)).astype(np.uint8)


def stand_in(run=labels_of, size=None, **changes) -> Predictor:
    """A predictor on a function; by default it takes pictures of 16x16 pixels or more."""
    info = dict(dict(classes=CLASSES, palette=PALETTE, channels='RGB', min_size=16), **changes)
    return Predictor(run, info, dict(size=size, precision='fp32', output='labels', format='none'))


def noise(height: int = 40, width: int = 60, seed: int = 0, channels: int = 3) -> np.ndarray:
    """An image with every class and unknown pixels."""
    image = np.random.default_rng(seed).integers(0, 255, (height, width, channels), np.uint8)
    image[::7, ::5, 0] = 255
    return image


def encoded(image: np.ndarray | Image.Image, kind: str = 'PNG', **options) -> bytes:
    """A file of an image."""
    buffer = io.BytesIO()
    (Image.fromarray(image.squeeze()) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(body: bytes) -> np.ndarray:
    """The image of a file."""
    return np.asarray(Image.open(io.BytesIO(body)))


class Served(NamedTuple):
    """A running server."""
    process: subprocess.Popen
    port: int

    def ask(self, method: str, path: str, body=None, headers=None, **options) -> tuple[int, bytes]:
        """Status and body of the response to a request."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {}, **options)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def segment(self, body: bytes, kind: str = 'image/png', query: str = '') -> tuple[int, dict]:
        """Status and content of the answer to a picture."""
        status, content = self.ask('POST', f'/segment{query}', body, {'Content-Type': kind})
        return status, json.loads(content)

    def metric(self, name: str) -> float:
        """A value in /metrics."""
        lines = self.ask('GET', '/metrics')[1].decode().splitlines()
        return next((float(line.rpartition(' ')[2]) for line in lines if line.rpartition(' ')[0] == name), 0)


@contextmanager
def served(*options: str) -> Iterator[Served]:
    """Start ``repvgg-seg serve`` with the stand-in; it is stopped with the block, and must end well."""
    for package in ('fastapi', 'uvicorn'):
        pytest.importorskip(package, reason='needs the extra [serve]')
    process = subprocess.Popen([sys.executable, __file__, '--port', '0', *options], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, env=dict(os.environ, PYTHONPATH=f'{ROOT}:{ROOT / "tests"}'))
    try:
        line = process.stdout.readline()
        assert line.startswith('Serving stand-in at http://127.0.0.1:'), process.stderr.read()
        yield Served(process, int(line.split(',')[0].rpartition(':')[2]))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err) == (0, 'Stopped\n', '')
    finally:
        process.kill()
        process.wait()


if __name__ == '__main__':
    from repvgg_seg.commands.main import main
    from repvgg_seg.serving import running
    running.load_segmentor = lambda *_: stand_in()
    main(['serve', 'stand-in', *sys.argv[1:]])
    loaded = {'torch', 'cv2', 'mmengine'} & set(sys.modules)
    assert not loaded, loaded
