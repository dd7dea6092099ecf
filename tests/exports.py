"""What exported segmentors are compared with."""
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.deploy.formats import native_precisions

# Float precisions in which exports can be checked here: CPUs without AVX-512 BF16 or AMX have no bf16.
FLOATS = tuple(name for name in ('fp32', 'bf16') if name in native_precisions())

# Of ONNX files of PSPNets; those for any size have some more.
OPERATORS = {'Add', 'ArgMax', 'Cast', 'Concat', 'Conv', 'Div', 'MatMul', 'ReduceMean', 'Relu', 'Reshape', 'Resize', 'Sub',
             'Transpose'}


def expected_labels(trained: nn.Module, image: np.ndarray) -> np.ndarray:
    """Class indices by the trained model in PyTorch, of an RGB image."""
    return logits_of(trained, as_batch(trained, image[..., ::-1]))[0].argmax(0).numpy()


def labels_without(blocked: Iterable[str], exported: Path, image: np.ndarray, folder: Path) -> np.ndarray:
    """Class indices of an image by an exported file, in a process that can import none of these modules."""
    np.save(folder / 'image.npy', image)
    code = (f'import sys; sys.modules.update(dict.fromkeys({[*blocked]})); import numpy as np; '
            'from repvgg_seg.runtime.predictor import load; '
            f'image = np.load({str(folder / "image.npy")!r}); '
            f'np.save({str(folder / "labels.npy")!r}, load({str(exported)!r}, threads=1)(image))')
    subprocess.run([sys.executable, '-c', code], check=True, timeout=600)
    return np.load(folder / 'labels.npy')


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise, uint8 (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def skip_without(*packages: str) -> None:
    """Skip a test, or a module of tests, where a package of the extra [export] is missing."""
    for package in packages:
        pytest.importorskip(package, reason='needs the extra [export]')
