"""Diagnosing an invalid label map from its values, with the step that fixes it."""
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..core.labels import IGNORE

# Cityscapes' label ids (cityscapesScripts, helpers/labels.py), and the number of trained classes.
LARGEST_LABEL_ID, NUM_TRAIN_IDS = 33, 19


@dataclass(frozen=True)
class Diagnosis:
    """A kind of fault.

    Args:
        kind: name of the fault in tables.
        remedy: how to fix it.
    """
    kind: str
    remedy: str


BINARY = Diagnosis('only 0 and 255', 'these look like masks of 0 and 255, but 255 means ignored: use '
                   'repvgg_seg.PairedSegDataset with label_values={0: CLASS, 255: CLASS}, or write 1 in its place')
SHIFTED = Diagnosis('off by one', 'the values look like classes that are counted from 1: subtract 1 from each, and write 255 '
                    'where 0 meant nothing')
LABEL_IDS = Diagnosis('label ids', 'these look like Cityscapes\' label ids, not train ids: keep them under the names '
                      '*_gtFine_labelIds.png, which repvgg_seg.CityscapesDataset maps, or run '
                      'cityscapesscripts/preparation/createTrainIdLabelImgs.py')
UNKNOWN = Diagnosis('unknown values', 'correct the label or the classes of the dataset')
COLORS = Diagnosis('colors', 'use repvgg_seg.PairedSegDataset with label_colors={(RED, GREEN, BLUE): CLASS, ...}, or '
                   'convert the colors to indices')
GRAY = Diagnosis('three equal channels', 'convert it: its channels are equal, one of them is the map, e.g. label[..., 0]')


def diagnose_values(values: Iterable[int], label_map: Mapping[int, int]) -> Diagnosis | None:
    """Diagnose what is wrong with the values of a label map.

    Args:
        values: values that occur in the label map.
        label_map: legal value -> class index, or 255.

    Returns:
        The most likely fault, or None if all values are legal.
    """
    values = set(values)
    strange = values - set(label_map)
    classes = {raw for raw, index in label_map.items() if index != IGNORE}
    if not strange:
        return None
    if values == {0, IGNORE}:
        return BINARY
    plain = sorted(set(label_map) - {IGNORE})
    counted_from_zero = plain == [*range(len(plain))] and all(label_map[raw] in (raw, IGNORE) for raw in plain)
    if counted_from_zero and len(values) > 1 and 0 not in values and strange == {plain[-1] + 1}:
        return SHIFTED
    if len(classes) == NUM_TRAIN_IDS == plain[-1] + 1 and max(strange) <= LARGEST_LABEL_ID:
        return LABEL_IDS
    return UNKNOWN


def diagnose_channels(labels: np.ndarray) -> Diagnosis:
    """Diagnose the content of a label file with several channels, (H, W, C)."""
    colors = labels[..., :3] if labels.shape[2] != 2 else labels[..., :1]
    return GRAY if (colors == colors[..., :1]).all() else COLORS
