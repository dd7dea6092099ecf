"""Finding the datasets inside wrappers of MMEngine and MMSegmentation."""
from collections.abc import Iterator
from typing import Any

from mmengine.dataset import BaseDataset


def leaves(dataset: Any) -> list[BaseDataset]:
    """Find the datasets that read files, inside any nesting of wrappers that concatenate, repeat, balance or mix.

    Args:
        dataset: MMEngine dataset, or a wrapper around some.
    """
    inside = getattr(dataset, 'datasets', None) or [inner for inner in [getattr(dataset, 'dataset', None)] if inner is not None]
    return [leaf for inner in inside for leaf in leaves(inner)] if inside else [dataset]


def files_of_dataset(dataset: Any) -> Iterator[str]:
    """Iterate over the images, labels and image lists of a dataset; ``dataset`` as in :func:`leaves`."""
    for leaf in leaves(dataset):
        if leaf.ann_file:
            yield leaf.ann_file
        for index in range(len(leaf)):
            info = leaf.get_data_info(index)
            yield from (info[key] for key in ('img_path', 'seg_map_path') if info.get(key))


def images_of_dataset(dataset: Any) -> list[str]:
    """List the images of a dataset without duplicates; ``dataset`` as in :func:`leaves`."""
    return list(dict.fromkeys(leaf.get_data_info(index)['img_path'] for leaf in leaves(dataset) for index in range(len(leaf))))
