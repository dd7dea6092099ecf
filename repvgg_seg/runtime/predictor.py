"""Running an exported model with NumPy and one backend (see ``BACKENDS``), without OpenMMLab packages.

>>> from repvgg_seg.deploy.runtime import load            # doctest: +SKIP
>>> predictor = load('exported')                          # a folder that repvgg-seg deploy wrote, or one file in it
>>> labels = predictor(image)                             # uint8 (H, W, 3) -> uint8 (H, W) of class indices
"""
import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from ..core.command_names import command
from ..core.errors import UserError, some
from ..core.labels import check_class_count
from ..core.tasks import CLASSIFICATION, SEGMENTATION
from .backend import AUTO, CPU, DeviceError, Run, Setting
from .backends import BACKENDS, backend_of, holds_files, load_file, parts_of
from .devices import SIDE, check_device, placements
from .report import PIXELS, REPORT, read_record

PROGRAM = '.pt2'
OVERLAP = 64  # Default overlap of neighboring windows, in pixels.


class Predictor:
    """A loaded artifact.

    Args:
        run: function of images of ``dtype`` (N, H, W, in_channels), with the artifact's N, that returns class indices, uint8
            (N, H, W) for a segmentor and int64 (N,) for a classifier; or logits, float32 (N, C, H, W) or (N, C).
        info: content of the folder's ``deploy.json``.
        artifact: entry of the artifact's file in ``deploy.json``.
        device: device that ``run`` computes on.

    Attributes:
        task: task of the model, 'segmentation' or 'classification'.
        classes: names of the classes, by index.
        palette: RGB color of each class; empty for a classifier.
        channels: required order of the image channels, 'RGB' or 'BGR'; None if there are not three channels.
        in_channels: required number of image channels.
        dtype: required NumPy dtype of images, uint8 or uint16.
        align_corners: whether the segmentor aligns the corner pixels of images when it resizes logits.
        threshold: probability above which a segmentor with a single logit per pixel means class 1.
        size: required height and width of the images; None for any size.
        device: device that computes.
    """

    def __init__(self, run: Run, info: dict, artifact: dict, device: str = CPU) -> None:
        self.run, self.artifact, self.device = in_batches(run, artifact.get('batch')), artifact, device
        self.task = info.get('task', SEGMENTATION)  # Earlier versions wrote segmentors only.
        self.classes, self.palette = tuple(info['classes']), info.get('palette') or []
        if self.task == SEGMENTATION and artifact.get('output') != 'logits':
            check_class_count(len(self.classes), 'the exported segmentor')
        self.channels = info['channels']
        self.in_channels = info.get('in_channels', 3)
        self.dtype = np.dtype(info.get('dtype', PIXELS[0]))
        self.align_corners = bool(info.get('align_corners'))
        self.threshold: float = info.get('threshold') or 0.5
        self.size = tuple(artifact['size']) if artifact['size'] else None
        self.min_size = info['min_size']

    @overload
    def __call__(self, images: np.ndarray, tile: tuple[int, int] | None = ..., overlap: int | tuple[int, int] | None = ...,
                 batch_size: int = ...) -> np.ndarray: ...

    @overload
    def __call__(self, images: Sequence[np.ndarray], tile: tuple[int, int] | None = ...,
                 overlap: int | tuple[int, int] | None = ..., batch_size: int = ...) -> list[np.ndarray]: ...

    def __call__(self, images: np.ndarray | Sequence[np.ndarray], tile: tuple[int, int] | None = None,
                 overlap: int | tuple[int, int] | None = None, batch_size: int = 1) -> np.ndarray | list[np.ndarray]:
        """Segment or classify one image or several.

        Args:
            images: image of ``dtype`` (H, W, in_channels), or a list of images of any sizes.
            tile: height and width of the sliding windows into which a segmentor splits larger images. By default, an artifact
                of a fixed size uses that size, and an artifact for any size does not split.
            overlap: overlap of neighboring windows in pixels, one number or one for each axis; by default 64, but at most half
                a window. Each pixel is taken from the window in which it is farther from the edge.
            batch_size: number of windows of an image that are computed at once.

        Returns:
            Class indices: uint8 (H, W) for a segmentor; int64 () for a classifier, which is an array without axes that can be
            used as an index like an ``int``. Artifacts with logits return float32 (C, H, W) or (C,). A list for a list.

        Raises:
            UserError: an image or tile does not have the form or size that the artifact requires, or a classifier is asked to
                split images.
        """
        if self.task == CLASSIFICATION:
            if tile is not None or overlap is not None or batch_size != 1:
                raise UserError('tile, overlap and batch_size are for segmentors; a classifier takes whole images, so leave '
                                'them out')
            return self._classify(images) if isinstance(images, np.ndarray) else [self._classify(image) for image in images]
        if not isinstance(batch_size, Integral) or batch_size < 1:
            raise UserError(f'batch_size must be 1 or more, got {batch_size}')
        if tile is not None:
            tile = pair(tile, f'tile must be height and width, {self.min_size} or more each')
        tile = tile or self.size
        if overlap is None:
            overlap = tuple(min(OVERLAP, length // 2) for length in tile or (0, 0))
        shared = pair((overlap, overlap) if isinstance(overlap, Integral) else overlap,
                      'overlap must be a number of pixels, or one for each axis')
        if isinstance(images, np.ndarray):
            return self._segment(images, tile, shared, batch_size)
        return [self._segment(image, tile, shared, batch_size) for image in images]

    def batch(self, images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Segment or classify images of one size in one call of the backend, which can be faster than one call for each.

        Args:
            images: images of ``dtype``, as an array (N, H, W, in_channels) or a sequence of (H, W, in_channels).

        Returns:
            Class indices: uint8 (N, H, W) from a segmentor, int64 (N,) from a classifier. Artifacts with logits return float32
            (N, C, H, W) or (N, C).

        Raises:
            UserError: there is no image, the images have different sizes, or one does not have the form or size that the
                artifact requires.
        """
        if len(images) == 0:
            raise UserError('a batch needs one image or more, got none')
        for image in images:
            self._check(image, None)
        size, *others = dict.fromkeys(image.shape[:2] for image in images)
        if others:
            first, second = (f'{height}x{width}' for height, width in (size, others[0]))
            raise UserError(f'the images of a batch must have one size, got {first} and {second}; give images of other sizes '
                            'in calls of their own')
        if self.size not in (None, size):
            raise UserError(f'the images have {size[0]}x{size[1]} pixels, a batch of this artifact takes {self.size[0]}x'
                            f'{self.size[1]} only; give larger images one by one, or export without --size')
        return self.run(np.stack(list(images)))

    def _classify(self, image: np.ndarray) -> np.ndarray:
        self._check(image, None)
        if self.size and image.shape[:2] != self.size:
            raise UserError(f'the image has {image.shape[0]}x{image.shape[1]} pixels, this artifact takes '
                            f'{self.size[0]}x{self.size[1]} only; resize the image, or export without --size')
        return np.asarray(self.run(np.stack([image]))[0])

    def _segment(self, image: np.ndarray, tile: tuple[int, int] | None, overlap: tuple[int, int],
                 batch_size: int) -> np.ndarray:
        self._check(image, tile)
        height, width = image.shape[:2]
        rows, columns = (list(windows(size, min(size, limit), shared))
                         for size, limit, shared in zip((height, width), tile or (height, width), overlap))
        pairs = [(row, column) for row in rows for column in columns]
        for first in range(0, len(pairs), batch_size):
            chosen = pairs[first:first + batch_size]
            outputs = self.run(np.stack([image[row.start:row.stop, column.start:column.stop] for row, column in chosen]))
            if first == 0:
                whole = np.empty((*outputs.shape[1:-2], height, width), outputs.dtype)
            for output, (row, column) in zip(outputs, chosen):
                whole[..., row.first:row.end, column.first:column.end] = output[
                    ..., row.first - row.start:row.end - row.start, column.first - column.start:column.end - column.start]
        return whole

    def _check(self, image: np.ndarray, tile: tuple[int, int] | None) -> None:
        if not (isinstance(image, np.ndarray) and image.dtype == self.dtype and image.ndim == 3
                and image.shape[2] == self.in_channels):
            found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
            order = f', {self.channels}' if self.channels else ''
            raise UserError(f'an image must be a NumPy array, {self.dtype} (height, width, {self.in_channels}){order}; got '
                            f'{found}')
        if tile is not None and min(tile) < self.min_size:
            raise UserError(f'tile must be height and width, {self.min_size} or more each, got {tile}')
        if self.size and tile is not None and tile != self.size:
            raise UserError(f'this artifact takes windows of {self.size[0]}x{self.size[1]} only, got tile={tile}; export '
                            'without --size for other sizes')
        smallest = self.size or (self.min_size, self.min_size)
        if image.shape[0] < smallest[0] or image.shape[1] < smallest[1]:
            raise UserError(f'the image has {image.shape[0]}x{image.shape[1]} pixels, this artifact takes '
                            f'{smallest[0]}x{smallest[1]} or more; enlarge the image')


def in_batches(run: Run, batch: int | None) -> Run:
    """Let a function of ``batch`` images take any number of images; the last batch is filled with its last image.

    Args:
        run: function of images (N, ...); see :class:`Predictor`.
        batch: the only N that it takes; None if it takes any.
    """
    if batch is None:
        return run

    def run_all(images: np.ndarray) -> np.ndarray:
        missing = -len(images) % batch
        filled = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images
        outputs = [run(filled[first:first + batch]) for first in range(0, len(filled), batch)]
        return outputs[0] if len(images) == batch else np.concatenate(outputs)[:len(images)]

    return run_all


def pair(value: object, expected: str) -> tuple[int, int]:
    """Convert two integers of NumPy or Python to Python integers.

    Raises:
        UserError: the value is not a pair of integers; the message begins with ``expected``.
    """
    given = list(value) if isinstance(value, (tuple, list, np.ndarray)) else []
    if len(given) != 2 or not all(isinstance(each, Integral) for each in given):
        raise UserError(f'{expected}, got {value}')
    return int(given[0]), int(given[1])


class Window(NamedTuple):
    """A window along one axis: ``start`` to ``stop`` is computed, and ``first`` to ``end`` of it is used."""
    start: int
    stop: int
    first: int
    end: int


def windows(size: int, length: int, overlap: int) -> Iterator[Window]:
    """Cover an axis of ``size`` pixels with windows of equal ``length``; neighbors meet in the middle of their overlap.

    Raises:
        UserError: the overlap is too large for the windows to advance.
    """
    if length == size:
        yield Window(0, size, 0, size)
        return
    if not 0 <= overlap < length:
        raise UserError(f'overlap must be from 0 to {length - 1} for windows of {length} pixels, got {overlap}; give a smaller '
                        'overlap or larger tiles')
    starts = [*range(0, size - length, length - overlap), size - length]
    cuts = [0, *((after + before + length) // 2 for before, after in zip(starts, starts[1:])), size]
    for start, first, end in zip(starts, cuts, cuts[1:]):
        yield Window(start, start + length, first, end)


def load(source: str | Path, threads: int | None = None, verify: bool = True, device: str = CPU,
         throughput: bool | None = False) -> Predictor:
    """Load an artifact that ``repvgg-seg deploy`` exported. The predictor can be shared between threads.

    Args:
        source: a file (``.onnx``, ``.xml``, ``.pt2`` or ``.param``), or the folder. From a folder, the first artifact whose
            backend is installed is loaded, fp32 artifacts first and then in the order of ``BACKENDS``. A ``.pt2`` file is a
            program, so it is loaded only if ``source`` names it.
        threads: number of CPU threads; by default the backend decides.
        verify: whether to compare the files with the SHA-256 recorded at export.
        device: 'cpu'; or a device of one of the backends: 'cuda' (ONNX Runtime, PyTorch), 'tensorrt', 'coreml' (ONNX Runtime),
            'openvino:GPU', 'openvino:NPU', 'vulkan' (ncnn); or 'auto' for the first of them that is here and works, else the
            CPU. Before a predictor for another device is returned, its classes are compared with those of the CPU.
        throughput: whether several threads will use the predictor at the same time, for which OpenVINO has a mode of its own;
            None if they will, but runtimes without such a mode will do as well.

    Raises:
        UserError: there is no artifact, ``deploy.json`` is broken, or a file is damaged or differs from the exported one; or
            an argument has no effect.
        DeviceError: the device is not here, cannot run the file, or gives other classes than the CPU.
        InstallationError: the backend is not installed.
    """
    if threads is not None:
        if not isinstance(threads, Integral) or threads < 1:
            raise UserError(f'threads must be 1 or more, or None, got {threads}')
        threads = int(threads)
    source = Path(source)
    is_folder = holds_files(source)
    folder = source if is_folder else source.parent
    info = read_record(source)
    artifacts = {name: entry for name, entry in info['artefacts'].items() if (folder / name).exists()}
    wanted = [name for name in artifacts if is_folder or name == source.name]
    if not wanted:
        raise UserError(f'{source} is not an artifact that can be run; of those in {REPORT} there are '
                        f'{some(artifacts) or "none"}. Export one with {command("deploy")} --formats onnx, openvino, pt2 or '
                        'ncnn')
    if is_folder and all(name.endswith(PROGRAM) for name in wanted):
        raise UserError(f'{folder} holds {some(wanted)} only, which is a program and can run any code; if you exported it '
                        f'yourself, load it by its name: {folder / wanted[0]}')
    # Take the first whose backend is installed; those closest to the trained model come first.
    wanted = [name for name in wanted if not is_folder or not name.endswith(PROGRAM)]
    preference = list(BACKENDS.values())
    wanted.sort(key=lambda name: (artifacts[name]['precision'] != 'fp32', preference.index(backend_of(Path(name)))))
    able = [name for name in wanted if backend_of(Path(name)).runs_here
            and importlib.util.find_spec(backend_of(Path(name)).module) is not None] or wanted
    chosen = placements(able[:1] if device == CPU else able, device)
    if threads is not None and device not in (CPU, AUTO):
        raise UserError(f'threads is for the CPU, but the device is {device}; leave it out')
    for name, place in chosen if device == AUTO else chosen[:1]:
        backend = backend_of(Path(name))
        if throughput and not backend.throughput:
            raise UserError(f'{name} runs in {backend.title}, which has no mode for throughput; leave it out')
        if verify:
            check_hash(folder / name, artifacts[name].get('sha256'))
        try:
            return _placed(folder / name, info, artifacts[name], Setting(
                threads if place == CPU else None, place, throughput is not False and backend.throughput))
        except DeviceError:
            if device != AUTO or place == CPU:
                raise
    raise DeviceError(f'{source} runs on no device here')


def _placed(path: Path, info: dict, artifact: dict, setting: Setting) -> Predictor:
    """Load a file; on another device than the CPU, only if it gives the classes of the CPU."""
    precision = artifact['precision']
    predictor = Predictor(load_file(path, precision, setting), info, artifact, setting.device)
    if setting.device != CPU:
        height, width = predictor.size or (max(SIDE, predictor.min_size), ) * 2
        reference = in_batches(load_file(path, precision), artifact.get('batch'))
        check_device(path, setting.device, predictor.run, reference, precision, (height, width, predictor.in_channels),
                     predictor.dtype)
    return predictor


def sha256_of(path: Path) -> str:
    """Hash an artifact: the file, and the weights if they are in a separate file beside it."""
    return _sha256(*parts_of(path))


def check_hash(path: Path, expected: str | None) -> None:
    """Compare an artifact with its hash in ``deploy.json``, if it has one.

    Raises:
        UserError: the hashes differ.
    """
    if expected is None:
        return
    if missing := [part.name for part in parts_of(path) if not part.is_file()]:
        raise UserError(f'{path} has its weights in {missing[0]}, which is not beside it; copy both files')
    weights = path.with_suffix('.bin')
    # Version 0.1.0 included OpenVINO's weights in the hash of every file with the same name that was written after them.
    if (found := sha256_of(path)) != expected and not (weights.is_file() and _sha256(path, weights) == expected):
        raise UserError(f'{path} is not the file that was exported: its sha256 begins with {found[:12]}, the one in {REPORT} '
                        f'with {expected[:12]}; copy or export it again, or load it as it is with --trust-checkpoint, in '
                        'Python with load(..., verify=False)')


def _sha256(*parts: Path) -> str:
    return hashlib.sha256(b''.join(part.read_bytes() for part in parts)).hexdigest()
