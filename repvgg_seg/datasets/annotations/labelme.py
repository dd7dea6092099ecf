"""Annotations of LabelMe (https://github.com/wkentaro/labelme): one JSON file for each image."""
import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import DataError
from .regions import AnnotatedImage, Region, coco_masks, is_number, polygons_of

CORNERS = 64  # Number of corners of the polygon that replaces a circle.
WITHOUT_AREA = ('point', 'points', 'line', 'linestrip')


def is_labelme(content: object) -> bool:
    """Whether the content of a JSON file looks like LabelMe's format."""
    return isinstance(content, Mapping) and isinstance(content.get('shapes'), list)


def read_labelme(content: Mapping[str, Any], path: Path, name: str) -> AnnotatedImage:
    """Read the shapes of a file.

    Args:
        content: content of the file, see :func:`is_labelme`.
        path: path of the file, for messages.
        name: name of the image, see :class:`~repvgg_seg.datasets.annotations.regions.AnnotatedImage`.

    Raises:
        DataError: the file does not give the size of its image, or a shape is invalid or has no area.
    """
    size = tuple(content.get(key) for key in ('imageHeight', 'imageWidth'))
    if not all(isinstance(length, int) and length > 0 for length in size):
        raise DataError(f'{path} has no imageHeight and imageWidth; open and save it in LabelMe, or add them')
    regions, empty = [], 0
    for number, shape in enumerate(content['shapes'], 1):
        place = f'shape {number} of {path}'
        if not (isinstance(shape, Mapping) and isinstance(shape.get('label'), str) and isinstance(shape.get('points'), list)):
            raise DataError(f'{place} has no label and points; correct or remove it')
        outline = outline_of(shape, size, place)
        if outline:
            regions.append(Region(shape['label'], outline, False, place))
        else:
            empty += 1
    return AnnotatedImage(name, size, regions, empty)  # type: ignore[arg-type]


def outline_of(shape: Mapping[str, Any], size: tuple, place: str) -> Any:
    """The polygons or run lengths of a shape.

    Args:
        shape: an entry of ``shapes``.
        size: height and width of the image.
        place: location of the shape, for messages.

    Raises:
        DataError: the type is unknown or has no area, or the points are invalid.
    """
    kind, points = shape.get('shape_type') or 'polygon', shape['points']
    if not all(isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in points):
        raise DataError(f'{place} has points that are not pairs of numbers; correct or remove it')
    if kind == 'polygon':
        return polygons_of([[value for point in points for value in point]], place)
    if kind in WITHOUT_AREA:
        raise DataError(f'{place} is a {kind}, which has no area; remove it, or draw a polygon')
    if kind in ('rectangle', 'circle', 'mask') and len(points) != 2:
        raise DataError(f'{place} is a {kind} of {len(points)} points; expected 2')
    if kind == 'rectangle':
        (left, top), (right, bottom) = points
        return [[left, top, right, top, right, bottom, left, bottom]]
    if kind == 'circle':
        (x, y), (edge_x, edge_y) = points
        radius, angles = np.hypot(edge_x - x, edge_y - y), np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        return [np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).ravel().tolist()]
    if kind == 'mask':
        return run_lengths(shape, size, place)
    raise DataError(f'{place} is of the unknown type {kind}; expected polygon, rectangle, circle or mask')


def run_lengths(shape: Mapping[str, Any], size: tuple, place: str) -> Mapping[str, Any]:
    """Run lengths of a shape whose mask is a PNG, the upper left corner of which is at the first point.

    Raises:
        DataError: the PNG cannot be read, or extends beyond the image.
    """
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.get('mask') or ''))) as picture:
            part = np.array(picture.convert('L')) > 0
    except (ValueError, OSError) as error:
        raise DataError(f'{place} has a mask that cannot be read ({error}); correct or remove it') from None
    left, top = map(int, shape['points'][0])
    whole = np.zeros(size, np.uint8, order='F')
    target = whole[max(top, 0):top + part.shape[0], max(left, 0):left + part.shape[1]]
    if min(left, top) < 0 or target.shape != part.shape:
        raise DataError(f'{place} has a mask that extends beyond its image; correct or remove it')
    target[...] = part
    return coco_masks().encode(whole)
