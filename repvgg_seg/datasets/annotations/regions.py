"""Regions of images as described by annotation tools, and their conversion to label maps."""
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.errors import DataError, InstallationError
from ...core.labels import IGNORE

MIN_COORDINATES = 6  # A polygon needs at least three points.


@dataclass(frozen=True)
class Region:
    """A region of an image.

    Args:
        name: name of its class.
        outline: polygons whose union is the region, each as x, y, x, y, ... in pixels; or run lengths in COCO's format,
            dict(size=[height, width], counts=...), compressed or not.
        crowd: whether the region is a rough outline of many objects.
        place: file and position in it, for messages.
    """
    name: str
    outline: Sequence[Sequence[float]] | Mapping[str, Any]
    crowd: bool
    place: str

    def run_lengths(self, height: int, width: int) -> dict[str, Any]:
        """Rasterize the region to compressed run lengths with pycocotools.

        Raises:
            DataError: the run lengths are invalid, or are for an image of a different size.
        """
        coco = coco_masks()
        try:
            if not isinstance(self.outline, Mapping):
                return coco.merge(coco.frPyObjects([list(polygon) for polygon in self.outline], height, width))
            given = list(self.outline['size'])
            runs = dict(self.outline, size=given)
            if isinstance(runs['counts'], list):
                if sum(runs['counts']) != given[0] * given[1]:
                    raise ValueError(f'{sum(runs["counts"])} pixels of {given[0]}x{given[1]}')
                runs = coco.frPyObjects(runs, *given)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DataError(f'{self.place} has run lengths that cannot be decoded ({error}); correct or remove it') from None
        if given != [height, width]:
            raise DataError(f'{self.place} is a mask of height and width {given}, its image {[height, width]}; correct or '
                            'remove it')
        return runs


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and the regions in it.

    Args:
        name: path of the image relative to the image folder, without suffix.
        size: height and width in pixels.
        regions: regions in the order of the file.
        empty: number of annotations that were left out because their polygons have fewer than three points.
    """
    name: str
    size: tuple[int, int]
    regions: list[Region] = field(default_factory=list)
    empty: int = 0


def rasterize(image: AnnotatedImage, indices: Mapping[str, int], background: int, by_area: bool,
              crowd_counts: bool) -> np.ndarray:
    """Draw the regions of an image, one over another.

    Args:
        image: image with its regions.
        indices: value to write for each class name: a class index, or 255 to ignore the class.
        background: value of pixels without a region.
        by_area: whether smaller regions are drawn over larger ones; otherwise later ones are drawn over earlier ones. Crowds
            are drawn below all other regions.
        crowd_counts: whether crowds count as their class; otherwise they are ignored.

    Returns:
        Label map, uint8 (height, width).

    Raises:
        DataError: a mask is invalid.
    """
    coco = coco_masks()
    labels = np.full(image.size, background, np.uint8)
    drawn = [(region, region.run_lengths(*image.size)) for region in image.regions]
    drawn.sort(key=lambda pair: (not pair[0].crowd, -int(coco.area(pair[1])) if by_area else 0))
    for region, runs in drawn:
        labels[coco.decode(runs) > 0] = indices[region.name] if crowd_counts or not region.crowd else IGNORE
    return labels


def polygons_of(points: Sequence, place: str) -> list[list[float]]:
    """Check polygons given as lists x, y, x, y, ..., and leave out those with fewer than three points, which cover nothing.

    Raises:
        DataError: a polygon is not a list of pairs of finite numbers.
    """
    for polygon in points:
        if not (isinstance(polygon, Sequence) and len(polygon) % 2 == 0 and all(map(is_number, polygon))):
            raise DataError(f'{place} has a polygon that is not a list of numbers x, y, x, y, ...; correct or remove it')
    return [[float(value) for value in polygon] for polygon in points if len(polygon) >= MIN_COORDINATES]


def is_number(value: object) -> bool:
    """Whether a value from a JSON file is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def coco_masks() -> Any:
    """Import the module ``pycocotools.mask``.

    Raises:
        InstallationError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise InstallationError("pycocotools is not installed, but polygons need it; run: pip install "
                                "'repvgg_seg[labels]'") from None
    return mask
