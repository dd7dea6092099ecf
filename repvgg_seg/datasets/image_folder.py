"""Classification datasets with one folder of images per class, checked when they are initialized."""
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from ..core.errors import DataError, some
from ..core.images import IMAGE_SUFFIXES
from ..registry import DATASETS
from .files import Unused, find_images, is_hidden
from .loading import with_checked_loading


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """Images below ``data_prefix['img_path']/CLASS/``; the classes are the sorted names of these folders.

    Args:
        data_root: folder that ``data_prefix`` is relative to.
        data_prefix: dict whose ``img_path`` is the folder with the class folders.
        pipeline: pipeline steps; images are loaded by :mod:`repvgg_seg.datasets.loading`, even under MMPretrain's name for the
            step.
        **kwargs: other arguments of MMEngine's ``BaseDataset``.

    Attributes:
        unused: reason for leaving image files out -> their paths.

    Raises:
        DataError: the folder is missing or has fewer than two class folders, a class has no image, or ``metainfo`` has other
            classes.
    """
    LAYOUT = 'one folder per class with its images'

    def __init__(self, *, pipeline: Sequence = (), **kwargs: Any) -> None:
        self.unused: Unused = {}
        super().__init__(pipeline=with_checked_loading(pipeline), **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the samples, sorted by class and path: dicts of ``img_path`` and ``gt_label``."""
        root = os.path.normpath(self.data_prefix['img_path'])
        if not os.path.isdir(root):
            raise DataError(f'no dataset: folder {root} does not exist; expected {self.LAYOUT}. Put it (or a link) there, '
                            'or set data_root')
        folders = class_folders(root)
        if len(folders) < 2:
            raise DataError(f'no dataset: {root} has {len(folders)} class folder(s); expected {self.LAYOUT}, two classes or '
                            'more')
        images = {}
        for folder in folders:
            images[folder], unused = find_images(os.path.join(root, folder))
            self._leave_out(unused)
        if empty := [folder for folder in folders if not images[folder]]:
            raise DataError(f'{len(empty)} of {len(folders)} class folders in {root} have no image ({some(empty)}); add '
                            f'files that end in {", ".join(IMAGE_SUFFIXES)}, or remove the folders')
        classes = self.class_names(folders)
        if (given := self._metainfo.get('classes')) and tuple(given) != classes:
            raise DataError(f'metainfo has the classes {some(given)}, the folders in {root} are {some(classes)}; leave '
                            'metainfo out')
        self._metainfo['classes'] = classes
        self._leave_out(outside_classes(root))
        return [dict(img_path=os.path.join(root, folder, image), gt_label=label)
                for label, folder in enumerate(folders) for image in images[folder]]

    def _leave_out(self, unused: Unused) -> None:
        for reason, paths in unused.items():
            self.unused[reason] = [*self.unused.get(reason, ()), *paths]

    def class_names(self, folders: list[str]) -> tuple[str, ...]:
        """Names of the classes whose images are in these folders."""
        return tuple(folders)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Class of a sample, in the form that MMEngine's ``ClassBalancedDataset`` expects."""
        return [self.get_data_info(idx)['gt_label']]


@DATASETS.register_module()
class ImageNet(ImageFolder):
    """ImageNet-1k in its usual layout: 1000 class folders; for validation also a flat folder of images with a label list.

    With ``test_mode=True``, the folder may be flat. Its list is the first file in ``LISTS`` that exists under ``data_root``.
    Each line has a file name and a label from 0 to 999, the index of the class when the WordNet ids are sorted.

    Raises:
        DataError: a folder, the list, a class or an image is missing, or the list is malformed.
    """
    NUM_CLASSES = 1000
    LISTS = ('val.txt', 'meta/val.txt')
    LAYOUT = '1000 class folders n01440764/ ... with their images'

    def load_data_list(self) -> list[dict]:
        """List the samples: dicts of ``img_path`` and ``gt_label``."""
        root = os.path.normpath(self.data_prefix['img_path'])
        if self.test_mode and os.path.isdir(root) and not class_folders(root):
            images, self.unused = find_images(root)
            if images:
                self._metainfo['classes'] = self.class_names([])
                return self._read_list(root, images)
        samples = super().load_data_list()
        if (found := len(class_folders(root))) != self.NUM_CLASSES:
            raise DataError(f'{root} has {found} class folders, ImageNet has {self.NUM_CLASSES}; complete it, or for other '
                            'classes use the config repvgg_a0_folder.py')
        return samples

    def class_names(self, folders: list[str]) -> tuple[str, ...]:
        """English class names, in the order of the WordNet ids that name the folders."""
        from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
        return tuple(IMAGENET_CATEGORIES)

    def _read_list(self, root: str, images: Sequence[str]) -> list[dict]:
        paths = [Path(self.data_root, name) for name in self.LISTS]
        listing = next((path for path in paths if path.is_file()), None)
        if listing is None:
            raise DataError(f'{root} is flat, and neither {" nor ".join(map(str, paths))} exists; expected {self.LAYOUT}, or '
                            'that list of lines "FILE-NAME LABEL"')
        samples: list[dict[str, Any]] = []
        for number, line in enumerate(listing.read_text().splitlines(), start=1):
            name, _, label = line.strip().rpartition(' ')
            if not (name and label.isdecimal() and int(label) < self.NUM_CLASSES):
                raise DataError(f'line {number} of {listing} is {line!r}; expected a file name and a label from 0 to '
                                f'{self.NUM_CLASSES - 1}')
            samples.append(dict(img_path=os.path.join(root, name), gt_label=int(label)))
        listed = {sample['img_path'] for sample in samples}
        if unlisted := [path for image in images if (path := os.path.join(root, image)) not in listed]:
            raise DataError(f'{len(unlisted)} images in {root} are not in {listing} ({some(unlisted)}); complete the list')
        if absent := [sample['img_path'] for sample in samples if not os.path.isfile(sample['img_path'])]:
            raise DataError(f'{len(absent)} of the {len(samples)} images in {listing} do not exist ({some(absent)}); '
                            'complete the dataset')
        return samples


def class_folders(root: str) -> list[str]:
    """Sorted names of the folders in a folder, without hidden ones."""
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name))


def outside_classes(root: str) -> Unused:
    """Find the image files in a folder and its hidden folders, but not in its class folders."""
    images, unused = find_images(root, skip=class_folders(root))
    if images:
        unused['because they are in no class folder'] = [os.path.join(root, image) for image in images]
    return unused
