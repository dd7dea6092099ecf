"""What 8 bits cost a classifier: the comparison of RepVGG with QARepVGG (arXiv:2212.01593)."""
import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from rich.progress import track
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from ..engine.trained_model import build_trained
from .formats import FORMATS, ExportRequest, check_request
from .fusing import fuse_for_inference
from .graph import OPSET
from .quantization import Quantize, split_identities
from .sample_images import spread

CALIBRATION_IMAGES = 256


# Name in tables -> format, and whether the diagonal of the fused kernels is left out, see SplitIdentity. All convolutions are
# in 8 bits, weights per channel, inputs per tensor.
METHODS = {f'{runtime}{", identity apart" if apart else ""}': (FORMATS[name], apart)
           for runtime, name in (('ONNX Runtime', 'onnx'), ('OpenVINO', 'openvino')) for apart in (False, True)}


def check_installed() -> None:
    """Check that everything that ``METHODS`` need is installed.

    Raises:
        InstallationError: it is not.
    """
    check_request(ExportRequest(formats=('onnx', 'openvino'), precisions=('int8', )))


class ClassifierGraph(nn.Module):
    """A fused classifier with its normalisation before it.

    Args:
        classifier: a fused ``ImageClassifier`` of MMPretrain.
    """

    def __init__(self, classifier: BaseModel) -> None:
        super().__init__()
        self.preprocessor = classifier.data_preprocessor
        self.backbone, self.neck, self.head = classifier.backbone, classifier.neck, classifier.head

    def forward(self, images: Tensor) -> Tensor:
        """Images, uint8 BGR (N, H, W, 3) -> logits, float32 (N, C)."""
        pixels = images.permute(0, 3, 1, 2).float()
        if self.preprocessor.to_rgb:
            pixels = pixels.flip(1)
        return self.head(self.neck(self.backbone((pixels - self.preprocessor.mean) / self.preprocessor.std)))


@torch.no_grad()
def int8_accuracies(config: Config, checkpoint: str) -> dict[str, float]:
    """Quantise a trained classifier in every way of ``METHODS``.

    Args:
        config: the whole config. Its training set calibrates, as the test pipeline gives it; its test set is evaluated.
        checkpoint: its training checkpoint.

    Returns:
        Top-1 accuracy in per cent of the fused model in float32 (``fp32``), and by each method.
    """
    fused = fuse_for_inference(build_trained(config, checkpoint)[0])
    images, labels = read(config, config.test_dataloader.dataset)
    calibration, _ = read(config, dict(config.train_dataloader.dataset, pipeline=config.test_dataloader.dataset.pipeline),
                          CALIBRATION_IMAGES)
    graph = ClassifierGraph(fused).eval()
    found = {'fp32': top1(lambda batch: graph(torch.from_numpy(batch)).numpy(), images, labels, 'fp32')}
    with tempfile.TemporaryDirectory() as folder:
        for name, (entry, apart) in METHODS.items():
            source, target = Path(folder, 'source.onnx'), Path(folder, f'int8{entry.suffix}')
            model = ClassifierGraph(split_identities(fused) if apart else fused).eval()
            example = torch.from_numpy(np.stack(calibration[:2]))
            program = torch.onnx.export(model, (example, ), dynamo=True, opset_version=OPSET, verbose=False,
                                        input_names=['images'], dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, ))
            cast(ONNXProgram, program).save(source)
            cast(Quantize, entry.quantize)(source, target, calibration, [])
            found[name] = top1(runner_of(target), images, labels, name)
    return found


def read(config: Config, dataset: dict, count: int | None = None) -> tuple[list[np.ndarray], np.ndarray]:
    """Images, uint8 BGR (H, W, 3), and labels of a data set of the config; at most ``count``, at equal distances."""
    settings = dict(copy.deepcopy(config.test_dataloader), dataset=dataset, num_workers=0, persistent_workers=False)
    samples = Runner.build_dataloader(settings).dataset
    chosen = [samples[index] for index in (range(len(samples)) if count is None else spread(range(len(samples)), count))]
    return ([sample['inputs'].permute(1, 2, 0).contiguous().numpy() for sample in chosen],
            np.array([int(sample['data_samples'].gt_label) for sample in chosen]))


def runner_of(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What computes logits (N, C) of images (N, H, W, 3) by a file."""
    if path.suffix == '.xml':
        import openvino
        compiled = openvino.compile_model(path)
        return lambda batch: compiled(batch)[0]
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return lambda batch: session.run(None, {'images': batch})[0]


def top1(logits_of: Callable[[np.ndarray], np.ndarray], images: list[np.ndarray], labels: np.ndarray, name: str) -> float:
    """Accuracy in per cent."""
    step = 100
    batches = track(range(0, len(images), step), description=f'Evaluating {name}')
    classes = [logits_of(np.stack(images[start:start + step])).argmax(1) for start in batches]
    return 100 * float((np.concatenate(classes) == labels).mean())
