"""Decoding images that Pillow cannot read, or would reduce to 8 bits: several channels of 16 bits, and TIFF with many bands."""
import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from ..core.errors import InstallationError

TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # First bytes; the last two are those of BigTIFF.
SAMPLES, BITS = 277, 258  # Tags of TIFF: values per pixel, and bits of each.
# Exceptions of tifffile for damaged files, and for compressions that need a further package.
DAMAGED = (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, MemoryError, struct.error, zlib.error)


def is_tiff(data: bytes) -> bool:
    """Whether a file is a TIFF file."""
    return data.startswith(TIFF)


def beyond_pillow(data: bytes) -> bool:
    """Whether a file is one that :func:`decode_bands` reads and Pillow does not read without loss.

    Raises:
        PIL.Image.DecompressionBombError: the image has too many pixels.
        OSError, SyntaxError, ValueError: the file is damaged.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format == 'PNG':
                return image.mode.startswith('RGB') and any(';16' in str(tile.args) for tile in image.tile)
            if not isinstance(image, TiffImageFile):
                return False
            samples, bits = image.tag_v2.get(SAMPLES, 1), image.tag_v2.get(BITS, (1, ))
            return samples != len(image.getbands()) or samples > 1 and max(bits) > 8 or image.n_frames > 1
    except UnidentifiedImageError:
        return is_tiff(data)


def decode_bands(data: bytes) -> np.ndarray:
    """Decode an image with all its channels and bits.

    Args:
        data: content of a PNG or TIFF file.

    Returns:
        The image (H, W) or (H, W, C), of the dtype of the file. Colors are blue, green, red; other bands of a TIFF file are in
        the order of the file, whether they are interleaved, planes or pages.

    Raises:
        ValueError: the file is damaged, compressed in an unknown way, or not a single image.
        PIL.Image.DecompressionBombError: the image has too many pixels.
        InstallationError: the file needs a package that is not installed.
    """
    if not is_tiff(data):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ValueError('no image file')
        return image
    try:
        import tifffile
    except ModuleNotFoundError:
        raise InstallationError('TIFF files with more than 4 bands, or with several of 16 bits, need tifffile, which is not '
                                'installed; run: pip install "repvgg_seg[tiff]"') from None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series = file.series[0]
            axes, shape = series.axes, dict(zip(series.axes, series.shape))
            if len(axes) not in (2, 3) or 'Y' not in axes or 'X' not in axes:
                raise ValueError(f'its axes are {axes} with the sizes {series.shape}; expected height, width and bands')
            check_pixels(shape['Y'] * shape['X'])
            colors = series.keyframe.photometric == tifffile.PHOTOMETRIC.RGB
            image = series.asarray()
    except Image.DecompressionBombError:
        raise
    except (*DAMAGED, tifffile.TiffFileError) as error:  # No ValueError in versions for Python 3.10.
        reason = (str(error).strip('\'"').splitlines() or [type(error).__name__])[0]
        advice = '; run: pip install imagecodecs' if 'imagecodecs' in reason else ''
        raise ValueError(f'{reason}{advice}') from None
    order = [axes.index('Y'), axes.index('X'), *(axis for axis, name in enumerate(axes) if name not in 'YX')]
    image = image.transpose(order)
    if colors and image.ndim == 3:
        image = image[..., [2, 1, 0, *range(3, image.shape[2])]]
    return np.ascontiguousarray(image)


def check_pixels(pixels: int) -> None:
    """Apply Pillow's limit to the number of pixels of an image.

    Raises:
        PIL.Image.DecompressionBombError: there are more.
    """
    if Image.MAX_IMAGE_PIXELS is not None and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f'Image size ({pixels} pixels) exceeds limit of {2 * Image.MAX_IMAGE_PIXELS} '
                                           'pixels, could be decompression bomb DOS attack.')
