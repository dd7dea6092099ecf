"""The tasks of models, and the one function that determines the task of a model."""
from collections.abc import Mapping

SEGMENTATION, CLASSIFICATION = 'segmentation', 'classification'
MODEL_KINDS = {SEGMENTATION: 'segmentor', CLASSIFICATION: 'classifier'}  # How messages refer to a model.


def task_of(model: object) -> str:
    """Determine the task of a model: a segmentor has a ``decode_head``, a classifier does not.

    Args:
        model: a model, or the ``model`` dict of a config.

    Returns:
        ``SEGMENTATION`` or ``CLASSIFICATION``.
    """
    segments = 'decode_head' in model if isinstance(model, Mapping) else hasattr(model, 'decode_head')
    return SEGMENTATION if segments else CLASSIFICATION
