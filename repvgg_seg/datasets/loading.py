"""Loading images and labels, with errors that name the faulty file."""
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from ..core.config_types import type_name
from ..core.environment import require_mm
from ..core.errors import DataError, InstallationError, UserError
from ..core.images import MAX_PIXELS
from ..registry import TRANSFORMS
from .bands import beyond_pillow, decode_bands, is_tiff
from .files import refuse_special
from .indices import class_indices, color_indices

require_mm('mmengine', 'mmcv')

import mmcv  # noqa: E402
import mmengine.fileio  # noqa: E402
from mmcv.transforms import BaseTransform, LoadImageFromFile  # noqa: E402

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError, cv2.error)
# Loading steps by the names that MMSegmentation's and MMPretrain's tools look for -> ours, which check what they read.
CHECKED_STEPS = {'LoadImageFromFile': 'repvgg_seg.LoadImage', 'LoadAnnotations': 'repvgg_seg.LoadLabels'}


def with_checked_loading(pipeline: Sequence) -> list:
    """Replace the loading steps of a pipeline by those of this module, including inside test-time augmentation.

    Args:
        pipeline: steps as in a config; steps named in ``CHECKED_STEPS``, in any scope, are replaced.

    Raises:
        UserError: such a step has arguments about labels, whose meaning is up to the dataset.
    """
    steps = []
    for step in pipeline:
        kind = type_name(step) if isinstance(step, dict) else None
        if kind == 'LoadAnnotations' and len(step) > 1:
            raise UserError(f'LoadAnnotations has {", ".join(sorted(set(step) - {"type"}))}, which would have no effect: the '
                            'dataset knows what its labels mean; remove it from the pipeline')
        if kind in CHECKED_STEPS:
            step = dict(step, type=CHECKED_STEPS[kind])
        elif kind == 'TestTimeAug':
            step = dict(step, transforms=[with_checked_loading(branches) for branches in step['transforms']])
        steps.append(step)
    return steps


def image_pipeline(pipeline: Sequence) -> list:
    """Reduce a test pipeline to what unlabeled images need, with checked loading.

    Args:
        pipeline: steps as in a config, for any dataset. The first one loads the image; later ones whose names begin with "Load"
            load labels and are left out.
    """
    steps = []
    for position, step in enumerate(pipeline):
        if isinstance(step, dict) and type_name(step) == 'TestTimeAug':
            branches = [[each for each in branch if not loads(each)] for branch in step['transforms']]
            step = dict(step, transforms=[branch for branch in branches if branch])
        if position == 0 or not loads(step):
            steps.append(step)
    return with_checked_loading(steps)


def loads(step: dict | Callable) -> bool:
    """Whether the name of a pipeline step, or of its config, marks it as a loading step."""
    return (type_name(step) if isinstance(step, dict) else type(step).__name__).startswith('Load')


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """MMCV's ``LoadImageFromFile`` with Pillow, which detects truncated files.

    With ``color_type='unchanged'``, images keep all their channels and bits: gray or color with 8 or 16 bits, floating-point
    pixels, and TIFF files with any number of bands, which need the extra ``[tiff]``; see
    :func:`repvgg_seg.datasets.bands.decode_bands`.

    Raises:
        DataError: the file is not an image, is damaged, or has more channels or bits per channel than ``color_type`` allows.
        InstallationError: the file needs a package that is not installed.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{'imdecode_backend': 'pillow', **kwargs})

    def transform(self, results: dict) -> dict:
        """Read ``img_path`` into ``img``, by default uint8 BGR (H, W, 3)."""
        path = results['img_path']
        refuse_special(path, 'image')
        try:
            data = mmengine.fileio.get(path, backend_args=self.backend_args)
            self._check_header(path, data)
            if self.color_type == 'unchanged' and self.imdecode_backend in ('pillow', 'tifffile') and beyond_pillow(data):
                image = decode_bands(data)
            else:
                image = mmcv.imfrombytes(data, flag=self.color_type, backend=self.imdecode_backend)
            if image is None:
                raise ValueError('no image file')
        except (DataError, InstallationError):
            raise
        except UNREADABLE as error:
            raise DataError(f'image {path} cannot be read ({reason_of(error)}); replace or remove it',
                            'unreadable image') from None
        if self.to_float32:
            image = image.astype(np.float32)
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results

    def _check_header(self, path: str, data: bytes) -> None:
        try:
            with Image.open(io.BytesIO(data)) as header:
                mode = header.mode
        except UnidentifiedImageError:
            if is_tiff(data) and self.color_type != 'unchanged':
                raise DataError(f'image {path} is a TIFF file that is damaged, or has other bands than gray, RGB or RGBA; let '
                                'LoadImageFromFile read those with color_type="unchanged"', 'other channels') from None
            if self.imdecode_backend == 'pillow' and not is_tiff(data):
                raise
            return  # Other decoders support other formats.
        if self.imdecode_backend == 'pillow' and self.color_type != 'unchanged' and mode.startswith(('I', 'F')):
            raise DataError(f'image {path} cannot be read (mode {mode}, expected 8 bits per channel); convert it, or let '
                            'LoadImageFromFile read it as it is with color_type="unchanged"', 'more than 8 bits')


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Read a label map and convert its values or colors to class indices.

    Unlike MMSegmentation's ``LoadAnnotations``, it raises an error for a value that ``label_map`` does not contain, and maps
    all values in one pass, regardless of the number of classes.

    Raises:
        DataError: the file is damaged, is a color image although values are expected, differs in size from the image, or
            contains a value or color that belongs to no class.
    """

    def transform(self, results: dict) -> dict:
        """Read ``seg_map_path``, if present, into ``gt_seg_map``, uint8 (H, W) of class indices and 255."""
        if 'seg_map_path' not in results:  # An unlabeled image for prediction.
            return results
        path = results['seg_map_path']
        label_map, tolerance = results['label_map'], results.get('label_tolerance', 0)
        if any(isinstance(raw, tuple) for raw in label_map):
            labels = color_indices(path, read_labels(path, colors=True), label_map, results['ori_shape'], tolerance)
        else:
            labels = class_indices(path, read_labels(path), label_map, results['ori_shape'], tolerance)
        results['gt_seg_map'] = labels
        results['seg_fields'].append('gt_seg_map')
        return results


def read_labels(path: str, backend_args: dict | None = None, colors: bool = False) -> np.ndarray:
    """Read the content of a label file, (H, W), or (H, W, C) if it has colors.

    Args:
        path: path of the file.
        backend_args: arguments of MMEngine's file backend.
        colors: whether to return uint8 RGB (H, W, 3) even for an image with one channel or a palette. Transparency is dropped.

    Raises:
        DataError: the file cannot be read.
    """
    refuse_special(path, 'label')
    try:
        with Image.open(io.BytesIO(mmengine.fileio.get(path, backend_args=backend_args))) as image:
            if colors and not image.mode.startswith(('I', 'F')):  # Conversion would clip more than 8 bits.
                return np.array(image.convert('RGB'))
            return np.array(image.convert('L') if image.mode == '1' else image)  # One bit means 0 and 255.
    except UNREADABLE as error:
        raise DataError(f'label {path} cannot be read ({reason_of(error)}); replace it or remove the pair',
                        'unreadable label') from None


def reason_of(error: Exception) -> str:
    """Message of an error raised while reading an image, without the buffer address that Pillow includes."""
    if isinstance(error, Image.DecompressionBombError) and (pixels := re.search(r'[0-9]+', str(error))):
        return f'{str(error).rstrip(".")}; if it is your own, set the environment variable {MAX_PIXELS}={pixels[0]}'
    return 'no image file' if isinstance(error, UnidentifiedImageError) else str(error)
