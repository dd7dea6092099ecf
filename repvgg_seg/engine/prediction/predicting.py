"""Segmenting everything that a source gives, with reading, network, drawing and writing at the same time."""
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.config import Config
from rich.progress import track

from ...core.configs import files_of_config
from ...core.destinations import Output, check_outputs, ensure_writable, ensure_writable_file, files_of
from ...core.errors import Interruption, UserError
from ...core.labels import IGNORE
from ...core.signals import number_of, postponing_signals
from ...core.visualization import overlay
from ..dataset_configs import dataset_metainfo
from .network import Prediction, Segmenter, Tiling
from .sources import Source, Video, open_sources
from .stages import ahead
from .writing import Drawn, Style, outputs_of, shares_file, window, writer


@dataclass(frozen=True)
class Options:
    """How to predict.

    Args:
        style: what to draw and write.
        show: whether to show the overlays in a window.
        shares: file for the share of each class in each frame; None for no file.
        max_fps: largest number of frames per second to take from a camera or stream.
        fps: frames per second of a video that image files are the frames of; None to treat them as separate images.
        min_confidence: smallest probability of the predicted class with which a pixel gets it; None for any.
        tiling: how to split images into tiles; None to process whole images.
        device: device of the network, see :meth:`Segmenter.of`.
    """
    style: Style = Style()
    show: bool = False
    shares: Path | None = None
    max_fps: float | None = None
    fps: float | None = None
    min_confidence: float | None = None
    tiling: Tiling | None = None
    device: str | None = None


class Predicted(NamedTuple):
    """What was done.

    Args:
        written: files and folders, in the order of the sources.
        frames: number of frames.
        seconds: time from the beginning of the first frame to the end of the last one.
        network_seconds: time that the network took of it, which overlaps with reading, drawing and writing.
    """
    written: list[Path]
    frames: int
    seconds: float
    network_seconds: float

    @property
    def rates(self) -> str:
        """Frames per second of the whole, and of the network alone."""
        return (f'{self.frames} frame(s), {self.frames / self.seconds:.2f} a second; the network alone: '
                f'{self.frames / self.network_seconds:.2f} a second')


def predict(config: Config, checkpoint: str, given: str, out: Path | None, options: Options = Options()) -> Predicted:
    """Segment images, videos, a camera or a stream.

    For an image, ``NAME.png`` (class indices with a palette) and ``NAME_overlay.png`` are written, for a video
    ``NAME_overlay.mp4``; :class:`~repvgg_seg.engine.prediction.writing.Style` has more.

    Args:
        config: full config; images go through its test pipeline.
        checkpoint: training checkpoint, folder of a fused model, or exported file.
        given: what to segment, see :func:`~repvgg_seg.engine.prediction.sources.open_sources`.
        out: folder for these files; None to write none of them.
        options: how to predict.

    Raises:
        UserError: there is nothing to segment, an output would replace an input or another output, a file is damaged, the
            weights do not fit, or an option has no effect.
        Interruption: a signal ended it before the end of the images or video; what was done until then was written.
    """
    check_options(out, options)
    with ExitStack() as stack:
        sources = stack.enter_context(open_sources(given, options.max_fps, options.fps))
        planned = [output for source in sources for output in outputs_of(source, out, options.style)] if out else []
        if options.shares:
            planned.append(Output(options.shares, '--json'))
        read = (path for source in sources for path in source.files)
        check_outputs(planned, [*read, *files_of(checkpoint), *files_of_config(config)])
        metainfo = dataset_metainfo(config)
        segmenter = Segmenter.of(config, checkpoint, options.device, tiling=options.tiling, confident=options.style.confidence,
                                 min_confidence=options.min_confidence)
        run = Run(segmenter, out, options, **metainfo)
        run.show = stack.enter_context(window()) if options.show else None
        if out:
            ensure_writable(out)
        if options.shares:
            run.share = stack.enter_context(shares_file(ensure_writable_file(options.shares), metainfo['classes']))
        start = time.perf_counter()
        for source in sources:
            if not run.segment(source):
                break
        seconds = time.perf_counter() - start
    written = [output.path for output in planned if output.path.exists()]
    if run.stopped_by and not source.live:
        raise Interruption(f'stopped by {signal.Signals(run.stopped_by).name} after {run.frames} frame(s); their predictions '
                           'were written', run.stopped_by, resumable=False)
    return Predicted(written, run.frames, seconds, segmenter.seconds)


def check_options(out: Path | None, options: Options) -> None:
    """Check that something is written or shown, and that no option is without effect.

    Raises:
        UserError: nothing is, or an option is.
    """
    style = options.style
    if not (out or options.show or options.shares):
        raise UserError('nothing would be written or shown; give --out DIR, --show or --json FILE')
    if not out and (style.labels_only or style.confidence):
        raise UserError(f'--{"labels-only" if style.labels_only else "save-confidence"} writes files; give --out DIR')
    if not (out or options.show) and style != Style():
        raise UserError('--alpha and --side-by-side are for overlays, but nothing is drawn for --json alone; leave them out, '
                        'or add --out DIR or --show')
    if style.labels_only and not options.show and style != Style(labels_only=True, confidence=style.confidence):
        raise UserError('--labels-only writes no overlays, which --alpha and --side-by-side are for; leave them out')


class Run:
    """A run of the network on some sources.

    Args:
        segmenter: network with its test pipeline.
        out: folder for the outputs; None to write none.
        options: how to predict.
        classes: names of the classes.
        palette: RGB color of each class.

    Attributes:
        show: function that shows a picture; None for no window.
        share: function that writes the shares of the classes; None for no file.
        named: labels that the legend of a video names, so that its height does not change.
        frames: number of frames so far.
        stopped_by: number of the signal that ended it, e.g. by Ctrl-C; 0 if none did.
    """

    def __init__(self, segmenter: Segmenter, out: Path | None, options: Options, classes: Sequence[str],
                 palette: Sequence[Sequence[int]]) -> None:
        self.segmenter, self.out, self.options, self.classes, self.palette = segmenter, out, options, classes, palette
        self.show: Callable[[np.ndarray], bool] | None = None
        self.share: Callable[[Source, Prediction], None] | None = None
        self.named = [*range(len(classes)), *([IGNORE] if segmenter.abstains else [])]
        self.frames, self.stopped_by = 0, 0

    def segment(self, source: Source) -> bool:
        """Segment the frames of a source, each stage in a thread of its own, and write the results.

        Returns:
            Whether to go on with the next source: neither a signal nor the window ended this one.
        """
        read = ahead(self.segmenter.read, source.frames(), source.ahead)
        segmented = ahead(self.segmenter.segment, read, source.ahead)
        drawn = ahead(partial(self.draw, isinstance(source, Video)), segmented, source.ahead)
        with ExitStack() as stack:
            write = stack.enter_context(writer(source, self.out, self.options.style, self.palette)) if self.out else None
            stack.enter_context(closing(drawn))
            try:
                for each in track(drawn, description='Predicting', total=len(source) or None):
                    with postponing_signals():
                        if write:
                            write(each)
                        if self.share:
                            self.share(source, each.prediction)
                        self.frames += 1
                    if self.show and not self.show(each.overlay):
                        return False
            except KeyboardInterrupt as interrupt:
                self.stopped_by = number_of(interrupt)
        return not self.stopped_by

    def draw(self, of_video: bool, prediction: Prediction) -> Drawn:
        """Draw the overlay of a prediction, if it is needed; those of a video have one size."""
        style = self.options.style
        if not self.show and (not self.out or style.labels_only):
            return Drawn(prediction, prediction.image[:0])
        return Drawn(prediction, overlay(prediction.image, prediction.labels, self.classes, self.palette, style.opacity,
                                         style.beside, self.named if of_video else ()))
