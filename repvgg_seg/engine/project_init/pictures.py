"""Pictures of samples that show whether images and labels belong together."""
from pathlib import Path

import cv2
import numpy as np
from mmengine.dataset import BaseDataset
from PIL import Image

from ...core.visualization import colorize, legend, viewable
from ...datasets.samples import load

SHOWN, CANDIDATES, SIDE = 8, 64, 480  # Number of pictures, number of samples to choose from, longest side in pixels.


def draw_pictures(dataset: BaseDataset, folder: Path) -> list[Path]:
    """Draw the samples with the most classes: image, label and overlay side by side, and a legend below.

    Args:
        dataset: dataset to draw samples from.
        folder: folder to write the pictures to.

    Returns:
        The paths of the pictures.
    """
    classes, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    samples = []
    for index in range(0, len(dataset), max(1, len(dataset) // CANDIDATES)):
        sample = load(dataset, index)
        samples.append((-len(np.unique(sample['gt_seg_map'])), index, sample))
        samples = sorted(samples, key=lambda each: each[:2])[:SHOWN]
    paths: list[Path] = []
    for _, _, sample in samples:
        labels = sample['gt_seg_map']
        factor = min(1, SIDE / max(labels.shape))
        size = (max(1, round(labels.shape[1] * factor)), max(1, round(labels.shape[0] * factor)))
        image = cv2.resize(viewable(sample['img']), size, interpolation=cv2.INTER_AREA)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        colors = colorize(labels, palette)
        row = np.hstack([image, colors, cv2.addWeighted(image, 0.45, colors, 0.55, 0)])
        present = [index for index in np.unique(labels) if index < len(classes)]
        below = legend([classes[index] for index in present], [palette[index] for index in present], row.shape[1])
        paths.append(folder / f'{len(paths)}_{Path(sample["img_path"]).stem}.png')
        Image.fromarray(np.vstack([row, below])).save(paths[-1])
    return paths
