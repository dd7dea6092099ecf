"""What a report collects of each image during a test."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from repvgg_seg.engine.report.collecting import ImageCounts
from repvgg_seg.engine.report.pictures import LAYERS, picture_name


@pytest.fixture
def sample(tmp_path) -> dict:
    """An image of 4x6 pixels, half of which are predicted as they are labeled, and one is ignored."""
    cv2.imwrite(str(tmp_path / 'street.png'), np.full((4, 6, 3), (200, 100, 0), np.uint8))
    label = torch.tensor([0, 1]).repeat_interleave(12).view(1, 4, 6)
    label[0, 0, 0] = 255
    return dict(img_path=str(tmp_path / 'street.png'), gt_sem_seg=dict(data=label),
                pred_sem_seg=dict(data=torch.zeros(1, 4, 6, dtype=torch.long)))


def test_every_image_has_its_pictures(sample, tmp_path):
    init_default_scope('mmseg')
    (tmp_path / 'images').mkdir()
    counts = ImageCounts(str(tmp_path), dict(type='LoadImageFromFile'))
    counts.dataset_meta = dict(classes=('road', 'sky'), palette=[[10, 20, 30], [40, 50, 60]])
    for _ in range(2):
        counts.process({}, [sample])
    assert counts.results[1]['confusion'].tolist() == [[0, 0, 11], [1, 0, 12]]  # Class, predicted, pixels.
    for number in range(2):
        shown = {layer: np.asarray(Image.open(tmp_path / picture_name(number, layer)).convert('RGB')) for layer in LAYERS}
        assert {picture.shape for picture in shown.values()} == {(4, 6, 3)}
        assert shown['image'][2, 2].tolist() == pytest.approx([0, 100, 200], abs=4)  # A JPEG.
        assert shown['label'][3, 0].tolist() == [40, 50, 60] and shown['prediction'][3, 0].tolist() == [10, 20, 30]
