"""What a type checker makes of code that uses the package; ``make lint`` checks this file too."""
import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import assert_type

from repvgg_seg.deploy import fuse
from repvgg_seg.models import RepVGG
from repvgg_seg.runtime.predictor import Predictor


def test_a_fused_model_has_the_type_of_the_model() -> None:
    model = RepVGG('A0')
    assert_type(fuse(model), RepVGG)
    assert_type(fuse(nn.Sequential(model)), nn.Sequential)
    assert_type(model.eval().switch_to_deploy(), RepVGG)


def test_feature_maps_and_labels() -> None:
    def labels(predictor: Predictor, image: np.ndarray) -> None:
        assert_type(predictor(image), np.ndarray)
        assert_type(predictor([image]), list[np.ndarray])

    assert_type(RepVGG('A0').eval().forward(torch.zeros(1, 3, 32, 32)), tuple[Tensor, ...])
