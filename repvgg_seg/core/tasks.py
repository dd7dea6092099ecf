"""The tasks that models are for, and the one function that tells which task a model has."""
from collections.abc import Mapping

SEGMENTATION, CLASSIFICATION = 'segmentation', 'classification'
MODEL_KINDS = {SEGMENTATION: 'segmentor', CLASSIFICATION: 'classifier'}  # What messages call a model.


def task_of(model: object) -> str:
    """Which task a model is for: a segmentor has a ``decode_head``, a classifier has none.

    Args:
        model: a model, or the ``model`` of a config.

    Returns:
        ``SEGMENTATION`` or ``CLASSIFICATION``.
    """
    segments = 'decode_head' in model if isinstance(model, Mapping) else hasattr(model, 'decode_head')
    return SEGMENTATION if segments else CLASSIFICATION
