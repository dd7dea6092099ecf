"""A look at a trained model seconds after the installation: freshly drawn street scenes, segmented by a small fused PSPNet."""
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from ..core.visualization import colorize, legend, save_labels
from ..datasets.toy import CLASSES, draw_scene
from ..engine.trained_model import build_trained
from .comparison import as_batch, logits_of

# PSPNet-RepVGG of configs/pspnet_repvgg_tiny_toystreets.py after 30 epochs, fused; docs/measurements.md has the commands.
MODEL = Path(__file__).parent / 'quick_demo_model'
NAMES, PALETTE = [name for name, _, _ in CLASSES], [color for _, _, color in CLASSES]
TRAINED_SEEDS = 3_000_000  # The scenes of ToyStreets have seeds below this one.
IGNORED = 255


def quick_demo(out: Path, scenes: int = 8, seed: int | None = None) -> tuple[float, list[Path]]:
    """Draw street scenes that the model has not seen, segment them, and write pictures.

    Args:
        out: folder for ``scene_N.png``: the scene, its labels and the prediction side by side, with a legend.
        scenes: number of scenes.
        seed: seed of the first scene; other scenes at every call by default.

    Returns:
        mIoU over the scenes, in percent, and the pictures.
    """
    if seed is None:
        seed = int(np.random.default_rng().integers(TRAINED_SEEDS, 2**31))
    model, _ = build_trained(Config.fromfile(MODEL / 'config.py'), str(MODEL))
    table = np.full(256, IGNORED, np.uint8)
    table[[label_id for _, label_id, _ in CLASSES]] = range(len(CLASSES))
    pictures = [out / f'scene_{number}.png' for number in range(scenes)]
    confusion = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for number, picture in enumerate(pictures):
        image, label_ids = draw_scene(seed + number)
        truth = table[label_ids]
        found = logits_of(model, as_batch(model, image[..., ::-1]))[0].argmax(0).to(torch.uint8).numpy()
        counted = truth != IGNORED
        confusion += np.bincount(truth[counted].astype(np.int64) * len(CLASSES) + found[counted],
                                 minlength=len(CLASSES)**2).reshape(confusion.shape)
        row = np.concatenate([image, colorize(truth, PALETTE), colorize(found, PALETTE)], axis=1)
        save_labels(picture, np.concatenate([row, legend(NAMES, PALETTE, row.shape[1])]))
    hits = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - hits
    return 100 * float((hits[union > 0] / union[union > 0]).mean()), pictures
