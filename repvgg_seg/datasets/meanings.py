"""The meaning of the values or colors in label files, given in a config as ``label_values`` or ``label_colors``."""
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import UserError, some
from ..core.labels import IGNORE

Color = tuple[int, int, int]  # Red, green, blue, 0 to 255.
Meanings = Mapping[Any, str | None]  # Value or color -> class name, or None for ignored.


def check_meanings(values: Meanings | None, colors: Meanings | None, tolerance: int) -> None:
    """Check the arguments ``label_values``, ``label_colors`` and ``label_tolerance`` of a dataset.

    Raises:
        UserError: both mappings are given, or something is not an 8-bit value, color or tolerance.
    """
    if values and colors:
        raise UserError('label_values and label_colors are both given; labels have either values or colors: give one of them')
    if wrong := [value for value in values or () if not is_byte(value)]:
        raise UserError(f'label_values has the keys {some(map(repr, wrong))}; expected values of label files, 0 to 255')
    if strange := [color for color in colors or () if not is_color(color)]:
        raise UserError(f'label_colors has the keys {some(map(repr, strange))}; expected colors (red, green, blue), each 0 to '
                        '255')
    if not is_byte(tolerance):
        raise UserError(f'label_tolerance is {tolerance!r}; expected a difference of values, 0 to 255')


def meant_by(meanings: Meanings, classes: Sequence[str], owner: str) -> dict[Any, int]:
    """Map each value or color to the index of its class, or to 255 for ignored.

    Args:
        meanings: value or color -> class name, or None for ignored.
        classes: names of the classes.
        owner: what the classes belong to, for messages.

    Raises:
        UserError: a name is not among the classes, or a class has no value or color.
    """
    named = {name for name in meanings.values() if name is not None}
    if unknown := sorted(named - set(classes)):
        raise UserError(f'the labels of {owner} mean {some(unknown)}, which is not among its classes {some(classes)}; add it '
                        'to metainfo, or write None for what is ignored')
    if absent := [name for name in classes if name not in named]:
        raise UserError(f'no value or color in the labels of {owner} means {some(absent)}; add one, or remove the class from '
                        'metainfo')
    found = {raw: IGNORE if name is None else list(classes).index(name) for raw, name in meanings.items()}
    if not any(isinstance(raw, tuple) for raw in found):
        found.setdefault(IGNORE, IGNORE)
    return found


def is_byte(value: object) -> bool:
    """Whether something is an integer from 0 to 255."""
    return type(value) is int and 0 <= value <= 255


def is_color(value: object) -> bool:
    """Whether something is a color, as defined by :data:`Color`."""
    return isinstance(value, tuple) and len(value) == 3 and all(map(is_byte, value))
