"""Files that one would not expect: each is read, or refused in one line, as its user would expect.

The outcomes are a table in docs/reliability.md, which `python tests/datasets/test_bad_files.py` prints.
"""
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from repvgg_seg.core.errors import DataError
from repvgg_seg.datasets.loading import LoadImage, LoadLabels

ROOT = Path(__file__).parents[2]
SIZE = (24, 32)
RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 11, SIZE, np.uint8)
# Smooth, so that JPEG keeps it, and different in every corner.
PIXELS = np.add.outer(np.arange(24) * 7, np.arange(32) * 2)[..., None].astype(np.uint8) + np.array([0, 10, 20], np.uint8)
LABEL_MAP = {index: index for index in range(11)}


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def bomb(side: int) -> bytes:
    """A gray PNG of a few kilobytes that claims to be ``side`` pixels high and wide."""
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0))
            + chunk(b'IDAT', zlib.compress(bytes(10**6))) + chunk(b'IEND', b''))


def flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1:]


def of(mode: str, ending: str = '.png', change: Callable[[bytes], bytes] = bytes, source: np.ndarray = PIXELS,
       **options) -> tuple[str, Callable[[Path], None]]:
    """A file with an ending: an image in a mode, saved with some options, its bytes changed."""

    def write(path: Path) -> None:
        Image.fromarray(source).convert(mode).save(path, **options)
        path.write_bytes(change(path.read_bytes()))

    return ending, write


def raw(content: bytes) -> tuple[str, Callable[[Path], None]]:
    return '.png', lambda path: path.write_bytes(content)


def rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned by 90 degrees to be seen upright.
    return exif


def palette(path: Path) -> None:
    image = Image.fromarray(LABELS)
    image.putpalette(RANDOM.integers(0, 256, 768, np.uint8).tobytes())
    image.save(path)


FILES = {
    'zero bytes': raw(b''),
    'text (an HTML error page)': raw(b'<html>404</html>'),
    'PNG cut in half': of('RGB', change=lambda data: data[:len(data) // 2]),
    'JPEG cut in half': of('RGB', '.jpg', change=lambda data: data[:len(data) // 2]),
    'PNG with a flipped bit': of('RGB', change=flip_a_bit),
    'decompression bomb, 60000x60000': raw(bomb(60000)),
    'gray PNG of 16 bits': ('.png', lambda path: cv2.imwrite(str(path), LABELS.astype(np.uint16))),
    'color PNG of 16 bits': ('.png', lambda path: cv2.imwrite(str(path), PIXELS.astype(np.uint16) * 257)),
    'gray PNG': of('L', source=LABELS),
    'palette PNG': ('.png', palette),
    'PNG with transparency': of('RGBA'),
    'CMYK JPEG': of('CMYK', '.jpg'),
    'JPEG turned by its EXIF tag': of('RGB', '.jpg', exif=rotated()),
    'TIFF of floating point': ('.tif', lambda path: Image.fromarray(LABELS.astype(np.float32)).save(path)),
    'name with spaces and Unicode': (' straße 日本 🚲.png', of('L', source=LABELS)[1]),
    'link to nothing': ('.png', lambda path: path.symlink_to('absent')),
    'link to itself': ('.png', lambda path: path.symlink_to(path.name)),
}


def outcome(path: Path, kind: str) -> str:
    """What reading a file as an image or as a label gives, in a line."""
    try:
        if kind == 'image':
            shape = LoadImage().transform(dict(img_path=str(path)))['img'].shape
        else:
            sample = dict(seg_map_path=str(path), label_map=LABEL_MAP, ori_shape=SIZE, seg_fields=[])
            shape = LoadLabels().transform(sample)['gt_seg_map'].shape
        return 'read' if shape[:2] == SIZE else f'read, {shape[0]}x{shape[1]}'
    except DataError as error:
        message = str(error).replace(str(path), 'FILE')
        assert message.startswith(f'{kind} FILE ') and '\n' not in message
        return 'refused: ' + message.removeprefix(f'{kind} FILE ').rsplit('; ', 1)[0]


def table() -> list[str]:
    """Rows for Markdown."""
    rows = []
    for name, (ending, write) in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f'file{ending}')
            write(path)
            rows.append(f'| {name} | {outcome(path, "image")} | {outcome(path, "label")} |')
    return rows


def test_table_in_the_docs():
    text = (ROOT / 'docs' / 'reliability.md').read_text()
    rows = table()
    assert [row for row in rows if row not in text] == []
    assert f'{len(rows)} kinds of files' in text


@pytest.mark.parametrize('name', FILES)
def test_what_is_read_is_right(name, tmp_path):
    """Up to what JPEG loses; turned where the tag says so."""
    ending, write = FILES[name]
    path = tmp_path / f'file{ending}'
    write(path)
    if not outcome(path, 'image').startswith('read'):
        return
    image = LoadImage().transform(dict(img_path=str(path)))['img'][..., ::-1].astype(int)
    if 'JPEG' in name:
        expected = np.rot90(PIXELS, -1) if 'turned' in name else PIXELS
        assert np.abs(image - expected).mean() < 5 and image.shape == expected.shape
    elif name in ('gray PNG', 'name with spaces and Unicode'):
        np.testing.assert_array_equal(image, np.repeat(LABELS[..., None], 3, 2))
    elif name == 'color PNG of 16 bits':
        np.testing.assert_array_equal(image[..., ::-1], PIXELS)
    elif name == 'PNG with transparency':
        np.testing.assert_array_equal(image, PIXELS)


@pytest.mark.parametrize('place', ['train', 'trainannot', 'train/town'])
def test_folders_that_contain_themselves(camvid, place):
    camvid.add('a')
    camvid.add('town/b')
    (camvid.root / place / 'loop').symlink_to(camvid.root / place, target_is_directory=True)
    assert [os.path.basename(camvid.build().get_data_info(index)['img_path']) for index in range(2)] == ['a.png', 'b.png']
    assert len(camvid.build()) == 2


def test_messages_say_what_to_do(tmp_path):
    for name, (ending, write) in FILES.items():
        path = tmp_path / f'{len(name)}{ending}'
        write(path)
        for kind, step in (('img', LoadImage()), ('seg_map', LoadLabels())):
            try:
                step.transform({f'{kind}_path': str(path), 'label_map': LABEL_MAP, 'ori_shape': SIZE, 'seg_fields': []})
            except DataError as error:
                assert re.search(r'replace|convert|equal', str(error)), name
        path.unlink()


if __name__ == '__main__':
    print('\n'.join(table()))  # noqa: T201
