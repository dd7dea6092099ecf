"""Change test pipelines."""
from collections.abc import Sequence

from ..core.config_types import type_name
from ..core.errors import UserError

SIZES = {'Resize': 'scale', 'ResizeEdge': 'scale', 'CenterCrop': 'crop_size'}  # Steps -> their arguments in pixels.


def set_size(pipeline: Sequence[dict], size: int) -> None:
    """Change a test pipeline to return square images of another size, with the same proportions of resizing and cropping.

    Raises:
        UserError: the pipeline has no step that determines the size.
    """
    steps = [(step, SIZES[type_name(step)]) for step in pipeline if type_name(step) in SIZES]
    if not steps or any(not isinstance(step[key], int) for step, key in steps):
        raise UserError(f'--size needs a test pipeline with {", ".join(SIZES)} to a single number, got '
                        f'{", ".join(map(type_name, pipeline))}')
    last, key = steps[-1]
    factor = size / last[key]
    for step, key in steps:
        step[key] = round(step[key] * factor)


def without_normalize(pipeline: Sequence) -> tuple[list, list[dict]]:
    """Separate the ``Normalize`` steps from a test pipeline.

    Args:
        pipeline: steps as in a config.

    Returns:
        The pipeline without MMCV's ``Normalize`` steps, and these steps.

    Raises:
        UserError: a ``Normalize`` step is followed by steps other than packing, so omitting it changes more than the scale.
    """
    names = [type_name(step) if isinstance(step, dict) else type(step).__name__ for step in pipeline]
    if 'Normalize' not in names:
        return list(pipeline), []
    after = names[names.index('Normalize'):]
    if others := [name for name in after if name != 'Normalize' and not name.startswith(('Pack', 'Load'))]:
        raise UserError(f'Normalize is followed by {", ".join(others)} in the test pipeline, but exported files normalize '
                        'after everything else; move Normalize behind them, or use mean and std of model.data_preprocessor')
    return ([step for step, name in zip(pipeline, names) if name != 'Normalize'],
            [step for step, name in zip(pipeline, names) if name == 'Normalize'])
