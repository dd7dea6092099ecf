"""Images with any number of channels, 8 or 16 bits, are read with all of them, or refused in one line."""
import io
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from repvgg_seg.core.errors import DataError, InstallationError
from repvgg_seg.core.visualization import save_labels
from repvgg_seg.datasets.checking import check_dataset
from repvgg_seg.datasets.loading import LoadImage

tifffile = pytest.importorskip('tifffile', reason='needs the extra [tiff]')


def pixels(channels: int, dtype: str = 'uint16') -> np.ndarray:
    """Noise (40, 56, channels) over the whole range."""
    return np.random.default_rng(channels).integers(0, np.iinfo(dtype).max + 1, (40, 56, channels), dtype)


def read(path: Path, **options) -> np.ndarray:
    return LoadImage(**{'color_type': 'unchanged', **options})(dict(img_path=str(path)))['img']


@pytest.mark.parametrize('layout', ['interleaved', 'planes', 'pages', 'deflate', 'big'])
@pytest.mark.parametrize(('channels', 'dtype'), [(2, 'uint8'), (4, 'uint16'), (5, 'uint8'), (8, 'uint16'), (13, 'uint16')])
def test_tiff_with_many_bands(tmp_path, layout, channels, dtype):
    image, path = pixels(channels, dtype), tmp_path / 'a.tif'
    options = dict(interleaved={}, planes=dict(planarconfig='separate'), pages={}, big=dict(bigtiff=True),
                   deflate=dict(compression='zlib'))[layout]
    if layout == 'pages':
        tifffile.imwrite(path, image.transpose(2, 0, 1), photometric='minisblack', planarconfig=None)
    else:
        stored = image.transpose(2, 0, 1) if layout == 'planes' else image
        tifffile.imwrite(path, stored, photometric='minisblack', **{'planarconfig': 'contig', **options})
    found = read(path)
    assert found.dtype == dtype and np.array_equal(found, image)


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('suffix', ['.png', '.tif'])
def test_gray_and_color_of_16_bits(tmp_path, channels, suffix):
    image, path = pixels(channels), tmp_path / f'a{suffix}'
    if suffix == '.png':
        cv2.imwrite(str(path), image)
    else:
        rgb = image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image[..., 0]
        tifffile.imwrite(path, rgb, photometric='rgb' if channels > 1 else 'minisblack')
    assert np.array_equal(read(path).reshape(40, 56, channels), image)
    if channels > 1:
        assert read(path, color_type='color').dtype == np.uint8


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_8_bits_are_still_read_by_pillow(tmp_path, monkeypatch, channels):
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    image, path = pixels(channels, 'uint8'), tmp_path / 'a.tif'
    Image.fromarray(image[..., [2, 1, 0, 3][:channels]] if channels > 1 else image[..., 0]).save(path)
    assert np.array_equal(read(path).reshape(40, 56, channels), image)


@pytest.mark.parametrize(('kind', 'message'), [
    ('half', r'image {} cannot be read \(.+\); replace or remove it'),
    ('header', r'image {} cannot be read \(.+\); replace or remove it'),
    ('lzw', r"image {} cannot be read \(.+imagecodecs.+; run: pip install imagecodecs\); replace or remove it"),
    ('series', r"image {} cannot be read \(its axes are ZCYX with the sizes \(2, 3, 40, 56\); expected height, width and "
     r'bands\); replace or remove it'),
    ('large', r'image {} cannot be read \(Image size \(2240 pixels\) exceeds limit of 2000 pixels, could be decompression bomb '
     r'DOS attack; if it is your own, set the environment variable REPVGG_SEG_MAX_PIXELS=2240\); replace or remove it'),
    ('color', r'image {} is a TIFF file that is damaged, or has other bands than gray, RGB or RGBA; let LoadImageFromFile read '
     'those with color_type="unchanged"'),
])
@pytest.mark.filterwarnings('ignore:Image size:PIL.Image.DecompressionBombWarning')
def test_what_is_refused(tmp_path, monkeypatch, kind, message):
    path, buffer = tmp_path / 'a.tif', io.BytesIO()
    if kind == 'series':
        tifffile.imwrite(buffer, np.zeros((2, 3, 40, 56), np.uint16), imagej=True)
    else:
        tifffile.imwrite(buffer, pixels(6), photometric='minisblack', planarconfig='contig')
    data = bytearray(buffer.getvalue())
    if kind == 'lzw':
        where = data.index(bytes([3, 1, 3, 0, 1, 0, 0, 0, 1, 0]))  # Compression: none.
        data[where + 8] = 5
        monkeypatch.setitem(sys.modules, 'imagecodecs', None)
    elif kind == 'large':
        monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    path.write_bytes(data[:len(data) // 2] if kind == 'half' else data[:30] if kind == 'header' else data)
    with pytest.raises(DataError) as raised:
        read(path, color_type='color' if kind == 'color' else 'unchanged')
    assert re.fullmatch(message.format(re.escape(str(path))), str(raised.value)), str(raised.value)


def test_without_tifffile(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / 'a.tif', pixels(6), photometric='minisblack', planarconfig='contig')
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(InstallationError, match=re.escape(
            'TIFF files with more than 4 bands, or with several of 16 bits, need tifffile, which is not installed; run: pip '
            'install "repvgg_seg[tiff]"')):
        read(tmp_path / 'a.tif')


def test_check_data_counts_all_bands(tmp_path):
    for number in range(2):
        (tmp_path / 'images').mkdir(exist_ok=True)
        (tmp_path / 'labels').mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f'images/{number}.tif', pixels(6) // (number + 1), photometric='minisblack',
                         planarconfig='contig')
        save_labels(tmp_path / f'labels/{number}.png', np.zeros((40, 56), np.uint8))
    dataset = DATASETS.build(dict(
        type='repvgg_seg.PairedSegDataset', data_root=str(tmp_path), data_prefix=dict(img_path='images', seg_map_path='labels'),
        metainfo=dict(classes=['a'], palette=[[1, 2, 3]]),
        pipeline=[dict(type='LoadImageFromFile', color_type='unchanged'), dict(type='LoadAnnotations')]))
    report = check_dataset(dataset, 'train')
    values = np.stack([pixels(6), pixels(6) // 2]).reshape(-1, 6).astype(float)
    assert not report.errors and report.sizes == {'40x56': 2}
    assert report.mean == pytest.approx(values.mean(0), abs=0.01) and report.std == pytest.approx(values.std(0), abs=0.01)
