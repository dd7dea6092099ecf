"""What a comparison of logits says, also of those that are no numbers."""
import math

import numpy as np
import pytest
import torch
from mmseg.models import SegDataPreProcessor
from torch import nn

from repvgg_seg.deploy.comparison import as_batch, compare, full_float32

EXPECTED = torch.tensor([[4.0, 1.0, 2.0, 0.0], [1.0, 2.0, 0.0, 0.5]]).view(1, 2, 2, 2)  # Classes 0 1 0 1.


def test_difference_and_changed_share():
    actual = EXPECTED.clone()
    actual[0, 0, 0, 0] = 3
    actual[0, 0, 1, 1] = 1
    assert compare([(EXPECTED, EXPECTED), (EXPECTED, actual)]) == (0.25, 1 / 8)


@pytest.mark.parametrize('position', [0, 1], ids=['first image', 'last image'])
def test_what_is_no_number_is_never_within_a_limit(position):
    pairs = [(EXPECTED, EXPECTED), (EXPECTED, EXPECTED)]
    broken = EXPECTED.clone()
    broken[0, 1, 0, 0] = math.nan
    pairs[position] = (EXPECTED, broken)
    difference, _ = compare(pairs)
    assert math.isnan(difference) and not difference <= 1


def test_full_float32_restores_what_was_set():
    before = torch.backends.cudnn.allow_tf32
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_batch_is_not_padded_as_in_training():
    model = nn.Module()
    model.data_preprocessor = SegDataPreProcessor(mean=[10, 20, 30], std=[1, 2, 4], bgr_to_rgb=True, size=(48, 64))
    batch = as_batch(model, np.full((40, 50, 3), (34, 24, 14), np.uint8))
    assert batch.shape == (1, 3, 40, 50)
    assert batch[0, :, 0, 0].tolist() == [4, 2, 1] and batch[0, :, -1, -1].tolist() == [4, 2, 1]
