"""Segmenting image files."""
import glob
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from rich.progress import track
from torch import nn

from ..errors import UserError
from ..visualization import overlay, save_labels
from .segmentor import build_segmentor
from .testing import without_labels

IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff', '.webp')


def predict(config: Config, checkpoint: str, source: str, out: Path) -> list[Path]:
    """Segment images and write, for each, ``NAME.png`` (class indices with a palette) and ``NAME_overlay.png``.

    Args:
        config: the whole config; images go through its test pipeline.
        checkpoint: training checkpoint, or the folder of a fused model.
        source: an image, a folder (searched recursively) or a glob pattern.
        out: folder for the pictures.

    Returns:
        The overlays, in the order of the images.

    Raises:
        UserError: no image there, two images of one name, a damaged image, or weights that do not fit.
    """
    images = find_images(source)
    model = build_segmentor(config, checkpoint).to(get_device())
    metainfo = dataset_metainfo(config)
    pipeline = Compose(without_labels(config.test_dataloader.dataset.pipeline))
    overlays = []
    for name, path in track(images.items(), description='Predicting'):
        labels, image = segment(model, pipeline, path)
        save_labels(out / f'{name}.png', labels, metainfo['palette'])
        overlays.append(out / f'{name}_overlay.png')
        save_labels(overlays[-1], overlay(image, labels, metainfo['classes'], metainfo['palette']))
    return overlays


@torch.no_grad()
def segment(model: nn.Module, pipeline: Compose, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The class indices, uint8 (H, W), of an image file, and the image, uint8 RGB (H, W, 3)."""
    data = pipeline(dict(img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False))
    image = np.ascontiguousarray(data['inputs'].numpy().transpose(1, 2, 0)[..., ::-1])
    sample = model.test_step(pseudo_collate([data]))[0]
    return sample.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8), image


def find_images(source: str) -> dict[str, Path]:
    """Images by the names of their outputs: the file names, with folders before them where those are not unique.

    Raises:
        UserError: there is none, or two would have the same output.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(file for file in path.rglob('*') if file.suffix.lower() in IMAGE_SUFFIXES)
    elif path.is_file():
        found = [path]
    else:
        found = sorted(Path(name) for name in glob.glob(source, recursive=True) if Path(name).is_file())
    if not found:
        raise UserError(f'no image at {source}; expected an image, a folder with files that end in '
                        f'{", ".join(IMAGE_SUFFIXES)}, or a glob pattern')
    names = [file.stem for file in found]
    if len(set(names)) < len(names) and path.is_dir():
        names = ['_'.join(file.relative_to(path).with_suffix('').parts) for file in found]
    images: dict[str, Path] = {}
    for name, file in zip(names, found):
        if name in images:
            raise UserError(f'{images[name]} and {file} would both be written to {name}.png; rename one, or predict them '
                            'in two calls')
        images[name] = file
    return images


def dataset_metainfo(config: Config) -> dict:
    """Classes and palette of the config's test set, without opening its files."""
    from mmseg.registry import DATASETS
    dataset = config.test_dataloader.dataset
    metainfo = {**DATASETS.get(dataset.type).METAINFO, **(dataset.get('metainfo') or {})}
    return dict(classes=metainfo['classes'], palette=metainfo['palette'])
