"""Checking a segmentation dataset: every file, or a sample of them."""
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset
from rich.progress import track
from torch.utils.data import DataLoader

from ..core.command_names import command
from ..core.errors import DataError, some
from ..core.files import identity
from ..core.labels import IGNORE
from .diagnosis import BINARY
from .files import Unused, describe_unused, find_images, refuse_special, warn_of_unused
from .paired import PairedSegDataset
from .samples import SampleStatistics
from .wrappers import leaves

EXAMPLES = 3  # Number of messages stored for each kind of fault.
SAMPLE = 16  # Number of pairs checked before training.


@dataclass
class Report:
    """The contents of a dataset, and its faults.

    Args:
        name: name of the dataset, for tables.
        images: number of images.
        read: number of images that were read or were found unreadable.
        classes: names of the classes.
        pixels: number of pixels of each class, then of ignored pixels.
        files: number of files that contain each class, then of those with ignored pixels.
        sizes: (height, width) -> number of images.
        mean, std: mean and standard deviation of the pixels as they are loaded, for three channels in the order red, green,
            blue; None if no image can be read.
        errors: kind of fault -> number of images that have it.
        warnings: likewise, for findings that may be intended.
        messages: kind of fault -> a few of its messages.
    """
    name: str
    images: int
    classes: list[str]
    read: int = 0
    pixels: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    mean: list[float] | None = None
    std: list[float] | None = None
    errors: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)

    def add(self, severity: dict[str, int], kind: str, message: str, count: int = 1) -> None:
        """Record a fault; ``severity`` is ``errors`` or ``warnings``."""
        severity[kind] = severity.get(kind, 0) + count
        if len(known := self.messages.setdefault(kind, [])) < EXAMPLES:
            known.append(message)

    def as_dict(self) -> dict:
        """Convert the report to plain values for JSON."""
        return asdict(self)


def check_dataset(dataset: BaseDataset, name: str, workers: int = 0, sample: int | None = None,
                  progress: bool = False) -> Report:
    """Read images and labels, count their contents, and report what is wrong with them.

    Args:
        dataset: initialized dataset of ours or MMSegmentation's, or a wrapper around such datasets; the loading steps of their
            pipelines are used.
        name: name of the dataset.
        workers: number of processes in addition to this one.
        sample: number of pairs to check, evenly spaced; all by default.
        progress: whether to show a progress bar.
    """
    samples = [(leaf, index) for leaf in leaves(dataset) for index in range(len(leaf))]
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(sample or len(samples), len(samples))).astype(int))
    loader: Iterable = DataLoader(SampleStatistics([samples[index] for index in chosen]), batch_size=None, num_workers=workers,
                                  collate_fn=_as_it_is)
    if progress:
        loader = track(loader, description=name, total=len(chosen))
    classes = list(dataset.metainfo['classes'])
    report = Report(name, len(samples), classes, read=len(chosen))
    histogram, files = np.zeros(IGNORE + 1, np.int64), np.zeros(IGNORE + 1, np.int64)
    moments, first = np.zeros((3, 0)), ''
    sizes: Counter[str] = Counter()
    for checked in loader:
        if 'error' in checked:
            report.add(report.errors, *checked['error'])
            continue
        if not first:
            moments, first = np.zeros_like(checked['moments']), checked['path']
        if moments.shape != checked['moments'].shape:
            report.add(report.errors, 'other channels', f'image {checked["path"]} has {checked["moments"].shape[1]} '
                       f'channel(s), {first} has {moments.shape[1]}; load all with the same, e.g. by color_type="color"')
            continue
        histogram += checked['histogram']
        files += checked['histogram'] > 0
        moments += checked['moments']
        sizes['{}x{}'.format(*checked['size'])] += 1
        if checked['histogram'][IGNORE] == checked['histogram'].sum() > 0:
            report.add(report.warnings, 'nothing labeled', f'all pixels of the label of {checked["path"]} are ignored')
    _conclude(report, histogram, files, moments)
    report.sizes = dict(sizes)
    if len(classes) > 1 and np.flatnonzero(histogram).tolist() == [0, IGNORE]:
        report.add(report.errors, BINARY.kind, f'the labels of {name} hold nothing but {classes[0]} and ignored pixels; '
                   f'{BINARY.remedy}', sum(sizes.values()))
    for leaf in leaves(dataset):
        unused = unused_images(leaf)
        for sentence, paths in zip(describe_unused(unused), unused.values()):
            report.add(report.warnings, 'unused images', sentence, len(paths))
    return report


def _as_it_is(checked: Any) -> Any:
    return checked


def _conclude(report: Report, histogram: np.ndarray, files: np.ndarray, moments: np.ndarray) -> None:
    if moments.any():
        mean = moments[1] / moments[0]
        report.mean, report.std = mean.round(2).tolist(), np.sqrt(moments[2] / moments[0] - mean**2).round(2).tolist()
    if histogram.any():
        shown = [*range(len(report.classes)), IGNORE]
        report.pixels, report.files = histogram[shown].tolist(), files[shown].tolist()
        if absent := [name for name, pixels in zip(report.classes, report.pixels) if pixels == 0]:
            report.add(report.warnings, 'absent class', f'no pixel of {report.name} is {", ".join(absent)}', len(absent))


def unused_images(dataset: BaseDataset) -> Unused:
    """Find the image files in a dataset's folder that it leaves out, by reason; empty if a list chooses its files.

    Args:
        dataset: dataset that reads files. Ours record the unused files; MMSegmentation's read only files with one suffix.
    """
    if hasattr(dataset, 'unused'):
        return dataset.unused
    prefix = getattr(dataset, 'data_prefix', None) or {}
    root, label_root = prefix.get('img_path'), prefix.get('seg_map_path')
    if not root or not os.path.isdir(root):
        return {}
    if getattr(dataset, 'ann_file', None) or getattr(dataset, '_indices', None) is not None:
        return {}
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    known = {identity(sample[key]) for sample in samples for key in ('img_path', 'seg_map_path') if sample.get(key)}
    images, unused = find_images(root)
    labels = os.path.realpath(label_root) + os.sep if label_root else None
    if left_out := [path for path in (os.path.join(root, image) for image in images) if identity(path) not in known
                    and not (labels and os.path.realpath(path).startswith(labels))]:
        unused[f'because {type(dataset).__name__} reads only those that end in {getattr(dataset, "img_suffix", "")}'] = left_out
    return unused


def check_files(dataset: BaseDataset, name: str) -> None:
    """Check the files of a dataset that lists them without looking: they must exist and be regular files.

    Raises:
        DataError: some do not exist, or are not regular files.
    """
    absent = []
    for sample in map(dataset.get_data_info, range(len(dataset))):
        image, label = sample.get('img_path'), sample.get('seg_map_path')
        for path, kind in ((image, 'image'), (label, 'label')):
            if path:
                refuse_special(path, kind)
                if not os.path.exists(path):
                    absent.append(path)
        if image and label and identity(image) == identity(label) is not None:
            raise DataError(f'image {image} of {name} is its own label; put the labels into a folder of their own, or set '
                            'seg_map_suffix')
    if absent:
        raise DataError(f'{len(absent)} files of {name} do not exist: {some(absent)}; complete the dataset')


def check_sample(name: str, dataset: BaseDataset) -> None:
    """Check a few pairs of a dataset before training, and warn about image files that it leaves out.

    Raises:
        DataError: the first fault that was found.
    """
    for leaf in leaves(dataset):
        if not isinstance(leaf, PairedSegDataset) and not getattr(leaf, 'backend_args', None):
            check_files(leaf, name)
    report = check_dataset(dataset, name, sample=SAMPLE)
    for kind in report.errors:
        raise DataError(f'{report.messages[kind][0]} (found in a sample of {name}; {command("check-data")} looks at all of it)',
                        kind)
    for leaf in leaves(dataset):
        warn_of_unused(name, unused_images(leaf))


def workers_for(images: int) -> int:
    """Number of worker processes: one per core, as long as there is enough work for them."""
    return min(os.cpu_count() or 1, max(1, images // 8))
