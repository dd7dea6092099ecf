"""Accuracy of quantized classifiers, for the comparison of RepVGG with QARepVGG (arXiv:2212.01593)."""
import tempfile
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config

from ..engine.trained_model import build_trained
from ..runtime.backends import load_file
from ..runtime.predictor import Predictor
from .evaluation import Evaluation
from .formats import ExportRequest, check_request
from .fusing import fuse_for_inference
from .identities import split_identities
from .plan import DeployPlan
from .programs import Exporter
from .quantization import Quantizer, quantize_onnx, quantize_openvino
from .sample_images import calibration_images

CALIBRATION_IMAGES = 256
REQUEST = ExportRequest(formats=('onnx', 'openvino'), precisions=('int8', ))
# Maps the name in tables to the file suffix, the quantization function, and whether the identity is separated (see
# SplitIdentity). All convolutions are in 8 bits, with weights quantized per channel and inputs per tensor.
METHODS = {f'{runtime}{", identity separated" if separated else ""}': (suffix, quantize, separated)
           for runtime, suffix, quantize in (('ONNX Runtime', '.onnx', quantize_onnx), ('OpenVINO', '.xml', quantize_openvino))
           for separated in (False, True)}


def check_installed() -> None:
    """Check that all packages that ``METHODS`` need are installed.

    Raises:
        InstallationError: a package is missing.
    """
    check_request(REQUEST)


def int8_accuracies(config: Config, checkpoint: str) -> dict[str, float]:
    """Quantize a trained classifier with each of ``METHODS``, and evaluate the results.

    Args:
        config: full config of the model. Its training set, read through the test pipeline, is used for calibration, and its
            test set for evaluation.
        checkpoint: training checkpoint of the model.

    Returns:
        Top-1 accuracy in percent of the fused model in float32 (``fp32``) and of each method.
    """
    fused, meta = build_trained(config, checkpoint)
    fused = fuse_for_inference(fused)
    images = calibration_images(config, None, CALIBRATION_IMAGES)
    size = images[0].shape[:2]
    plan = replace(DeployPlan.of(config, REQUEST), request=replace(REQUEST, size=size), calibration=images)
    evaluation = Evaluation(config, plan.task)
    info = dict(task=plan.task.name, classes=plan.task.classes(plan.classes, meta, fused), channels=plan.channels, min_size=1)
    found = {'fp32': evaluation.of_model(fused, 'fp32')}
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, quantize, separated) in METHODS.items():
            exporter = Exporter(plan, split_identities(fused, required=False) if separated else fused, size)
            quantizer = Quantizer(exporter, [plan.ordered(picture) for picture in plan.calibration])
            path = Path(folder, f'int8{suffix}')
            quantizer.quantize(quantize, 0, path.parent).save(path)
            predictor = Predictor(load_file(path, 'int8'), info, dict(size=size, output='logits'))
            found[name] = evaluation.of_predictor(predictor, name).metric
    return found
