"""The records of written files."""
from dataclasses import dataclass

from .abstention import Certificate


@dataclass
class Artifact:
    """An exported file and the results of its checks."""
    format: str
    precision: str
    size: tuple[int, int] | None
    output: str
    logit_difference: float
    changed: float
    miou: float | None  # mIoU of a segmentor on the test set, in percent; None if it was not evaluated.
    undilated: bool
    higher_precision: list[str]  # Convolutions of an int8 file that are not quantized to 8 bits.
    bytes: int
    sha256: str
    accuracy: float | None = None  # Top-1 accuracy of a classifier on the test set, in percent; None if it was not evaluated.
    abstention: Certificate | None = None  # Thresholds below which pixels are unknown, and what is known about them.
    batch: int | None = None  # Number of images that the file takes at once; None for any number.
    opset: int | None = None  # Of an ONNX file.
    changed_on_test_set: float | None = None  # As ``changed``, of all images of the test set; None if it was not evaluated.
