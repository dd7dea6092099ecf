"""Running an exported segmentor with NumPy and one backend (ONNX Runtime, OpenVINO, PyTorch or ncnn); no OpenMMLab package.

>>> from repvgg_seg.deploy.runtime import load            # doctest: +SKIP
>>> predictor = load('exported')                          # a folder that tools/deploy.py wrote, or one file in it
>>> labels = predictor(image)                             # uint8 (H, W, 3) -> uint8 (H, W) of class indices
"""
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, overload

import numpy as np

from ..errors import InstallationError, UserError, some
from ..labels import check_class_count

REPORT = 'deploy.json'
# Precision of an artefact, in OpenVINO's words; in int8 of what is not quantised. A CPU without bf16 takes f32 for it.
OPENVINO_PRECISION = {'fp32': 'f32', 'fp16': 'f16', 'bf16': 'bf16', 'int8': 'bf16'}

Run = Callable[[np.ndarray], np.ndarray]


class Predictor:
    """A loaded artefact.

    Args:
        run: images uint8 (N, H, W, 3) -> label maps uint8 (N, H, W), or logits float32 (N, C, H, W).
        info: the folder's ``deploy.json``.
        artefact: the entry of the file in it.

    Attributes:
        classes: names of the classes, by index.
        palette: RGB color of each class.
        channels: 'RGB' or 'BGR', the order of the channels that images must have.
        size: height and width of the images, or None for any size.
    """

    def __init__(self, run: Run, info: dict, artefact: dict) -> None:
        self.run, self.artefact = run, artefact
        self.classes, self.palette = tuple(info['classes']), info['palette']
        if artefact.get('output') != 'logits':
            check_class_count(len(self.classes), 'the exported segmentor')
        self.channels = info['channels']
        self.size = tuple(artefact['size']) if artefact['size'] else None
        self.min_size = info['min_size']

    @overload
    def __call__(self, images: np.ndarray, tile: tuple[int, int] | None = ..., overlap: int | tuple[int, int] = ...,
                 batch_size: int = ...) -> np.ndarray: ...

    @overload
    def __call__(self, images: Sequence[np.ndarray], tile: tuple[int, int] | None = ..., overlap: int | tuple[int, int] = ...,
                 batch_size: int = ...) -> list[np.ndarray]: ...

    def __call__(self, images: np.ndarray | Sequence[np.ndarray], tile: tuple[int, int] | None = None,
                 overlap: int | tuple[int, int] = 64, batch_size: int = 1) -> np.ndarray | list[np.ndarray]:
        """Segment an image, or some.

        Args:
            images: uint8 (H, W, 3), or a list of such, of any sizes.
            tile: height and width of the windows to which larger images are cut; by default an artefact of a fixed size cuts
                to that, one of any size does not cut.
            overlap: of neighbouring windows, in pixels, or one for each axis. Each pixel is taken from the window in which it
                is further inside.
            batch_size: windows of an image that are computed at once.

        Returns:
            uint8 (H, W) of class indices; of an artefact with logits, float32 (C, H, W). A list where a list was given.

        Raises:
            UserError: an image or a tile does not have the form or size that the artefact takes.
        """
        if batch_size < 1:
            raise UserError(f'batch_size must be 1 or more, got {batch_size}')
        overlap = (overlap, overlap) if isinstance(overlap, int) else overlap
        if isinstance(images, np.ndarray):
            return self._segment(images, tile or self.size, overlap, batch_size)
        return [self._segment(image, tile or self.size, overlap, batch_size) for image in images]

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
        if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
            found = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
            raise UserError(f'an image must be a NumPy array, uint8 (height, width, 3), {self.channels}; got {found}')
        if tile is not None and not (isinstance(tile, (tuple, list)) and len(tile) == 2 and min(tile) >= self.min_size):
            raise UserError(f'tile must be height and width, {self.min_size} or more each, got {tile}')
        if self.size and tile is not None and tuple(tile) != self.size:
            raise UserError(f'this artefact takes windows of {self.size[0]}x{self.size[1]} only, got tile={tile}; export '
                            'with --dynamic for other sizes')
        smallest = self.size or (self.min_size, self.min_size)
        if image.shape[0] < smallest[0] or image.shape[1] < smallest[1]:
            raise UserError(f'the image has {image.shape[0]}x{image.shape[1]} pixels, this artefact takes '
                            f'{smallest[0]}x{smallest[1]} or more; enlarge the image')


class Window(NamedTuple):
    """A stretch of an axis: ``start`` to ``stop`` is computed, ``first`` to ``end`` of it is used."""
    start: int
    stop: int
    first: int
    end: int


def windows(size: int, length: int, overlap: int) -> Iterator[Window]:
    """Cover an axis of ``size`` pixels with windows of equal ``length``, neighbours cut in the middle of what they share.

    Raises:
        UserError: the overlap leaves nothing to move by.
    """
    if length == size:
        yield Window(0, size, 0, size)
        return
    if not 0 <= overlap < length:
        raise UserError(f'overlap must be from 0 to {length - 1} for windows of {length} pixels, got {overlap}')
    starts = [*range(0, size - length, length - overlap), size - length]
    cuts = [0, *((after + before + length) // 2 for before, after in zip(starts, starts[1:])), size]
    for start, first, end in zip(starts, cuts, cuts[1:]):
        yield Window(start, start + length, first, end)


def load(source: str | Path, threads: int | None = None) -> Predictor:
    """Load an artefact that ``tools/deploy.py`` exported.

    Args:
        source: a file (``.onnx``, ``.xml``, ``.pt2`` or ``.param``), or the folder; of several in it one in fp32, and then the
            first in the order of ``BACKENDS``, whose backend is installed.
        threads: CPU threads; by default the backend decides.

    Raises:
        UserError: there is no artefact.
        InstallationError: the backend is not installed.
    """
    source = Path(source)
    folder = source if source.is_dir() else source.parent
    if not (folder / REPORT).is_file():
        raise UserError(f'{folder} has no {REPORT}; expected a folder that tools/deploy.py wrote, or a file in it')
    info = json.loads((folder / REPORT).read_text())
    artefacts = {name: entry for name, entry in info.get('artefacts', {}).items() if (folder / name).is_file()}
    wanted = [name for name in artefacts if source.is_dir() or name == source.name]
    if not wanted:
        raise UserError(f'{source} is no artefact to run; of those in {REPORT} there are {some(artefacts) or "none"}. Export '
                        'one with tools/deploy.py --formats onnx, openvino, pt2 or ncnn')
    # The first whose backend is here; what is nearest to the trained model comes first.
    wanted.sort(key=lambda name: (artefacts[name]['precision'] != 'fp32', list(BACKENDS).index(Path(name).suffix)))
    able = [name for name in wanted if importlib.util.find_spec(BACKENDS[Path(name).suffix][0]) is not None]
    name = (able or wanted)[0]
    return Predictor(load_file(folder / name, artefacts[name]['precision'], threads), info, artefacts[name])


def load_file(path: Path, precision: str, threads: int | None = None) -> Run:
    """Load one exported file into its backend.

    Args:
        path: the file, with a suffix in ``BACKENDS``.
        precision: in which it was exported.
        threads: CPU threads; by default the backend decides.

    Returns:
        A function of images uint8 (N, H, W, 3) to what was exported: label maps uint8 (N, H, W), or logits float32
        (N, C, H, W).

    Raises:
        InstallationError: the backend is not installed.
    """
    module, load_in = BACKENDS[path.suffix]
    try:
        backend = importlib.import_module(module)
    except ModuleNotFoundError:
        raise InstallationError(f'{path.name} needs {module}, which is not installed; run: pip install {module}') from None
    return load_in(backend, path, precision, threads)


def _onnxruntime(onnxruntime: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _openvino(openvino: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    # Otherwise OpenVINO takes bf16 wherever the CPU has it, also for what was exported and checked in fp32.
    settings: dict[str, str | int] = {'INFERENCE_PRECISION_HINT': OPENVINO_PRECISION[precision], 'PERFORMANCE_HINT': 'LATENCY'}
    if threads:
        settings['INFERENCE_NUM_THREADS'] = threads
    model = openvino.Core().compile_model(path, 'CPU', settings)
    return lambda images: model([images])[0]


def _torch(torch: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    if threads:
        torch.set_num_threads(threads)
    module = torch.no_grad()(torch.export.load(path).module())
    return lambda images: module(torch.from_numpy(images)).numpy()


def load_ncnn(ncnn: ModuleType, path: Path, precision: str, threads: int | None) -> Any:
    """Load the two files of an ncnn network into an ``ncnn.Net``.

    Raises:
        UserError: it cannot be read.
    """
    net = ncnn.Net()
    # By default it computes in 16 bits wherever the processor can, also what was exported and checked in fp32.
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = precision == 'bf16'
    if threads:
        net.opt.num_threads = threads
    weights = path.with_suffix('.bin')
    if net.load_param(str(path)) or net.load_model(str(weights)):
        raise UserError(f'ncnn cannot read {path} and {weights.name}; export them again')
    return net


def _ncnn(ncnn: ModuleType, path: Path, precision: str, threads: int | None) -> Run:
    net = load_ncnn(ncnn, path, precision, threads)
    output, = net.output_names()

    def segment(image: np.ndarray) -> np.ndarray:
        extractor = net.create_extractor()
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
        extractor.input('images', ncnn.Mat(pixels))
        logits = np.array(extractor.extract(output)[1])
        return logits.argmax(0).astype(np.uint8) if output == 'labels' else logits

    return lambda images: np.stack([segment(image) for image in images])


# Suffix -> backend and what loads a file into it, in order of preference.
BACKENDS = {'.xml': ('openvino', _openvino), '.onnx': ('onnxruntime', _onnxruntime), '.pt2': ('torch', _torch),
            '.param': ('ncnn', _ncnn)}
