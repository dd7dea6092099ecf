"""Videos, cameras and streams, as OpenCV reads them."""
import logging
import math
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import numpy as np

from ...core.errors import UserError
from ...core.logs import print_log
from ...core.noise import without_native_messages
from ...core.reading import without_secrets
from ...datasets.files import refuse_special

VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg', '.wmv', '.flv')
TIMEOUT = 15_000  # Milliseconds in which a stream has to answer.
FPS = 25.0  # Frames per second of sources that do not say it.
MAX_FPS = 1000.0  # Some cameras and files report larger values, which are not frame rates.


class Capture:
    """An opened video, camera or stream.

    Args:
        video: OpenCV's object.
        given: what the user gave, for messages.

    Attributes:
        fps: frames per second.
        length: number of frames according to the file, which may be inexact; 0 if unknown.
        codec: code of four letters of the codec, such as 'avc1'.
    """

    def __init__(self, video: cv2.VideoCapture, given: str) -> None:
        self.video, self.given = video, given
        fps, length = video.get(cv2.CAP_PROP_FPS), video.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else FPS
        self.length = int(length) if 0 < length < 2**31 else 0
        self.codec = int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, 'little', signed=True).decode('latin-1')

    @classmethod
    def of_file(cls, path: Path) -> AbstractContextManager['Capture']:
        """Open a video file, for a ``with`` statement.

        Raises:
            DataError: the path is a pipe, a socket or a device.
            UserError: OpenCV cannot read it.
        """
        refuse_special(str(path), 'video')
        # Without the name of the backend, OpenCV would take a number in the name for that of a series of images.
        return opened(str(path), f'video {path} cannot be read; it is damaged, or OpenCV does not know its format',
                      str(path), cv2.CAP_FFMPEG)

    @classmethod
    def of_stream(cls, url: str) -> AbstractContextManager['Capture']:
        """Open a URL, see :meth:`of_file`."""
        shown = without_secrets(url)
        return opened(shown, f'{shown} cannot be opened within {TIMEOUT // 1000} seconds; check the address, the network and, '
                      'for RTSP, name and password (rtsp://NAME:PASSWORD@HOST/PATH)', url, cv2.CAP_FFMPEG,
                      [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT])

    @classmethod
    def of_camera(cls, number: int) -> AbstractContextManager['Capture']:
        """Open a camera, see :meth:`of_file`."""
        return opened(str(number), f'camera {number} cannot be opened; expected one that is connected and that no other '
                      'program uses', number)

    def frames(self) -> Generator[tuple[Path | np.ndarray, float], None, None]:
        """Yield each frame, uint8 BGR (H, W, 3), and its time in seconds."""
        count = 0
        while True:
            found, image = self.video.read()
            if not found:
                break
            count += 1
            yield image, self.video.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if count == 0:
            raise UserError(f'{self.given} has no frame that can be read; it is damaged, or OpenCV lacks its codec '
                            f'({self.codec.strip()})')
        if count < 0.95 * self.length:
            print_log(f'{self.given} ended after {count} of the {self.length} frames that it announces; is it cut short?',
                      'current', logging.WARNING)


@contextmanager
def opened(given: str, message: str, *arguments: object) -> Iterator[Capture]:
    """Open something with OpenCV, without OpenCV's own messages.

    Args:
        given: what the user gave.
        message: message of the error.
        arguments: arguments of ``cv2.VideoCapture``.

    Raises:
        UserError: it cannot be opened.
    """
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # FFmpeg's messages about damaged frames; OpenCV reads it once.
    with without_native_messages():
        video = cv2.VideoCapture(*arguments)
    try:
        if not video.isOpened():
            raise UserError(message)
        yield Capture(video, given)
    finally:
        video.release()
