"""Quick demo that runs seconds after installation: a small fused PSPNet segments newly drawn street scenes."""
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmseg.evaluation import IoUMetric

from ..core.labels import IGNORE
from ..core.visualization import colorize, legend, save_labels
from ..datasets.toy import CLASSES, draw_scene
from ..engine.trained_model import build_trained
from .comparison import as_batch, logits_of

# PSPNet-RepVGG from configs/pspnet_repvgg_tiny_toystreets.py, trained for 30 epochs and fused; see the commands in
# docs/measurements.md.
MODEL = Path(__file__).parent / 'quick_demo_model'
NAMES, PALETTE = [name for name, _, _ in CLASSES], [color for _, _, color in CLASSES]
TRAINED_SEEDS = 3_000_000  # All scenes of ToyStreets have seeds below this value.


def quick_demo(out: Path, scenes: int = 8, seed: int | None = None) -> tuple[float, list[Path]]:
    """Draw street scenes that the model has not seen, segment them, and write pictures.

    Args:
        out: folder for the pictures ``scene_N.png``, which show a scene, its labels, and the prediction side by side, with a
            legend.
        scenes: number of scenes.
        seed: seed of the first scene; by default, every call draws different scenes.

    Returns:
        The mIoU over the scenes in percent, and the paths of the pictures.
    """
    if seed is None:
        seed = int(np.random.default_rng().integers(TRAINED_SEEDS, 2**31))
    model, _ = build_trained(Config.fromfile(MODEL / 'config.py'), str(MODEL))
    table = np.full(256, IGNORE, np.uint8)
    table[[label_id for _, label_id, _ in CLASSES]] = range(len(CLASSES))
    pictures = [out / f'scene_{number}.png' for number in range(scenes)]
    areas = torch.zeros(4, len(CLASSES))
    for number, picture in enumerate(pictures):
        image, label_ids = draw_scene(seed + number)
        truth = table[label_ids]
        found = logits_of(model, as_batch(model, image[..., ::-1]))[0].argmax(0)
        areas += torch.stack(IoUMetric.intersect_and_union(found, torch.from_numpy(truth), len(CLASSES), IGNORE))
        row = np.concatenate([image, colorize(truth, PALETTE), colorize(found.numpy(), PALETTE)], axis=1)
        save_labels(picture, np.concatenate([row, legend(NAMES, PALETTE, row.shape[1])]))
    return 100 * float(np.nanmean(IoUMetric.total_area_to_metrics(*areas)['IoU'])), pictures
