"""Batches of a classification data loader, in a form that its worker processes can send cheaply."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dataset import default_collate
from mmengine.structures import BaseDataElement

from ..registry import FUNCTIONS


class SampleList(list):
    """Data samples of a batch, whose tensors are sent to another process as arrays.

    PyTorch would move every tensor to shared memory of its own, with a file descriptor that both processes open. For the single
    number of a label, this takes hundreds of times longer than sending it, and many workers use up the file descriptors.
    """

    def __reduce__(self) -> tuple:
        return _restored, ([_plain(sample) for sample in self], )


@FUNCTIONS.register_module()
def collate_samples(batch: Sequence[dict]) -> Any:
    """MMEngine's ``default_collate``, whose list of ``data_samples`` is a :class:`SampleList`."""
    collated = default_collate(batch)
    return {**collated, 'data_samples': SampleList(collated['data_samples'])}


def _plain(sample: BaseDataElement) -> tuple[type, dict, dict]:
    """Class, metainfo and fields of a data sample, with arrays instead of tensors."""
    fields = {name: (value.numpy(), True) if isinstance(value, torch.Tensor) else (value, False)
              for name, value in sample.items()}
    return type(sample), dict(sample.metainfo_items()), fields


def _restored(plain: Sequence[tuple[type, dict, dict]]) -> SampleList:
    """Inverse of :func:`_plain`, for each sample."""
    samples = SampleList()
    for kind, metainfo, fields in plain:
        sample = kind(metainfo=metainfo)
        for name, (value, is_tensor) in fields.items():
            sample.set_field(torch.from_numpy(value) if is_tensor else value, name)
        samples.append(sample)
    return samples
