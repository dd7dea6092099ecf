"""Changing test pipelines."""
from collections.abc import Sequence

from ..config_types import type_name
from ..errors import UserError

SIZES = {'Resize': 'scale', 'ResizeEdge': 'scale', 'CenterCrop': 'crop_size'}  # Steps, and their arguments in pixels.


def set_size(pipeline: Sequence[dict], size: int) -> None:
    """Make a test pipeline give square images of another size, the proportions of its resizing and cropping kept.

    Raises:
        UserError: it has no step that determines the size.
    """
    steps = [(step, SIZES[type_name(step)]) for step in pipeline if type_name(step) in SIZES]
    if not steps or any(not isinstance(step[key], int) for step, key in steps):
        raise UserError(f'--size needs a test pipeline with {", ".join(SIZES)} to a single number, got '
                        f'{", ".join(map(type_name, pipeline))}')
    last, key = steps[-1]
    factor = size / last[key]
    for step, key in steps:
        step[key] = round(step[key] * factor)
