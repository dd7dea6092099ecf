"""Comparing the names of the classes that a model was trained for with those that it is used for."""
from collections.abc import Mapping, Sequence

from ..core.errors import UserError, some

CONFIG = 'give the config that it was trained with'


def trained_classes(meta: Mapping) -> tuple[str, ...]:
    """The classes that the ``meta`` of a checkpoint names; none where it does not, as in files of other programs."""
    dataset = meta.get('dataset_meta')
    # MMSegmentation and MMClassification before 1.0 had them beside everything else.
    classes = dataset.get('classes') if isinstance(dataset, Mapping) else meta.get('CLASSES')
    return tuple(classes) if isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes) else ()


def check_same_classes(first: str, trained: Sequence[str], second: str, used: Sequence[str], remedy: str = CONFIG) -> None:
    """Compare two lists of classes, letter by letter and in their order.

    Args:
        first: what has the first list, for messages.
        trained: that list, or nothing where it is unknown.
        second: what has the second one.
        used: that one, or nothing where it is unknown.
        remedy: what to do.

    Raises:
        UserError: they differ.
    """
    if trained and used and (difference := difference_of_classes(trained, used)):
        raise UserError(f'{first} and {second} have {difference}; {remedy}')


def difference_of_classes(first: Sequence[str], second: Sequence[str]) -> str:
    """How two lists of classes differ; empty if they do not."""
    alone = [(place, some(map(repr, (name for name in names if name not in others))))
             for place, names, others in (('first', first, second), ('second', second, first))]
    if parts := [f'{names} only in the {place}' for place, names in alone if names]:
        return f'different classes: {", ".join(parts)}'
    moved = [f'class {index} is {one!r} in the first and {other!r} in the second'
             for index, (one, other) in enumerate(zip(first, second)) if one != other]
    if moved or len(first) != len(second):
        return f'their classes in different orders: {some(moved) or f"{len(first)} and {len(second)} of them"}'
    return ''
