"""Compare the forms in which a segmentor can be deployed, each from pixels to class indices, one image at a time."""
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.command_names import command
from ..core.errors import UserError
from ..core.tasks import SEGMENTATION
from ..runtime.backend import CPU
from ..runtime.backends import backend_of, holds_files
from ..runtime.devices import placements
from ..runtime.predictor import check_hash, load
from ..runtime.report import REPORT, read_record
from .rounds import Measurement, Subject
from .tables import cell, timed

if TYPE_CHECKING:
    from mmengine.config import Config

REFERENCE = 'PyTorch, training form, fp32'
ON = ', on '  # Before the name of a device.
TRAINING_PACKAGES = ('mmengine', 'mmcv', 'mmseg')  # Not installed on machines that only run a deployed model.


def subjects(config: 'Config', checkpoint: str, source: Path, size: tuple[int, int], threads: int,
             device: str = CPU) -> list[Subject]:
    """List the training form and the fused form in PyTorch (fp32 and bf16), and every artifact of a folder.

    Args:
        config: config of the trained model.
        checkpoint: training checkpoint of the model.
        source: output folder of ``repvgg-seg deploy``, or an exported file.
        size: height and width of the image.
        threads: number of CPU threads of every form.
        device: device of the artifacts that can run on it; the others, and those of other systems, are left out. PyTorch's
            forms run on the CPU, or on a GPU if the device is one that CUDA controls.

    Raises:
        UserError: the folder has no artifacts, artifacts of a classifier, or an artifact that does not accept the size.
        DeviceError: no artifact can run on the device.
    """
    # Imported here because they need PyTorch, and the processes of some forms import this module without it.
    from ..core.reading import trusted
    from ..engine.exported import refuse_program
    report, folder = read_record(source), source if holds_files(source) else source.parent
    entries, channels, dtype = report['artefacts'], report.get('in_channels', 3), report.get('dtype', 'uint8')
    if not entries:
        raise UserError(f'{folder / REPORT} lists no artifacts; export some with {command("deploy")} --formats onnx openvino '
                        'pt2')
    if report.get('task', SEGMENTATION) != SEGMENTATION:
        described = folder / REPORT if (folder / REPORT).is_file() else source
        raise UserError(f'{described} lists artifacts of a classifier; only those of a segmentor are compared here')
    places = dict(reversed(placements(list(entries), device)))  # Of several devices for a file, the first.
    gpu = 'cuda' if {'cuda', 'tensorrt'} & set(places.values()) else CPU
    settings = copy.deepcopy(config).to_dict()
    found = [Subject(name + on(gpu), partial(make_torch, settings, checkpoint, fused, dtype, size, threads, gpu))
             for name, fused, dtype in ((REFERENCE, False, 'float32'), ('PyTorch, fused, fp32', True, 'float32'),
                                        ('PyTorch, fused, bf16', True, 'bfloat16'))]
    for file, entry in entries.items():
        refuse_program(folder / file)
        if not trusted():
            check_hash(folder / file, entry.get('sha256'))
        if entry['size'] and tuple(entry['size']) != size:
            raise UserError(f'{file} takes {entry["size"][0]}x{entry["size"][1]} only; give --size {entry["size"][0]} '
                            f'{entry["size"][1]}')
        if entry.get('batch') not in (1, None):
            raise UserError(f'{file} takes {entry["batch"]} images at once, but single images are timed here; export it '
                            'without --batch')
        if file not in places or not backend_of(Path(file)).runs_here:
            continue
        found.append(Subject(form_of(file, entry) + on(places[file]),
                             partial(make_exported, folder / file, size, channels, dtype, threads, places[file]),
                             without=TRAINING_PACKAGES + (() if backend_of(Path(file)).needs_torch else ('torch', ))))
    return found


def form_of(file: str, entry: dict) -> str:
    """Name of an artifact in tables: its runtime and its precision."""
    return f'{backend_of(Path(file)).title}, {entry["precision"]}'


def on(device: str) -> str:
    """What the name of a form says about its device: nothing of the CPU."""
    return '' if device == CPU else f'{ON}{device}'


def make_torch(settings: dict, checkpoint: str, fused: bool, dtype: str, size: tuple[int, int], threads: int,
               device: str) -> Callable[[], object]:
    """Build a segmentor in PyTorch, to be timed."""
    import torch
    from mmengine.config import Config

    from ..deploy.comparison import Decision, threshold_of
    from ..deploy.fusing import fuse_for_inference
    from ..deploy.graph import LabelGraph, SegmentorGraph
    from ..deploy.normalization import normalization_of
    from ..engine.model_check import channels_of
    from ..engine.trained_model import build_trained
    torch.set_num_threads(threads)
    config = Config(settings)
    model, _ = build_trained(config, checkpoint)
    model = fuse_for_inference(model) if fused else model
    decision = Decision(threshold_of(model), 'uint8')
    graph = LabelGraph(SegmentorGraph(model, normalization_of(config), dtype=getattr(torch, dtype)), decision).eval()
    graph, images = graph.to(device), torch.from_numpy(picture(size, channels_of(config.model)))
    return lambda: torch.no_grad()(graph)(images.to(device)).cpu()


def make_exported(path: Path, size: tuple[int, int], channels: int, dtype: str, threads: int,
                  device: str) -> Callable[[], object]:
    """Load an exported file in its backend, to be timed; its hash was checked."""
    predictor = load(path, threads if device == CPU else None, verify=False, device=device)
    images = picture(size, channels, dtype)
    return lambda: predictor.run(images)


def picture(size: tuple[int, int], channels: int, dtype: str = 'uint8') -> np.ndarray:
    """A random image (1, H, W, channels)."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (1, *size, channels), dtype)


def table(measurements: list[Measurement], report: dict) -> list[dict[str, object]]:
    """Table rows: accuracy from the report, measured speed and memory, and speed relative to the training form."""
    checked = {form_of(file, entry): entry for file, entry in report['artefacts'].items()}
    checked[REFERENCE] = dict(miou=report['miou_before'], changed=0, bytes=report.get('bytes_before'))
    checked['PyTorch, fused, fp32'] = dict(miou=report['miou_after'], changed=report.get('changed'),
                                           bytes=report.get('bytes_after'))  # A file alone does not know them.
    rows: list[dict[str, object]] = []
    for measurement in measurements:
        entry = checked.get(measurement.name.partition(ON)[0], {})
        changed = entry.get('changed') if entry.get('changed_on_test_set') is None else entry['changed_on_test_set']
        rows.append({
            'form': measurement.name, 'mIoU': cell(entry.get('miou'), '.2f'),
            'changed pixels': cell(changed, '.3%'), **timed(measurement, measurements[0]),
            'file (MB)': cell(entry.get('bytes') and entry['bytes'] / 1e6, '.1f'),
            'load (s)': cell(measurement.load_seconds, '.2f')})
    return rows
