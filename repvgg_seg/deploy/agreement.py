"""How far a model and its fused form differ on images, and how long they take."""
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch import Tensor, nn

from ..engine.pipelines import without_labels
from ..images import list_images

CHECKED_IMAGES = 4
TIMED_ROUNDS = 10
RANDOM_SIZE = (512, 512)  # Height and width of the check image where there is no real one.


def check_inputs(config: Config, model: nn.Module, images: str | None) -> tuple[list[Tensor], bool]:
    """Input batches for a comparison.

    Args:
        config: the whole config, whose test pipeline the images go through.
        model: whose preprocessor normalises them.
        images: image, folder or glob pattern; by default the test set, and where that is absent a random image.

    Returns:
        Batches (1, 3, H, W), of a segmentor at most a test window large, and whether they are of real images.
    """
    paths = list_images(images) if images else test_images(config)
    device = next(model.parameters()).device
    if not paths:
        generator = torch.Generator().manual_seed(0)
        return [torch.randn(1, 3, *RANDOM_SIZE, generator=generator).to(device)], False
    pipeline = Compose(without_labels(config.test_dataloader.dataset.pipeline))
    height, width = (config.model.get('test_cfg') or {}).get('crop_size') or (None, None)
    batches = []
    for path in paths[::-(-len(paths) // CHECKED_IMAGES)]:
        data = pipeline(dict(img_path=str(path), seg_fields=[], label_map=None, reduce_zero_label=False))
        batch = model.data_preprocessor(pseudo_collate([data]), training=False)['inputs']
        batches.append(batch[..., :height, :width])
    return batches, True


def test_images(config: Config) -> list[Path]:
    """Paths of the test set's images; empty where the data set is not on this machine."""
    dataset = config.test_dataloader.dataset
    folder = Path(dataset.get('data_root') or '', dataset.data_prefix.img_path)
    return list_images(str(folder)) if folder.is_dir() else []


@torch.no_grad()
def compare(model: nn.Module, other: nn.Module, inputs: Sequence[Tensor]) -> tuple[float, float]:
    """How far two segmentors, or two classifiers, differ.

    Args:
        model: the reference.
        other: the one to judge.
        inputs: batches (N, 3, H, W).

    Returns:
        The largest difference of logits divided by the largest logit, and the share of pixels (of a classifier: of images)
        whose class changes.
    """
    difference, changed, total = 0.0, 0, 0
    for batch in inputs:
        logits, others = model(batch), other(batch)
        difference = max(difference, ((logits - others).abs().max() / logits.abs().max()).item())
        if logits.ndim == 4:
            logits, others = (F.interpolate(output, batch.shape[2:], mode='bilinear', align_corners=model.align_corners)
                              for output in (logits, others))
        classes = logits.argmax(1)
        changed += int((classes != others.argmax(1)).sum())
        total += classes.numel()
    return difference, changed / total


@torch.no_grad()
def timing(models: Sequence[nn.Module], batch: Tensor) -> list[float]:
    """Median milliseconds of a forward pass of each model, measured in turns after one warm-up turn."""
    times: list[list[float]] = [[] for _ in models]
    for turn in range(1 + TIMED_ROUNDS):
        for model, record in zip(models, times):
            synchronize(batch.device)
            start = time.perf_counter()
            model(batch)
            synchronize(batch.device)
            if turn > 0:
                record.append(1000 * (time.perf_counter() - start))
    return [statistics.median(record) for record in times]


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work; CPUs always have."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
