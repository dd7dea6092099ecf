"""Checking a data set for segmentation: every file, or a sample of them."""
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from mmengine.dataset import BaseDataset
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from ..errors import DataError
from .diagnosis import BINARY, IGNORE
from .loading import LoadImage, LoadLabels
from .paired import PairedSegDataset

CHANNELS = 3
EXAMPLES = 3  # Messages kept of each kind of fault.
SAMPLE = 16  # Pairs that are looked at before training.


@dataclass
class Report:
    """What is in a data set, and what is wrong with it.

    Args:
        name: of the set, for tables.
        images: how many it has.
        classes: their names.
        pixels: of each class, then the ignored ones.
        files: with each class in them, then with ignored pixels.
        sizes: (height, width) -> images.
        mean, std: of the pixels, red, green, blue, from 0 to 255; None where no image can be read.
        errors: kind of fault -> images that have it.
        warnings: likewise, of what may be meant so.
        messages: a few of each kind.
    """
    name: str
    images: int
    classes: list[str]
    pixels: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    mean: list[float] | None = None
    std: list[float] | None = None
    errors: dict[str, int] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)

    def add(self, severity: dict[str, int], kind: str, message: str, count: int = 1) -> None:
        """Count a fault; ``severity`` is ``errors`` or ``warnings``."""
        severity[kind] = severity.get(kind, 0) + count
        if len(known := self.messages.setdefault(kind, [])) < EXAMPLES:
            known.append(message)

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class Checked(Dataset):
    """What :func:`check_dataset` needs of each sample of a data set; never raises DataError, but returns it.

    Args:
        dataset: images and label maps, of ours or of MMSegmentation's.
        indices: of the samples.
    """

    def __init__(self, dataset: BaseDataset, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices
        self.steps = LoadImage(), LoadLabels()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> dict:
        """A dict of ``error``; or of ``size``, ``moments`` and ``histogram``.

        The moments are sums of the pixels' powers 0 to 2, float64 (3, channels); the histogram is of class indices and 255,
        int64 (256,), all zero where the set has no labels.
        """
        sample = self.dataset.get_data_info(self.indices[position])
        sample['label_map'] = legal_values(self.dataset, sample)
        try:
            for step in self.steps if 'seg_map_path' in sample else self.steps[:1]:
                sample = step(sample)
        except DataError as error:
            return dict(error=(error.kind, str(error)))
        pixels = sample['img'].reshape(-1, CHANNELS)[:, ::-1].astype(np.float64)
        histogram = np.bincount(sample.get('gt_seg_map', np.empty(0, np.uint8)).ravel(), minlength=IGNORE + 1)
        return dict(path=sample['img_path'], size=sample['ori_shape'], histogram=histogram,
                    moments=np.stack([(pixels**power).sum(0) for power in range(3)]))


def legal_values(dataset: BaseDataset, sample: dict) -> dict[int, int]:
    """For each legal value of a sample's label file its class index, or 255.

    Our data sets bring it along; those of MMSegmentation have classes 0 to C - 1 and 255, or 1 to C where the zero is reduced.
    """
    dataset = innermost(dataset)
    if isinstance(dataset, PairedSegDataset):
        return sample['label_map']
    first = int(bool(sample.get('reduce_zero_label')))
    chosen = sample['label_map'] or {index: index for index in range(len(dataset.metainfo['classes']))}
    return {**({0: IGNORE} if first else {}), **{first + raw: index for raw, index in chosen.items()}, IGNORE: IGNORE}


def check_dataset(dataset: BaseDataset, name: str, workers: int = 0, sample: int | None = None,
                  progress: bool = False) -> Report:
    """Read images and labels, count what is in them, and name what is wrong.

    Args:
        dataset: of ours or of MMSegmentation's, opened; its pipeline is not used.
        name: of the set.
        workers: processes beside this one.
        sample: how many of the pairs, spread evenly; all by default.
        progress: show a bar.
    """
    indices = np.unique(np.linspace(0, len(dataset) - 1, min(sample or len(dataset), len(dataset))).astype(int)).tolist()
    loader: Iterable = DataLoader(Checked(dataset, indices), batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    if progress:
        loader = track(loader, description=name, total=len(indices))
    classes = list(dataset.metainfo['classes'])
    report = Report(name, len(dataset), classes)
    histogram, files = np.zeros(IGNORE + 1, np.int64), np.zeros(IGNORE + 1, np.int64)
    moments, sizes = np.zeros((3, CHANNELS)), Counter()
    for checked in loader:
        if 'error' in checked:
            report.add(report.errors, *checked['error'])
            continue
        histogram += checked['histogram']
        files += checked['histogram'] > 0
        moments += checked['moments']
        sizes['{}x{}'.format(*checked['size'])] += 1
        if checked['histogram'][IGNORE] == checked['histogram'].sum() > 0:
            report.add(report.warnings, 'nothing labelled', f'all pixels of the label of {checked["path"]} are ignored')
    _conclude(report, histogram, files, moments)
    report.sizes = dict(sizes)
    if len(classes) > 1 and np.flatnonzero(histogram).tolist() == [0, IGNORE]:
        report.add(report.errors, BINARY.kind, f'the labels of {name} hold nothing but {classes[0]} and ignored pixels; '
                   f'{BINARY.mend}', sum(sizes.values()))
    return report


def _as_it_is(checked: dict) -> dict:
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


def innermost(dataset: BaseDataset) -> BaseDataset:
    """The data set inside wrappers that repeat or concatenate."""
    while (inner := getattr(dataset, 'dataset', None) or getattr(dataset, 'datasets', [None])[0]) is not None:
        dataset = inner
    return dataset


def loads_plainly(dataset: BaseDataset) -> bool:
    """Whether the set's own pipeline reads plain images and label maps, so that what holds here holds in training."""
    steps = {type(step).__name__ for step in innermost(dataset).pipeline.transforms}
    return bool(steps & {'LoadImage', 'LoadImageFromFile'}) and bool(steps & {'LoadLabels', 'LoadAnnotations'})


def check_sample(name: str, dataset: BaseDataset) -> None:
    """Check a few pairs of a data set before training, if it is one of plain images and label maps.

    Raises:
        DataError: of the first fault that was found.
    """
    if loads_plainly(dataset):
        report = check_dataset(dataset, name, sample=SAMPLE)
        for kind in report.errors:
            raise DataError(f'{report.messages[kind][0]} (found in a sample of {name}; tools/check_data.py looks at all of it)',
                            kind)


def workers_for(images: int) -> int:
    """One process for each core, as far as there is work for them."""
    return min(os.cpu_count() or 1, max(1, images // 8))
