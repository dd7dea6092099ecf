"""Segmenting image files."""
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from rich.progress import track
from torch import nn

from ..datasets.loading import image_pipeline
from ..images import name_images
from ..visualization import overlay, save_labels
from .building import build_trained
from .classes import check_same_classes, trained_classes
from .dataset_configs import dataset_metainfo, test_pipeline
from .exported import check_classes_of_export, exported_config, is_exported


def predict(config: Config, checkpoint: str, source: str, out: Path) -> list[Path]:
    """Segment images and write, for each, ``NAME.png`` (class indices with a palette) and ``NAME_overlay.png``.

    Args:
        config: the whole config; images go through its test pipeline.
        checkpoint: training checkpoint, the folder of a fused model, or an exported file.
        source: an image, a folder (searched recursively) or a glob pattern.
        out: folder for the pictures.

    Returns:
        The overlays, in the order of the images.

    Raises:
        UserError: no image there, two images of one name, a damaged image, or weights that do not fit.
    """
    images = name_images(source)
    metainfo = dataset_metainfo(config)
    if is_exported(checkpoint):
        init_default_scope(config.get('default_scope', 'mmseg'))
        model = MODELS.build(exported_config(config, checkpoint))
        check_classes_of_export(model, metainfo['classes'])
    else:
        model, meta = build_trained(config, checkpoint)
        check_same_classes(f'checkpoint {checkpoint}', trained_classes(meta), 'the test set', metainfo['classes'])
        model = model.to(get_device())
    pipeline = Compose(image_pipeline(test_pipeline(config)))
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
