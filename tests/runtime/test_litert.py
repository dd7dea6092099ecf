"""How LiteRT is used, with a stand-in for its interpreter; tests/commands/test_export_kinds.py runs the package where it is
installed."""
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from repvgg_seg.runtime import litert
from repvgg_seg.runtime.backend import Setting


class Interpreter:
    """One whose label of a pixel is half of its first channel, for images of 4x6 pixels, one at a time."""

    def __init__(self, path: str, num_threads: int | None) -> None:
        self.arguments, self.tensors = (path, num_threads), None

    def allocate_tensors(self) -> None:
        self.tensors = {}

    def get_input_details(self) -> list[dict]:
        return [dict(index=3)]

    def get_output_details(self) -> list[dict]:
        return [dict(index=7)]

    def set_tensor(self, index: int, images: np.ndarray) -> None:
        assert images.shape == (1, 4, 6, 3)
        self.tensors[index] = images

    def invoke(self) -> None:
        self.tensors[7] = self.tensors[3][..., 0] // 2

    def get_tensor(self, index: int) -> np.ndarray:
        return self.tensors[index]


@pytest.mark.parametrize('threads', [None, 3])
def test_images_go_through_one_at_a_time(monkeypatch, tmp_path, threads):
    made = []

    def interpreter(*arguments, **keywords) -> Interpreter:
        made.append(Interpreter(*arguments, **keywords))
        return made[-1]

    monkeypatch.setitem(sys.modules, 'ai_edge_litert.interpreter', SimpleNamespace(Interpreter=interpreter))
    run = litert.load(ModuleType('ai_edge_litert'), tmp_path / 'model.tflite', 'fp32', Setting(threads=threads))
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), np.uint8)
    np.testing.assert_array_equal(run(images), images[..., 0] // 2)
    assert [each.arguments for each in made] == [(str(tmp_path / 'model.tflite'), threads)]
