"""Datasets of image files with matching label files, checked when they are initialized."""
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.environment import require_mm
from ..core.errors import DataError, UserError, some
from ..core.images import IMAGE_SUFFIXES
from ..core.labels import IGNORE, check_class_count
from ..registry import DATASETS
from .files import LABEL_SUFFIXES, Unused, find_images
from .lists import listed_images
from .meanings import Meanings, check_meanings, meant_by

require_mm('mmengine', 'mmcv', 'mmseg')

from mmseg.datasets import BaseSegDataset  # noqa: E402

from .loading import with_checked_loading  # noqa: E402
from .pairing import Labels, pair  # noqa: E402

WITHOUT_EFFECT = ('img_suffix', 'seg_map_suffix', 'reduce_zero_label')  # Arguments of BaseSegDataset that have no effect here.


@DATASETS.register_module()
class PairedSegDataset(BaseSegDataset):
    """Images under ``data_prefix['img_path']``, each with one label map under ``data_prefix['seg_map_path']``.

    For your own data, use this class directly: labels are images of class indices, with 255 for ignored pixels, unless
    ``label_values`` or ``label_colors`` gives them another meaning. Subclasses define which files belong together and what the
    values in the label files mean. Every sample gets a ``label_map`` of all legal values, which
    :class:`~repvgg_seg.datasets.LoadLabels` applies and enforces.

    Args:
        img_suffixes: suffixes of image files; case is ignored. The part of the name before the suffix identifies the image. By
            default, the suffixes of all supported image formats.
        seg_map_suffixes: suffixes of label files after the same part of the name, in order of preference; case is ignored.
        data_prefix: folders of images and labels; if ``seg_map_path`` is missing or None, the samples have no labels.
        ann_file: list of the images to use, one per line, relative to their folder or to ``data_root``, with or without suffix;
            by default all images are used.
        label_values: value in the label files -> class name, or None for ignored; e.g. ``{0: 'other', 255: 'road'}``. 255 is
            ignored unless it is a key.
        label_colors: color (red, green, blue) in the label files, which may have a palette -> class name, or None for ignored;
            e.g. ``{(128, 64, 128): 'road', (0, 0, 0): None}``.
        label_tolerance: largest allowed difference between a value, or each channel of a color, and the nearest known one, 0 to
            255; for masks saved with lossy compression such as JPEG.
        pipeline: pipeline steps; images and labels are loaded by :mod:`repvgg_seg.datasets.loading`, even under
            MMSegmentation's names for the steps.
        **kwargs: other arguments of MMSegmentation's ``BaseSegDataset``, except those in ``WITHOUT_EFFECT``; your own data
            needs ``metainfo=dict(classes=[...], palette=[...])``.

    Attributes:
        unused: reason for leaving image files out -> their paths.

    Raises:
        DataError: a folder is missing or has no image, an image has no label or would be its own label, or two images share a
            label.
        UserError: an argument would have no effect, the classes are unknown or more than 255, or a value, a color or the name
            of its class is invalid.
    """
    LAYOUT = 'images, and label PNG files of the same names'

    def __init__(self, *, data_prefix: Mapping[str, str | None], img_suffixes: Sequence[str] = IMAGE_SUFFIXES,
                 seg_map_suffixes: Sequence[str] = LABEL_SUFFIXES, pipeline: Sequence = (),
                 label_values: Meanings | None = None, label_colors: Meanings | None = None,
                 label_tolerance: int = 0, **kwargs: Any) -> None:
        given = dict(label_values=label_values, label_colors=label_colors)
        fixed = type(self).raw_label_map is not PairedSegDataset.raw_label_map  # Fixed by a subclass.
        if useless := [name for name in (*WITHOUT_EFFECT, *given) if kwargs.get(name) or fixed and given.get(name)]:
            raise UserError(f'{type(self).__name__} does not use {", ".join(useless)}; remove it from the config')
        check_meanings(label_values, label_colors, label_tolerance)
        self.label_meanings, self.label_tolerance = label_values or label_colors, label_tolerance
        self.img_suffixes, self.seg_map_suffixes = tuple(img_suffixes), tuple(seg_map_suffixes)
        self.unused: Unused = {}
        # MMEngine cannot join None with data_root.
        super().__init__(data_prefix={name: path for name, path in data_prefix.items() if path is not None},
                         pipeline=with_checked_loading(pipeline), **kwargs)

    def raw_label_map(self, label_path: str) -> dict[Any, int]:
        """Map each legal value or color of a label file to its class index, or to 255 for ignored.

        Args:
            label_path: path of the label file, for datasets with several kinds of label files.
        """
        classes = self.metainfo.get('classes')
        if not classes:
            raise UserError(f'{type(self).__name__} does not know its classes; add metainfo=dict(classes=[...], '
                            'palette=[...]) to the dataset')
        check_class_count(len(classes), type(self).__name__)
        if self.label_meanings:
            return meant_by(self.label_meanings, classes, type(self).__name__)
        return {**{index: index for index in range(len(classes))}, IGNORE: IGNORE}

    def load_data_list(self) -> list[dict]:
        """List the samples, sorted by image path, and set ``unused``."""
        image_root, label_root = self.data_prefix.get('img_path'), self.data_prefix.get('seg_map_path')
        if not os.path.isdir(image_root):
            raise DataError(f'no dataset: folder {image_root} does not exist; expected {self.LAYOUT}. '
                            'Put it (or a link) there, or set data_root')
        images, self.unused = find_images(image_root, self.img_suffixes)
        if self.ann_file:
            images, self.unused = listed_images(self.ann_file, images, self.img_suffixes, image_root, self.data_root), {}
        pairs: Sequence[tuple[str, str | None]]
        if label_root is not None:
            pairs = pair(image_root, images, self.img_suffixes, Labels(label_root, self.seg_map_suffixes))
        else:
            pairs = [(os.path.join(image_root, image), None) for image in images]
        if not pairs:
            raise DataError(f'no dataset: {image_root} holds no image file that ends in {some(self.img_suffixes)}; '
                            f'expected {self.LAYOUT}')
        return [self._sample(image, label) for image, label in pairs]

    def _sample(self, image: str, label: str | None) -> dict:
        sample = dict(img_path=image, label_map=None, seg_fields=[], reduce_zero_label=self.reduce_zero_label)
        if label is not None:
            sample.update(seg_map_path=label, label_map=self._full_label_map(label), label_tolerance=self.label_tolerance)
        return sample

    def _full_label_map(self, label_path: str) -> dict[Any, int]:
        """Apply the choice of classes in ``metainfo`` to ``raw_label_map``."""
        chosen = self.label_map or {}
        return {raw: chosen.get(index, index) for raw, index in self.raw_label_map(label_path).items()}
