"""Frames of images, videos, cameras, streams, URLs and standard input."""
import re
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from ...core.errors import UserError
from ...core.images import IMAGE_SUFFIXES, name_files
from ...core.reading import is_url, without_secrets
from .capturing import VIDEO_SUFFIXES, Capture
from .downloading import download
from .stages import newest

CAMERA = re.compile(r'(?:/dev/video)?([0-9]{1,3})')
STREAM = re.compile(r'(rtsps?|rtmps?|udp|tcp)://', re.IGNORECASE)
STANDARD_INPUT = '-'
EXPECTED = (f'expected an image, a video, a folder with files that end in {", ".join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}, a '
            'glob pattern, the number of a camera, a URL of http, https or rtsp, or - for standard input')


class Frame(NamedTuple):
    """An image to segment.

    Args:
        name: name of its outputs; for a frame of a video, its number.
        image: file, which the test pipeline reads; or a frame of a video, uint8 BGR (H, W, 3).
        seconds: time since the beginning of the video; 0 for an image.
    """
    name: str
    image: Path | np.ndarray
    seconds: float = 0.0

    def __str__(self) -> str:
        return f'image {self.image}' if isinstance(self.image, Path) else f'frame {int(self.name)}'


@dataclass(frozen=True)
class Images:
    """Image files, each of which has outputs of its own.

    Args:
        named: name of the outputs, and path, of each image.
    """
    named: list[tuple[str, Path]]
    live = False
    ahead = 1  # Images can be large, so that few of them are in memory at a time.

    @property
    def files(self) -> list[Path]:
        """Files that are read."""
        return [path for _, path in self.named]

    def __len__(self) -> int:
        return len(self.named)

    def frames(self) -> Generator[Frame, None, None]:
        """Yield each image."""
        for name, path in self.named:
            yield Frame(name, path)


@dataclass(frozen=True)
class ImageSequence:
    """Image files as the frames of a video.

    Args:
        paths: the files, in order.
        fps: frames per second.
    """
    paths: list[Path]
    fps: float
    codec = ''

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.paths)

    def frames(self) -> Generator[tuple[Path | np.ndarray, float], None, None]:
        """Yield each image, and its time in seconds."""
        yield from ((path, number / self.fps) for number, path in enumerate(self.paths))


@dataclass(frozen=True)
class Video:
    """A video whose frames have one output together.

    Args:
        name: name of the outputs.
        given: what the user gave, for messages; an address without its secrets.
        capture: the opened video, camera or stream, or image files in its place.
        live: whether frames arrive by themselves, so that those are dropped for which there is no time.
        max_fps: largest number of frames per second to take from a live source; None for as many as possible.
    """
    name: str
    given: str
    capture: 'Capture | ImageSequence'
    live: bool = False
    max_fps: float | None = None

    @property
    def ahead(self) -> int:
        """Number of frames to compute ahead of the next stage; few of a live source, because each delays the picture."""
        return 1 if self.live else 4

    @property
    def fps(self) -> float:
        """Frames per second of the output."""
        return min(self.capture.fps, self.max_fps or self.capture.fps)

    @property
    def files(self) -> list[Path]:
        """Files that are read; a path without a file for cameras and URLs."""
        return self.capture.paths if isinstance(self.capture, ImageSequence) else [Path(self.given)]

    def __len__(self) -> int:
        return 0 if self.live else self.capture.length

    def frames(self) -> Generator[Frame, None, None]:
        """Yield the frames; of a live source the newest each time, until the source ends."""
        if not self.live:
            yield from (Frame(f'{number:06}', image, seconds) for number, (image, seconds) in enumerate(self.capture.frames()))
            return
        start, due = time.monotonic(), 0.0
        for number, (image, _) in enumerate(newest(self.capture.frames())):
            now = time.monotonic() - start
            yield Frame(f'{number:06}', image, now)
            if self.max_fps:
                due = max(due + 1 / self.max_fps, now)
                time.sleep(max(0.0, due - (time.monotonic() - start)))


Source = Images | Video


@contextmanager
def open_sources(given: str, max_fps: float | None = None, fps: float | None = None) -> Iterator[list[Source]]:
    """Open what a user gave: image files first, then each video; downloads and open videos last as long as the context.

    Args:
        given: image, video, folder (searched recursively), glob pattern, number of a camera, URL, or ``-`` for the bytes of an
            image on standard input.
        max_fps: largest number of frames per second to take from a camera or stream; None for as many as possible.
        fps: frames per second of a video that image files are the frames of; None to treat them as separate images.

    Raises:
        UserError: there is nothing to segment, or it cannot be opened or downloaded; or ``max_fps`` or ``fps`` has no effect.
    """
    with ExitStack() as stack:
        sources, shown = find_sources(given, max_fps, stack), without_secrets(given)
        if max_fps and not any(source.live for source in sources):
            raise UserError(f'--max-fps is for cameras and streams, whose frames can be dropped; leave it out for {shown}')
        if fps:
            if not all(isinstance(source, Images) for source in sources):
                raise UserError(f'--as-video makes a video of image files; leave it out for {shown}')
            paths = [path for source in sources for path in source.files]
            sources = [Video(Path(given).name if Path(given).is_dir() else 'frames', given, ImageSequence(paths, fps))]
        yield sources


def find_sources(given: str, max_fps: float | None, stack: ExitStack) -> list[Source]:
    """See :func:`open_sources`; what has to be closed is put on the stack."""
    if given == STANDARD_INPUT:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), 'standard_input')
        path.write_bytes(read_input(sys.stdin.buffer))
        return [Images([('standard_input', path)])]
    if STREAM.match(given):
        name = re.sub(r'\W', '_', urlsplit(given).hostname or 'stream')
        return [Video(name, without_secrets(given), stack.enter_context(Capture.of_stream(given)), live=True, max_fps=max_fps)]
    if is_url(given):
        name = Path(urlsplit(given).path).name or 'image'
        if name.lower().endswith(VIDEO_SUFFIXES):
            return [Video(Path(name).stem, without_secrets(given), stack.enter_context(Capture.of_stream(given)))]
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), name)
        download(given, path)
        return [Images([(path.stem, path)])]
    if (number := CAMERA.fullmatch(given)) and not Path(given).is_file() and not Path(given).is_dir():
        capture = stack.enter_context(Capture.of_camera(int(number[1])))
        return [Video(f'camera_{number[1]}', given, capture, live=True, max_fps=max_fps)]
    named = name_files(given, (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))
    if not named:
        raise UserError(f'no image or video at {given}; {EXPECTED}')
    images = [(name, path) for name, path in named if not is_video(path)]
    videos = [Video(name, str(path), stack.enter_context(Capture.of_file(path))) for name, path in named if is_video(path)]
    return [*([Images(images)] if images else []), *videos]


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its name."""
    return path.name.lower().endswith(VIDEO_SUFFIXES)


def read_input(stream: BinaryIO) -> bytes:
    """Read the bytes of an image from standard input.

    Raises:
        UserError: it is a terminal, or empty.
    """
    if stream.isatty():
        raise UserError('- reads an image from standard input, which is a terminal; redirect a file to it, as in: < IMAGE')
    if not (data := stream.read()):
        raise UserError('standard input is empty; expected the bytes of an image')
    return data
