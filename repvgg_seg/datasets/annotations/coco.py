"""Annotations in COCO's format: one JSON file of images, annotations and categories (https://cocodataset.org/#format-data)."""
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.errors import DataError, some
from .regions import AnnotatedImage, Region, polygons_of

KEYS = ('images', 'annotations', 'categories')


def is_coco(content: object) -> bool:
    """Whether the content of a JSON file looks like COCO's format."""
    return isinstance(content, Mapping) and all(isinstance(content.get(key), list) for key in KEYS)


def read_coco(content: Mapping[str, Any], path: Path) -> tuple[list[AnnotatedImage], list[str]]:
    """Read the annotations of a file.

    Args:
        content: content of the file, see :func:`is_coco`.
        path: path of the file, for messages.

    Returns:
        The images in the order of the file, and the names of the categories in the order of their ids, without groups of
        other categories that have no annotations.

    Raises:
        DataError: something is missing or inconsistent.
    """
    categories = sorted((entry(each, path, 'category', id=int, name=str) for each in content['categories']),
                        key=lambda category: category['id'])
    names = {category['id']: category['name'] for category in categories}
    images = {}
    for image in (entry(each, path, 'image', id=int, file_name=str, height=int, width=int) for each in content['images']):
        name = os.path.splitext(image['file_name'].replace('\\', '/'))[0]
        if image['id'] in images:
            raise DataError(f'{path} has two images of the id {image["id"]}; give each its own')
        images[image['id']] = AnnotatedImage(name, (image['height'], image['width']))
    empty: Counter[int] = Counter()
    for annotation in content['annotations']:
        entry(annotation, path, 'annotation', id=int, image_id=int, category_id=int)
        place = f'annotation {annotation["id"]} of {path}'
        if annotation['image_id'] not in images:
            raise DataError(f'{place} is for the image {annotation["image_id"]}, which the file does not have; correct or '
                            'remove it')
        if annotation['category_id'] not in names:
            raise DataError(f'{place} has the category_id {annotation["category_id"]}, the file has the ids {some(names)}; '
                            'correct or remove it')
        outline = outline_of(annotation, place)
        if outline:
            region = Region(names[annotation['category_id']], outline, bool(annotation.get('iscrowd')), place)
            images[annotation['image_id']].regions.append(region)
        else:
            empty[annotation['image_id']] += 1
    used = {annotation['category_id'] for annotation in content['annotations']}
    # Roboflow adds a category for the group of all others, of which there are no annotations.
    groups = {category.get('supercategory') for category in categories if category.get('supercategory') != category['name']}
    return ([replace(image, empty=empty[key]) for key, image in images.items()],
            [name for key, name in names.items() if key in used or name not in groups])


def outline_of(annotation: Mapping[str, Any], place: str) -> Any:
    """The polygons or run lengths of an annotation.

    Raises:
        DataError: the annotation has neither.
    """
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, Mapping) and isinstance(segmentation.get('counts'), list | str):
        return segmentation
    if isinstance(segmentation, list) and segmentation:
        return polygons_of(segmentation, place)
    raise DataError(f'{place} has no segmentation{", only a box" if annotation.get("bbox") else ""}; segmentation needs '
                    'polygons or masks, which most annotation tools export as "COCO instance segmentation"')


def entry(found: Any, path: Path, kind: str, **fields: type) -> Mapping[str, Any]:
    """Check the fields of an entry of one of the lists in a file, and return the entry.

    Raises:
        DataError: a field is missing or has a different type.
    """
    if not isinstance(found, Mapping) or (wrong := [key for key, of in fields.items() if not isinstance(found.get(key), of)]):
        lacking = f' without {some(wrong)}' if isinstance(found, Mapping) else ''
        raise DataError(f'{path} has {"an" if kind[0] in "ai" else "a"} {kind}{lacking}: {str(found)[:80]}; expected '
                        f'{", ".join(f"{key} ({of.__name__})" for key, of in fields.items())}')
    return found
