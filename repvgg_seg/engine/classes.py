"""Compare the class names that a model was trained with to those that it is used with."""
from collections.abc import Mapping, Sequence

from ..core.errors import UserError, some

CONFIG = 'give the config that it was trained with'


def trained_classes(meta: Mapping) -> tuple[str, ...]:
    """Class names in the ``meta`` of a checkpoint; empty if it has none, as in files of other programs."""
    dataset = meta.get('dataset_meta')
    # Before version 1.0, MMSegmentation and MMClassification stored them at the top level of meta.
    classes = dataset.get('classes') if isinstance(dataset, Mapping) else meta.get('CLASSES')
    return tuple(classes) if isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes) else ()


def check_same_classes(first: str, trained: Sequence[str], second: str, used: Sequence[str], remedy: str = CONFIG) -> None:
    """Check that two lists of classes have exactly the same names in the same order.

    Args:
        first: description of the source of the first list, for messages.
        trained: first list of class names; empty if unknown.
        second: description of the source of the second list.
        used: second list of class names; empty if unknown.
        remedy: advice for the user in the error message.

    Raises:
        UserError: the lists differ.
    """
    if trained and used and (difference := difference_of_classes(trained, used)):
        raise UserError(f'{first} and {second} have {difference}; {remedy}')


def difference_of_classes(first: Sequence[str], second: Sequence[str]) -> str:
    """Describe how two lists of classes differ; empty if they are equal."""
    alone = [(place, some(map(repr, (name for name in names if name not in others))))
             for place, names, others in (('first', first, second), ('second', second, first))]
    if parts := [f'{names} only in the {place}' for place, names in alone if names]:
        return f'different classes: {", ".join(parts)}'
    moved = [f'class {index} is {one!r} in the first and {other!r} in the second'
             for index, (one, other) in enumerate(zip(first, second)) if one != other]
    if moved or len(first) != len(second):
        return f'their classes in different orders: {some(moved) or f"{len(first)} and {len(second)} of them"}'
    return ''
