"""Datasets inside the wrappers of MMEngine and MMSegmentation."""
from typing import Any

from mmengine.dataset import BaseDataset


def leaves(dataset: Any) -> list[BaseDataset]:
    """The datasets that read files, inside any number of wrappers that concatenate, repeat, balance or mix.

    Args:
        dataset: of MMEngine, or a wrapper of some.
    """
    inside = getattr(dataset, 'datasets', None) or [inner for inner in [getattr(dataset, 'dataset', None)] if inner is not None]
    return [leaf for inner in inside for leaf in leaves(inner)] if inside else [dataset]
