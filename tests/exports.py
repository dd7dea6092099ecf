"""What exported segmentors are compared with."""
import numpy as np
import pytest
from torch import nn

from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.deploy.formats import native_precisions

# Float precisions in which exports can be checked here: CPUs without AVX-512 BF16 or AMX have no bf16.
FLOATS = tuple(name for name in ('fp32', 'bf16') if name in native_precisions())


def expected_labels(trained: nn.Module, image: np.ndarray) -> np.ndarray:
    """Class indices by the trained model in PyTorch, of an RGB image."""
    return logits_of(trained, as_batch(trained, image[..., ::-1]))[0].argmax(0).numpy()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def skip_without(*packages: str) -> None:
    """Skip a test, or a module of tests, where a package of the extra [export] is missing."""
    for package in packages:
        pytest.importorskip(package, reason='needs the extra [export]')
