"""Small datasets of generated files, opened through the registry as a config does."""
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from PIL import Image

SIZE = (24, 32)
LOAD = (dict(type='repvgg_seg.LoadImage'), dict(type='repvgg_seg.LoadLabels'))


class SmallSet:
    """One split of a dataset, at first without files.

    Args:
        kind: name of the dataset class.
        root: ``data_root``.
        folders: of the images and of the labels below ``root``.
        endings: of image and label files after the part of the name that they share.
    """

    def __init__(self, kind: str, root: Path, folders: tuple[str, str], endings: tuple[str, str]) -> None:
        self.kind, self.root, self.folders, self.endings = kind, root, folders, endings
        for folder in folders:
            (root / folder).mkdir(parents=True)

    def image_path(self, name: str, ending: str | None = None) -> Path:
        return self.root / self.folders[0] / f'{name}{ending or self.endings[0]}'

    def label_path(self, name: str, ending: str | None = None) -> Path:
        return self.root / self.folders[1] / f'{name}{ending or self.endings[1]}'

    def add_image(self, name: str, pixels: np.ndarray | None = None, ending: str | None = None) -> Path:
        """Write an image, of noise unless ``pixels`` are given."""
        pixels = np.random.randint(0, 256, (*SIZE, 3), np.uint8) if pixels is None else pixels
        return save(self.image_path(name, ending), Image.fromarray(pixels))

    def add_label(self, name: str, label: int | np.ndarray | Image.Image = 0, ending: str | None = None) -> Path:
        """Write a label map: one value everywhere, an array, or a Pillow image."""
        if isinstance(label, int):
            label = np.full(SIZE, label, np.uint8)
        return save(self.label_path(name, ending),
                    label if isinstance(label, Image.Image) else Image.fromarray(label))

    def add(self, name: str, label: int | np.ndarray | Image.Image = 0) -> tuple[Path, Path]:
        """Write an image and its label map."""
        return self.add_image(name), self.add_label(name, label)

    def build(self, **options):
        """Open the set; ``options`` go beside or over the usual ones."""
        prefix = dict(img_path=self.folders[0], seg_map_path=self.folders[1])
        # Serializing collects garbage, which takes longer than the rest of a test.
        return DATASETS.build(dict(type=f'repvgg_seg.{self.kind}', data_root=str(self.root), data_prefix=prefix,
                                   pipeline=list(LOAD), serialize_data=False) | options)

    def read_labels(self, label: int | np.ndarray | Image.Image, **options) -> np.ndarray:
        """What is loaded from one label map."""
        self.add('one', label)
        return self.build(**options)[0]['gt_seg_map']


def save(path: Path, image: Image.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    init_default_scope('mmseg')


@pytest.fixture
def camvid(tmp_path) -> SmallSet:
    return SmallSet('CamVidDataset', tmp_path / 'camvid', ('train', 'trainannot'), ('.png', '.png'))


@pytest.fixture
def cityscapes(tmp_path) -> SmallSet:
    return SmallSet('CityscapesDataset', tmp_path / 'cityscapes', ('leftImg8bit/train', 'gtFine/train'),
                    ('_leftImg8bit.png', '_gtFine_labelIds.png'))


@pytest.fixture
def own(tmp_path) -> SmallSet:
    """Of one's own data; ``metainfo`` is for :meth:`SmallSet.build`."""
    return SmallSet('PairedSegDataset', tmp_path / 'own', ('images', 'labels'), ('.png', '.png'))
