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


def check_for_strict_readers(path: Path, sizes: list[int | str]) -> None:
    """An ONNX file is valid, the shapes of its tensors have no formulas, and 8 bits are used as TensorRT uses them.

    Args:
        path: the file.
        sizes: batch, height and width of the images: numbers, or the names of open axes.
    """
    import onnx
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    given, labels = ([size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
                     for value in (*model.graph.input, *model.graph.output))
    assert (given, labels) == ([*sizes, 3], sizes)
    symbols = {size.dim_param for value in model.graph.value_info for size in value.type.tensor_type.shape.dim}
    assert symbols <= {''}, 'formulas of sizes'
    # TensorRT converts 8 bits to floating point and back, and does nothing else with them.
    readers = [node for node in model.graph.node if 'images' in node.input]
    casts = [node for node in model.graph.node if node.output[0] in [*model.graph.node[-1].input, 'labels']]
    assert readers == [model.graph.node[0]] and readers[0].op_type == 'Cast'
    assert [node.op_type for node in casts] == ['Cast', 'Cast']
    assert [onnx.helper.get_node_attr_value(node, 'to') for node in (*readers, *casts)] == [
        onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8]
    assert str(Path(__file__).parents[1]).encode() not in path.read_bytes(), 'where the source files are'
