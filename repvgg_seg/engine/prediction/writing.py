"""Writing and showing predictions: pictures, videos, shares of the classes, and a window."""
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ...core.destinations import Output
from ...core.errors import UserError
from ...core.files import replacing
from ...core.labels import IGNORE
from ...core.logs import print_log
from ...core.noise import without_native_messages
from ...core.visualization import UNKNOWN, save_labels
from .capturing import Capture
from .network import Prediction
from .sources import Images, Source, Video

# Codecs of videos as OpenCV names them when it reads -> codes with which it can write them to an MP4 file.
CODECS = {'FMP4': 'mp4v', 'mp4v': 'mp4v', 'avc1': 'avc1', 'h264': 'avc1', 'H264': 'avc1', 'hev1': 'hev1', 'hvc1': 'hev1',
          'HEVC': 'hev1', 'VP90': 'vp09', 'vp09': 'vp09', 'av01': 'av01', 'AV01': 'av01'}
USUAL_CODEC = 'mp4v'  # Every build of OpenCV can write it.
TITLE = 'repvgg-seg predict (q ends it)'
QUIT = (ord('q'), 27)  # Keys; 27 is Escape.


@dataclass(frozen=True)
class Style:
    """What is drawn and written.

    Args:
        opacity: opacity of the labels over the image, 0 to 1.
        beside: whether to put the image beside the overlay.
        labels_only: whether to write label maps and no overlays.
        confidence: whether to write a map of the confidence.
    """
    opacity: float = 0.55
    beside: bool = False
    labels_only: bool = False
    confidence: bool = False


class Drawn(NamedTuple):
    """A prediction with its overlay, uint8 RGB (H, W, 3), which is empty unless it is needed."""
    prediction: Prediction
    overlay: np.ndarray


def outputs_of(source: Source, out: Path, style: Style) -> list[Output]:
    """List the files and folders that are written for a source.

    Raises:
        UserError: a folder for the label maps of a video exists.
    """
    if isinstance(source, Images):
        kinds = ['', *([] if style.labels_only else ['_overlay']), *(['_confidence'] if style.confidence else [])]
        return [Output(out / f'{name}{kind}.png', str(path)) for name, path in source.named for kind in kinds]
    kinds = [*(['_labels'] if style.labels_only else []), *(['_confidence'] if style.confidence else [])]
    folders = [out / f'{source.name}{kind}' for kind in kinds]
    if existing := [folder for folder in folders if folder.exists()]:
        raise UserError(f'{existing[0]} exists, but the maps of the frames of {source.given} would be written there; remove '
                        'it, or choose another folder')
    return [Output(path, source.given) for path in [*folders, *([] if style.labels_only else [video_of(source, out)])]]


def video_of(source: Video, out: Path) -> Path:
    """Path of the video that is written for a source."""
    return out / f'{source.name}_overlay.mp4'


@contextmanager
def writer(source: Source, out: Path, style: Style, palette: Sequence[Sequence[int]]) -> Iterator[Callable[[Drawn], None]]:
    """Write the predictions of a source; what belongs to a video appears under its name when the context ends without an error.

    Args:
        source: source of the frames.
        out: folder.
        style: what to write.
        palette: RGB color of each class.

    Yields:
        A function that writes a prediction.
    """
    def save_map(path: Path, prediction: Prediction) -> None:
        save_labels(path, prediction.labels, palette)

    def save_confidence(path: Path, prediction: Prediction) -> None:
        save_labels(path, (prediction.confidence * 255).round().astype(np.uint8))

    if isinstance(source, Images):
        maps = {'': save_map, **({'_confidence': save_confidence} if style.confidence else {})}

        def write_pictures(drawn: Drawn) -> None:
            prediction, picture = drawn
            for kind, save in maps.items():
                with replacing(out / f'{prediction.frame.name}{kind}.png') as path:
                    save(path, prediction)
            if not style.labels_only:
                with replacing(out / f'{prediction.frame.name}_overlay.png') as path:
                    save_labels(path, picture)

        yield write_pictures
        return
    with ExitStack() as stack:
        folders = [(stack.enter_context(replacing(out / f'{source.name}{kind}')), save) for kind, save, wanted in (
            ('_labels', save_map, style.labels_only), ('_confidence', save_confidence, style.confidence)) if wanted]
        for folder, _ in folders:
            folder.mkdir()
        video = None if style.labels_only else stack.enter_context(VideoFile.of(source, video_of(source, out)))

        def write_frame(drawn: Drawn) -> None:
            prediction, picture = drawn
            for folder, save in folders:
                save(folder / f'{prediction.frame.name}.png', prediction)
            if video:
                video.write(picture, prediction.frame.seconds)

        yield write_frame


class VideoFile:
    """A video that is being written.

    Args:
        path: path of the file, which ends in ``.mp4``.
        source: source of the frames; its codec and frames per second are used as far as possible.

    Attributes:
        written: number of frames written so far.
    """

    def __init__(self, path: Path, source: Video) -> None:
        self.path, self.source, self.written = path, source, 0
        self.encoder: cv2.VideoWriter | None = None
        self.size = (0, 0)

    @classmethod
    @contextmanager
    def of(cls, source: Video, path: Path) -> Iterator['VideoFile']:
        """Write a video atomically.

        Raises:
            UserError: OpenCV cannot write it, or less of it arrived than was written.
        """
        with replacing(path) as temporary:
            video = cls(temporary, source)
            try:
                yield video
            finally:
                if video.encoder:
                    video.encoder.release()
            if video.written:
                video.check(path)

    def write(self, picture: np.ndarray, seconds: float) -> None:
        """Write a frame.

        Args:
            picture: uint8 RGB (H, W, 3). The first one determines the size of the video, to which others are resized.
            seconds: when it is shown. Only live sources need this: the frame is repeated, or left out, so that the video lasts
                as long as the source.
        """
        height, width = picture.shape[:2]
        if not self.encoder:
            self.size = width + width % 2, height + height % 2  # Codecs that halve the resolution of colors need even numbers.
            self.encoder = self.open()
        if (width, height) != self.size:
            if self.size[0] - width in (0, 1) and self.size[1] - height in (0, 1):
                picture = cv2.copyMakeBorder(picture, 0, self.size[1] - height, 0, self.size[0] - width, cv2.BORDER_REPLICATE)
            else:
                picture = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)
        frame = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        until = seconds * self.source.fps if self.source.live else self.written
        while self.written <= until:
            self.encoder.write(frame)
            self.written += 1

    def open(self) -> cv2.VideoWriter:
        """Open the file, with the codec of the source if OpenCV can write it.

        Raises:
            UserError: OpenCV cannot write the file.
        """
        codec = CODECS.get(self.source.capture.codec, USUAL_CODEC)
        for attempt in dict.fromkeys((codec, USUAL_CODEC)):
            with without_native_messages():
                encoder = cv2.VideoWriter(str(self.path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*attempt), self.source.fps,
                                          self.size)
            if encoder.isOpened():
                if attempt != codec:
                    print_log(f'this OpenCV cannot write the codec of {self.source.given} ({codec}); the video is written '
                              f'with {attempt}', 'current', logging.WARNING)
                return encoder
        raise UserError(f'OpenCV cannot write a video of {self.size[0]}x{self.size[1]} pixels; use --labels-only, or another '
                        'build of OpenCV')

    def check(self, path: Path) -> None:
        """Check that the file can be played; OpenCV does not report a full disk.

        Raises:
            UserError: the file has fewer frames than were written.
        """
        try:
            with Capture.of_file(self.path) as written:
                complete = written.length == self.written
        except UserError:
            complete = False
        if not complete:
            raise UserError(f'{path} cannot be written completely; make room on the disk, or choose another folder')


@contextmanager
def shares_file(path: Path, classes: Sequence[str]) -> Iterator[Callable[[Source, Prediction], None]]:
    """Write the share of each class in each frame to a file of JSON Lines: one object in each line.

    Args:
        path: path of the file, which appears when the context ends without an error.
        classes: names of the classes.

    Yields:
        A function of a source and a prediction.
    """
    with replacing(path) as temporary, temporary.open('w', encoding='utf-8') as file:
        def write(source: Source, prediction: Prediction) -> None:
            frame = prediction.frame
            counts = np.bincount(prediction.labels.ravel(), minlength=IGNORE + 1) / prediction.labels.size
            place = dict(image=str(frame.image)) if isinstance(source, Images) else dict(
                video=source.given, frame=int(frame.name), seconds=round(frame.seconds, 3))
            shares = {name: round(float(share), 6) for name, share in zip(classes, counts)}
            file.write(json.dumps({**place, 'shares': shares, UNKNOWN: round(float(counts[IGNORE]), 6)}) + '\n')

        yield write
        file.flush()


@contextmanager
def window() -> Iterator[Callable[[np.ndarray], bool]]:
    """Open a window on the screen.

    Yields:
        A function that shows a picture, uint8 RGB (H, W, 3), and returns whether the user wants to see more.

    Raises:
        UserError: there is no screen, or this OpenCV cannot open windows.
    """
    if sys.platform == 'linux' and not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        raise UserError('--show needs a screen, but neither DISPLAY nor WAYLAND_DISPLAY is set; use --out DIR')
    try:
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error:
        raise UserError('--show needs windows, which this OpenCV was built without; install opencv-python in place of '
                        'opencv-python-headless, or use --out DIR') from None

    def show(picture: np.ndarray) -> bool:
        cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF not in QUIT and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) > 0

    try:
        yield show
    finally:
        cv2.destroyWindow(TITLE)
