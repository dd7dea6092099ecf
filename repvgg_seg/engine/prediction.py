"""Segmenting image files."""
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope
from rich.progress import track
from torch import Tensor

from ..core.configs import files_of_config
from ..core.destinations import Output, check_outputs, ensure_writable, files_of
from ..core.errors import UserError
from ..core.images import name_images
from ..core.visualization import overlay, save_labels, viewable
from ..datasets.loading import image_pipeline
from .classes import check_same_classes, trained_classes
from .dataset_configs import dataset_metainfo, test_pipeline
from .exported import check_classes_of_export, exported_config, is_exported
from .trained_model import build_trained


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
        UserError: no image there, a picture that would replace an image or another picture, a damaged image, or weights that
            do not fit.
    """
    images = [(path, out / f'{name}.png', out / f'{name}_overlay.png') for name, path in name_images(source)]
    check_outputs((Output(picture, str(path)) for path, *pictures in images for picture in pictures),
                  [*(path for path, *_ in images), *files_of(checkpoint), *files_of_config(config)])
    metainfo = dataset_metainfo(config)
    if is_exported(checkpoint):
        init_default_scope(config.get('default_scope', 'mmseg'))
        model = MODELS.build(exported_config(config, checkpoint))
        check_classes_of_export(model, metainfo['classes'])
    else:
        model, meta = build_trained(config, checkpoint)
        check_same_classes(f'checkpoint {checkpoint}', trained_classes(meta), 'the test set', metainfo['classes'])
        model = model.to(get_device())
    load, *others = Compose(image_pipeline(test_pipeline(config))).transforms
    pipeline = Compose(others)
    ensure_writable(out)
    for path, label_map, blended in track(images, description='Predicting'):
        labels, image = segment(model, load, pipeline, path)
        save_labels(label_map, labels, metainfo['palette'])
        save_labels(blended, overlay(image, labels, metainfo['classes'], metainfo['palette']))
    return [blended for *_, blended in images]


@torch.no_grad()
def segment(model: BaseModel, load: Callable[[dict], dict], pipeline: Compose,
            path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Segment an image file.

    Args:
        model: a segmentor.
        load: the step of the test pipeline that reads the file.
        pipeline: the steps after it.
        path: of the file.

    Returns:
        The class indices, uint8 (H, W), and the image as it was read, uint8 RGB (H, W, 3).

    Raises:
        UserError: the pipeline makes several images of one.
    """
    data = load(dict(img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False))
    image = viewable(data['img'])  # Before it is resized, padded or normalized; labels have the size that it has here.
    data = pipeline(data)
    if not isinstance(data['inputs'], Tensor):
        raise UserError('the test pipeline makes several images of one (TestTimeAug); move that step to tta_pipeline')
    sample = model.test_step(pseudo_collate([data]))[0]
    return sample.pred_sem_seg.data.squeeze(0).cpu().numpy().astype(np.uint8), image
