"""Files of the ToyStreets dataset, in the folder layout of Cityscapes."""
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np

from .scenes import draw_scene

DEFAULT_COUNTS: Mapping[str, int] = MappingProxyType({'train': 320, 'val': 64})

# Ranges of seeds that do not overlap, so that no two splits share a scene.
_SEEDS_PER_SPLIT = 1_000_000
_FIRST_SEEDS = {split: number * _SEEDS_PER_SPLIT for number, split in enumerate(('train', 'val', 'test'))}


def write_toy_streets(root: str | os.PathLike[str], counts: Mapping[str, int] = DEFAULT_COUNTS, height: int = 128,
                      width: int = 256) -> None:
    """Write images and label maps of drawn street scenes.

    The dataset appears under ``root`` only when it is complete: images as
    ``leftImg8bit/{split}/toytown/toytown_000000_000000_leftImg8bit.png``, label maps as
    ``gtFine/{split}/toytown/toytown_000000_000000_gtFine_labelIds.png``, with the first number counting the scenes.

    Args:
        root: folder to create; missing parent folders are created too.
        counts: number of scenes in each split; splits are 'train', 'val' and 'test'.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        FileExistsError: ``root`` already exists.
        KeyError: a split is unknown.
        ValueError: a count is negative or too large.
    """
    root = Path(root)
    if os.path.lexists(root):
        raise FileExistsError(f'expected a folder that does not exist yet, got {root}')
    for split, count in counts.items():
        if split not in _FIRST_SEEDS:
            raise KeyError(f'expected a split out of {sorted(_FIRST_SEEDS)}, got {split!r}')
        if not 0 <= count <= _SEEDS_PER_SPLIT:
            raise ValueError(f'expected 0 to {_SEEDS_PER_SPLIT} scenes in {split!r}, got {count}')

    root.parent.mkdir(parents=True, exist_ok=True)
    # Next to the destination, because renaming is atomic only within a file system.
    with tempfile.TemporaryDirectory(prefix=f'.{root.name}-', dir=root.parent) as workshop:
        # A subfolder, because the temporary folder itself is readable only by its owner.
        draft = Path(workshop) / root.name
        draft.mkdir()
        for split, count in counts.items():
            _write_split(draft, split, count, height, width)
        os.rename(draft, root)


def _write_split(root: Path, split: str, count: int, height: int, width: int) -> None:
    picture_folder = root / 'leftImg8bit' / split / 'toytown'
    label_folder = root / 'gtFine' / split / 'toytown'
    picture_folder.mkdir(parents=True)
    label_folder.mkdir(parents=True)
    for number in range(count):
        image, label_ids = draw_scene(_FIRST_SEEDS[split] + number, height, width)
        stem = f'toytown_{number:06d}_000000'
        _write_png(picture_folder / f'{stem}_leftImg8bit.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        _write_png(label_folder / f'{stem}_gtFine_labelIds.png', label_ids)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    # Not cv2.imwrite: it cannot open paths with non-ASCII characters on every platform.
    is_encoded, data = cv2.imencode('.png', pixels)
    if not is_encoded:
        raise OSError(f'could not encode {path.name} as PNG')
    path.write_bytes(data.tobytes())
