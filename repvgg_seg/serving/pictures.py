"""From the body of a request to an image for a predictor, and from labels to the body of a response."""
import base64
import io
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..core.labels import IGNORE
from ..core.visualization import IGNORED_COLOR, UNKNOWN, colorize
from ..runtime.predictor import Predictor
from .limits import Limits, RequestError

TYPES = {'image/png': 'PNG', 'image/jpeg': 'JPEG'}
SIGNATURES = (b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff')
MODES = {1: 'L', 3: 'RGB'}  # Number of channels that a predictor takes -> Pillow's mode.
DEEP = ('I', 'F', 'I;16', 'I;16B', 'I;16L', 'I;16N')  # Modes of more than 8 bits per channel.
# Exceptions that Pillow raises for damaged files.
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, TypeError, AttributeError,
           zlib.error)


def read_picture(body: bytes, predictor: Predictor, limits: Limits) -> np.ndarray:
    """Decode a picture, turned upright as its Exif data says.

    Args:
        body: a PNG or JPEG file.
        predictor: predictor that the image is for.
        limits: limits of the server.

    Returns:
        uint8 (H, W, channels), with the channels in the order that the predictor takes.

    Raises:
        RequestError: the body is not a PNG or JPEG file of 8 bits per channel, is damaged, or has too many or too few pixels.
    """
    try:
        picture = Image.open(io.BytesIO(body), formats=list(TYPES.values()))
    except UnidentifiedImageError:
        if body.startswith(SIGNATURES):
            raise RequestError(422, damaged(ValueError('its header cannot be read'))) from None
        raise RequestError(415, f'the body is not a PNG or JPEG file; it begins with {body[:8]!r}') from None
    except Image.DecompressionBombError:
        raise RequestError(413, f'the picture has far more than {limits.pixels:,} pixels, which is the limit here; send a '
                                'smaller one') from None
    except DAMAGED as error:
        raise RequestError(422, damaged(error)) from None
    width, height = picture.size
    if width * height > limits.pixels:
        raise RequestError(413, f'the picture has {height}x{width} pixels, {limits.pixels:,} is the limit here; send a smaller '
                                'one')
    if picture.mode in DEEP:
        raise RequestError(415, f'the picture has more than 8 bits per channel (mode {picture.mode}); convert it to 8 bits')
    try:
        picture.load()
        upright = ImageOps.exif_transpose(picture).convert(MODES[predictor.in_channels])
    except DAMAGED as error:
        raise RequestError(422, damaged(error)) from None
    image = np.asarray(upright).reshape(upright.height, upright.width, -1)
    smallest = predictor.size or (predictor.min_size, predictor.min_size)
    if image.shape[0] < smallest[0] or image.shape[1] < smallest[1]:
        raise RequestError(422, f'the picture has {image.shape[0]}x{image.shape[1]} pixels, this model takes '
                                f'{smallest[0]}x{smallest[1]} or more; enlarge it')
    return np.ascontiguousarray(image[..., ::-1] if predictor.channels == 'BGR' else image)


def damaged(error: Exception) -> str:
    """Message for a picture that cannot be decoded."""
    reason = ' '.join(str(error).split()) or type(error).__name__
    return f'the picture is damaged (cut short?): {reason}; send it again'


def label_png(labels: np.ndarray) -> bytes:
    """Encode class indices, uint8 (H, W), as a gray PNG."""
    return png(Image.fromarray(labels))


def overlay_png(image: np.ndarray, labels: np.ndarray, predictor: Predictor, opacity: float) -> bytes:
    """Encode a picture with its colored labels over it as a PNG of the same size.

    Args:
        image: image as :func:`read_picture` returns it.
        labels: uint8 (H, W) of class indices.
        predictor: predictor that made them.
        opacity: opacity of the labels, 0 to 1.
    """
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    shown = image[..., ::-1] if predictor.channels == 'BGR' else image
    colors = colorize(labels, predictor.palette)
    return png(Image.blend(Image.fromarray(np.ascontiguousarray(shown)), Image.fromarray(colors), opacity))


def png(picture: Image.Image) -> bytes:
    """Encode a picture as a PNG; fast rather than small, because the server has other pictures to segment."""
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG', compress_level=1)
    return buffer.getvalue()


def describe(labels: np.ndarray, predictor: Predictor) -> dict:
    """Describe a label map as JSON.

    Args:
        labels: uint8 (H, W) of class indices; 255 is unknown.
        predictor: predictor that made them.

    Returns:
        Height and width, the classes that occur with their pixels and share (0 to 1), and the labels as a PNG in base64.
    """
    pixels = np.bincount(labels.ravel(), minlength=IGNORE + 1)
    classes = [dict(entry, pixels=int(pixels[entry['index']]), share=int(pixels[entry['index']]) / labels.size)
               for entry in entries(predictor.classes, predictor.palette) if pixels[entry['index']]]
    return dict(height=labels.shape[0], width=labels.shape[1], classes=classes,
                labels=base64.b64encode(label_png(labels)).decode())


def entries(classes: Sequence[str], palette: Sequence[Sequence[int]]) -> list[dict]:
    """Index, name and RGB color of each class, and of the label 255."""
    named = [dict(index=index, name=name, color=list(color)) for index, (name, color) in enumerate(zip(classes, palette))]
    return [*named, dict(index=IGNORE, name=UNKNOWN, color=list(IGNORED_COLOR))]
