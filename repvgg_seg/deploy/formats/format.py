"""What a file format and a precision are."""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from ...core.tasks import CLASSIFICATION, SEGMENTATION
from ...runtime.backend import Run
from ...runtime.backends import load_file
from ...runtime.devices import CHANGED_LIMITS
from ...runtime.report import PIXELS
from ..programs import Exporter, Program
from ..quantization import Quantize

if TYPE_CHECKING:
    from ..plan import DeployPlan


@dataclass(frozen=True)
class Precision:
    """Numeric precision of the convolutions.

    Args:
        dtype: dtype of an exported program.
        logit_limit: largest allowed difference of the logits from the trained model, relative to the largest logit.
        changed_limit: largest allowed share of pixels whose class changes.
    """
    dtype: torch.dtype
    logit_limit: float
    changed_limit: float


PRECISIONS = {
    'fp32': Precision(torch.float32, 1e-3, CHANGED_LIMITS['fp32']),
    'fp16': Precision(torch.float16, 0.02, CHANGED_LIMITS['fp16']),
    'bf16': Precision(torch.bfloat16, 0.1, CHANGED_LIMITS['bf16']),
    'int8': Precision(torch.int8, 0.5, CHANGED_LIMITS['int8']),
}


class Export(Protocol):
    """Function that exports to a format in floating point, using a folder for temporary files; see
    :func:`repvgg_seg.deploy.formats.pt2.export`."""

    def __call__(self, exporter: Exporter, precision: str, folder: Path) -> Program: ...


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        suffix: file name suffix.
        precisions: precisions that the format supports.
        export: function that exports in floating point; None if the format is not an exported program.
        packages: packages that ``export`` needs.
        extra: extra of this package that installs all packages of the format.
        quantize: function that exports in int8, see :class:`repvgg_seg.deploy.quantization.Quantizer`.
        quantize_packages: packages that ``quantize`` needs in addition.
        any_size: whether the format supports images of any height and width.
        batches: whether files of the format can take several images at once.
        undilate: whether models in the format run faster without dilated convolutions.
        dtypes: dtypes of pixels that files of the format can take.
        tasks: tasks whose models can be written in the format.
        portable: precisions in which a file can be checked on CPUs that do not compute in them, because it is computed in
            float32 there.
        abstains: whether files of the format can contain the thresholds of ``abstain``.
        beside: function that returns the files that are written beside those of the format, by name; None if there are none.
        names_beside: names of these files.
        reference: function that loads a file of the format to be checked, like :func:`repvgg_seg.runtime.backends.load_file`,
            on the systems that do not run it; None if all do.
    """
    suffix: str
    precisions: tuple[str, ...]
    export: Export | None
    packages: tuple[str, ...] = ()
    extra: str | None = None
    quantize: Quantize | None = None
    quantize_packages: tuple[str, ...] = ()
    any_size: bool = True
    batches: bool = True
    undilate: bool = False
    dtypes: tuple[str, ...] = PIXELS
    tasks: tuple[str, ...] = (SEGMENTATION, CLASSIFICATION)
    abstains: bool = False
    portable: tuple[str, ...] = ()
    beside: 'Callable[[DeployPlan], dict[str, bytes]] | None' = None
    names_beside: tuple[str, ...] = ()
    reference: Callable[[Path], Run] | None = None

    def load(self, path: Path, precision: str) -> Run:
        """Load a file of the format, to be checked; see :func:`repvgg_seg.runtime.backends.load_file`."""
        return self.reference(path) if self.reference else load_file(path, precision)
