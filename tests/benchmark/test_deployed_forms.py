"""What deployed forms are timed with."""
import numpy as np
import pytest

from repvgg_seg.benchmark.deployed_forms import picture


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_pictures_have_all_values(dtype):
    image = picture((500, 900), 3, dtype)
    assert image.shape == (1, 500, 900, 3) and image.dtype == dtype
    assert image.min() == 0 and image.max() == np.iinfo(dtype).max
