"""What the values of a label map betray about how it was made."""
import numpy as np
import pytest

from repvgg_seg.datasets.diagnosis import BINARY, COLORS, GRAY, LABEL_IDS, SHIFTED, UNKNOWN, diagnose_channels, diagnose_values

CAMVID = {**{index: index for index in range(11)}, 11: 255}
TRAIN_IDS = {**{index: index for index in range(19)}, 255: 255}
LABEL_ID_MAP = {**{index: 255 for index in range(34)}, 7: 0, 8: 1, 255: 255}
TWO = {0: 0, 1: 1, 255: 255}


@pytest.mark.parametrize(('values', 'label_map', 'expected'), [
    ({0, 5, 11}, CAMVID, None), ({0, 255}, TWO, None), ({0, 18, 255}, TRAIN_IDS, None), ({1, 2, 3}, CAMVID, None),
    ({0, 255}, CAMVID, BINARY), ({0, 1, 255}, CAMVID, UNKNOWN),
    ({1, 4, 12}, CAMVID, SHIFTED), ({0, 4, 12}, CAMVID, UNKNOWN), ({12}, CAMVID, UNKNOWN), ({1, 4, 13}, CAMVID, UNKNOWN),
    ({1, 2}, TWO, SHIFTED), ({1, 2, 255}, TWO, SHIFTED), ({1, 19}, TRAIN_IDS, SHIFTED),
    ({7, 11, 23, 26}, TRAIN_IDS, LABEL_IDS), ({0, 33}, TRAIN_IDS, LABEL_IDS), ({7, 40}, TRAIN_IDS, UNKNOWN),
    ({7, 23}, CAMVID, UNKNOWN), ({7, 34}, LABEL_ID_MAP, UNKNOWN),
])
def test_values(values, label_map, expected):
    assert diagnose_values(values, label_map) == expected


@pytest.mark.parametrize(('channels', 'equal', 'expected'), [
    (3, True, GRAY), (4, True, GRAY), (2, True, GRAY), (3, False, COLORS), (4, False, COLORS)])
def test_channels(channels, equal, expected):
    labels = np.repeat(np.random.randint(0, 9, (4, 5, 1), np.uint8), channels, axis=2)
    if channels in (2, 4):
        labels[..., -1] = 255  # Alpha says nothing.
    if not equal:
        labels[0, 0, 1] += 1
    assert diagnose_channels(labels) == expected
