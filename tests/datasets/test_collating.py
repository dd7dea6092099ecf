"""Labels travel from the workers of a loader without shared memory of their own."""
import pickle
from io import BytesIO
from multiprocessing.reduction import ForkingPickler

import torch
from mmpretrain.structures import DataSample
from torch import Tensor

from repvgg_seg.datasets.collating import SampleList, collate_samples


def sample(label: int) -> dict:
    data = DataSample(metainfo=dict(img_path=f'{label}.png', num_classes=9)).set_gt_label(label)
    data.set_gt_score(torch.eye(9)[label])
    return dict(inputs=torch.full((3, 2, 2), label, dtype=torch.uint8), data_samples=data)


def test_samples_arrive_as_they_were(monkeypatch):
    batch = collate_samples([sample(3), sample(8)])
    assert batch['inputs'].shape == (2, 3, 2, 2) and type(batch['data_samples']) is SampleList
    sent = BytesIO()
    shared = []
    monkeypatch.setitem(ForkingPickler._extra_reducers, Tensor, lambda tensor: shared.append(tensor) or (int, ()))
    ForkingPickler(sent, pickle.HIGHEST_PROTOCOL).dump(batch['data_samples'])
    assert not shared
    for before, after in zip(batch['data_samples'], pickle.loads(sent.getvalue()), strict=True):
        assert type(after) is DataSample and after.metainfo == before.metainfo and after.keys() == before.keys()
        assert torch.equal(after.gt_label, before.gt_label) and torch.equal(after.gt_score, before.gt_score)
