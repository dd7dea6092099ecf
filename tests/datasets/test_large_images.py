"""Images that are larger than Pillow allows, and how a user allows them."""
import re

import numpy as np
import pytest
from PIL import Image

from repvgg_seg.core.errors import DataError, UserError
from repvgg_seg.core.images import allow_large_images
from repvgg_seg.datasets.loading import LoadImage, read_labels


@pytest.fixture
def large(tmp_path, monkeypatch):
    """An image of 30x40 pixels, where Pillow allows 1000."""
    Image.fromarray(np.full((30, 40), 7, np.uint8)).save(tmp_path / 'large.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 500)
    return tmp_path / 'large.png'


@pytest.mark.situation('Smaller', "images over Pillow's limit of 179 megapixels", before='called an attack',
                       now='the line says how to allow them: REPVGG_SEG_MAX_PIXELS=N')
@pytest.mark.filterwarnings('ignore:Image size:PIL.Image.DecompressionBombWarning')
def test_the_message_says_how_to_allow_them(large, monkeypatch):
    reason = ('Image size (1200 pixels) exceeds limit of 1000 pixels, could be decompression bomb DOS attack; if it is your '
              'own, set the environment variable REPVGG_SEG_MAX_PIXELS=1200')
    with pytest.raises(DataError, match=f'^{re.escape(f"image {large} cannot be read ({reason}); replace or remove it")}$'):
        LoadImage().transform(dict(img_path=str(large)))
    with pytest.raises(DataError, match=re.escape(f'({reason})')):
        read_labels(str(large))
    monkeypatch.setenv('REPVGG_SEG_MAX_PIXELS', '1200')
    allow_large_images()
    assert LoadImage().transform(dict(img_path=str(large)))['img'].shape == (30, 40, 3)
    assert read_labels(str(large)).shape == (30, 40)


@pytest.mark.parametrize('value', ['', '0', '-5', '1e9', 'all'])
def test_what_is_no_number_of_pixels(monkeypatch, value):
    monkeypatch.setenv('REPVGG_SEG_MAX_PIXELS', value)
    message = f'REPVGG_SEG_MAX_PIXELS is {value!r}; expected the largest number of pixels that an image may have'
    with pytest.raises(UserError, match=f'^{re.escape(message)}$'):
        allow_large_images()
