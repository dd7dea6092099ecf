"""Changing test pipelines."""
from collections.abc import Sequence

from mmengine.config import ConfigDict

from ..errors import UserError

LOADERS_OF_LABELS = ('LoadLabels', 'LoadAnnotations')
SIZES = {'Resize': 'scale', 'ResizeEdge': 'scale', 'CenterCrop': 'crop_size'}  # Steps, and their arguments in pixels.


def unscoped(step: dict) -> str:
    """Type of a step without the registry's scope."""
    return step['type'].rpartition('.')[2]


def without_labels(pipeline: list) -> list:
    """A test pipeline, also one of test-time augmentation, without the step that reads labels."""
    kept = []
    for step in pipeline:
        if unscoped(step) in LOADERS_OF_LABELS:
            continue
        if step['type'] == 'TestTimeAug':
            step = ConfigDict(step, transforms=[branch for branches in step['transforms']
                                                if (branch := without_labels(branches))])
        kept.append(step)
    return kept


def set_size(pipeline: Sequence[dict], size: int) -> None:
    """Make a test pipeline give square images of another size, the proportions of its resizing and cropping kept.

    Raises:
        UserError: it has no step that determines the size.
    """
    steps = [(step, SIZES[unscoped(step)]) for step in pipeline if unscoped(step) in SIZES]
    if not steps or any(not isinstance(step[key], int) for step, key in steps):
        raise UserError(f'--size needs a test pipeline with {", ".join(SIZES)} to a single number, got '
                        f'{", ".join(step["type"] for step in pipeline)}')
    last, key = steps[-1]
    factor = size / last[key]
    for step, key in steps:
        step[key] = round(step[key] * factor)
