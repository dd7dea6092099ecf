"""Running the loading steps of a dataset on its files, and checking that the result is usable for training."""
import io
from collections.abc import Sequence

import mmengine.fileio
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.dataset import BaseDataset
from mmseg.datasets import LoadAnnotations
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from ..core.errors import DataError
from ..core.labels import IGNORE
from .files import refuse_special
from .indices import LISTED_VALUES, class_indices
from .loading import UNREADABLE, LoadImage, LoadLabels, loads, read_labels, reason_of
from .paired import PairedSegDataset

# Exceptions of third-party loading steps if a file or its content is not as expected.
FAILURES = (*UNREADABLE, AssertionError, LookupError, TypeError, AttributeError, RuntimeError)
VERIFIED = ('JPEG', 'PNG')  # Formats in which Pillow detects truncated files; OpenCV may fill the missing part with gray.


class SampleStatistics(Dataset):
    """Statistics of each sample of some datasets; a DataError is returned, never raised.

    Args:
        samples: datasets of ours or MMSegmentation's, with indices of their samples.
    """

    def __init__(self, samples: Sequence[tuple[BaseDataset, int]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> dict:
        """Return a dict of ``error``; or of ``path``, ``size``, ``moments`` and ``histogram``.

        The moments are sums of the powers 0 to 2 of the pixels, float64 (3, channels), for three channels in the order red,
        green, blue. The histogram counts class indices and 255, int64 (256,); it is all zero without labels.
        """
        try:
            sample = load(*self.samples[position])
        except DataError as error:
            return dict(error=(error.kind, str(error)))
        height, width, channels = image_shape(sample['img'])
        pixels = sample['img'].reshape(-1, channels).astype(np.float64)
        if channels == 3:
            pixels = pixels[:, ::-1]
        histogram = np.bincount(sample.get('gt_seg_map', np.empty(0, np.uint8)).ravel(), minlength=IGNORE + 1)
        return dict(path=sample['img_path'], size=(height, width), histogram=histogram,
                    moments=np.stack([(pixels**power).sum(0) for power in range(3)]))


def image_shape(image: np.ndarray) -> tuple[int, int, int]:
    """Height, width and number of channels of an image (H, W) or (H, W, C)."""
    height, width, *channels = image.shape
    return height, width, channels[0] if channels else 1


def load(dataset: BaseDataset, index: int) -> dict:
    """Read a sample with the loading steps of its dataset, and check the result.

    Args:
        dataset: dataset that reads files, ours or MMSegmentation's.
        index: index of the sample.

    Returns:
        The loaded sample; if it has labels, its ``gt_seg_map`` is uint8 (H, W) of class indices and 255.

    Raises:
        DataError: a file cannot be read, or its content is not usable for training.
    """
    sample = dataset.get_data_info(index)
    for key, kind in (('img_path', 'image'), ('seg_map_path', 'label')):
        if sample.get(key):
            refuse_special(sample[key], kind)
    for step in loading_steps(dataset):
        if 'img' not in sample:
            sample = load_image(step, sample)
        elif 'seg_map_path' in sample or not isinstance(step, (LoadAnnotations, LoadLabels)):
            sample = load_labels(dataset, step, sample)
    if 'img' not in sample:
        raise DataError(f'the pipeline of {type(dataset).__name__} does not begin with a step that loads the image', 'no image')
    return sample


def loading_steps(dataset: BaseDataset) -> list[BaseTransform]:
    """The pipeline steps of a dataset that read files: the first one, and those whose names begin with "Load"."""
    transforms = dataset.pipeline.transforms or [LoadImage(), LoadLabels()]
    return [step for position, step in enumerate(transforms) if position == 0 or loads(step)]


def load_image(step: BaseTransform, sample: dict) -> dict:
    """Read the image of a sample, and check it.

    Raises:
        DataError: the image cannot be read, is truncated, is not two-dimensional, or has pixels that are not finite.
    """
    path = sample['img_path']
    try:
        if type(step) is LoadImageFromFile:
            verify(mmengine.fileio.get(path, backend_args=step.backend_args))
        sample = step(sample)
    except DataError:
        raise
    except FAILURES as error:
        raise DataError(f'image {path} cannot be read ({reason_of(error)}); replace or remove it', 'unreadable image') from None
    if sample is None:
        raise DataError(f'image {path} cannot be read; replace or remove it', 'unreadable image')
    if (image := sample.get('img')) is not None:
        if image.ndim not in (2, 3):
            raise DataError(f'image {path} has the shape {image.shape}; expected height, width and channels', 'other shape')
        if image.dtype.kind == 'f' and not np.isfinite(image).all():
            raise DataError(f'image {path} has pixels that are NaN or infinite; replace them', 'not finite')
    return sample


def verify(data: bytes) -> None:
    """Decode an image in one of the formats ``VERIFIED``; errors of decoding (see ``UNREADABLE``) are raised."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format in VERIFIED:
                image.load()
    except UnidentifiedImageError:
        return  # Other decoders may support the format.


def load_labels(dataset: BaseDataset, step: BaseTransform, sample: dict) -> dict:
    """Read the labels of a sample, and check them.

    Raises:
        DataError: the labels cannot be read, differ in size from the image, or contain something other than classes.
    """
    path = sample.get('seg_map_path') or f'of {sample["img_path"]}'
    if type(step) is LoadAnnotations and step.imdecode_backend == 'pillow':
        return load_plainly(dataset, step, sample)
    try:
        sample = step(sample)
    except DataError:
        raise
    except FAILURES as error:
        raise DataError(f'label {path} cannot be read by {type(step).__name__} ({reason_of(error)}); replace it or remove the '
                        'pair', 'unreadable label') from None
    labels = sample.get('gt_seg_map')
    if labels is None:
        return sample
    if labels.shape != image_shape(sample['img'])[:2]:
        raise DataError(f'label {path} has the shape {labels.shape}, its image {image_shape(sample["img"])[:2]}; they must be '
                        'equal', 'other size')
    ignored = getattr(dataset, 'ignore_index', IGNORE)
    found, classes = np.unique(labels), len(dataset.metainfo['classes'])
    if wrong := [value for value in found.tolist() if value not in (IGNORE, ignored) and not 0 <= value < classes]:
        raise DataError(
            f'label {path} has values outside the classes after {type(step).__name__}: '
            f'{", ".join(map(str, wrong[:LISTED_VALUES]))}{" ..." if len(wrong) > LISTED_VALUES else ""}; expected 0 to '
            f'{classes - 1}, {IGNORE}; correct the label or the classes of the dataset', 'unknown values')
    sample['gt_seg_map'] = np.where(labels == ignored, IGNORE, labels).astype(np.uint8)
    return sample


def load_plainly(dataset: BaseDataset, step: LoadAnnotations, sample: dict) -> dict:
    """Read the labels of a sample as MMSegmentation's ``LoadAnnotations`` does, and report what is wrong with them.

    Raises:
        DataError: see :func:`~repvgg_seg.datasets.loading.class_indices`; or the step contradicts its dataset.
    """
    path, reduced = sample['seg_map_path'], bool(sample.get('reduce_zero_label'))
    if step.reduce_zero_label not in (None, reduced):
        raise DataError(f'LoadAnnotations has reduce_zero_label={step.reduce_zero_label}, its dataset '
                        f'{type(dataset).__name__} has {reduced}; set it in the dataset alone', 'reduce_zero_label')
    labels = read_labels(path, step.backend_args).squeeze()
    if labels.dtype != np.uint8 and labels.ndim == 2 and labels.min() >= 0 and labels.max() <= IGNORE:
        labels = labels.astype(np.uint8)
    sample['gt_seg_map'] = class_indices(path, labels, legal_values(dataset, sample), image_shape(sample['img'])[:2])
    return sample


def legal_values(dataset: BaseDataset, sample: dict) -> dict[int, int]:
    """Map each legal value of a sample's label file to its class index, or to 255.

    The samples of our datasets contain this mapping. MMSegmentation's datasets have classes 0 to C - 1 and 255, or 1 to C if
    zero is reduced.
    """
    if isinstance(dataset, PairedSegDataset):
        return sample['label_map']
    first = int(bool(sample.get('reduce_zero_label')))
    chosen = sample['label_map'] or {index: index for index in range(len(dataset.metainfo['classes']))}
    return {**({0: IGNORE} if first else {}), **{first + raw: index for raw, index in chosen.items()}, IGNORE: IGNORE}
