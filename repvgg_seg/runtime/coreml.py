"""Core ML packages (.mlpackage), which are folders. Only Apple's systems run them."""
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np

from .backend import Backend, Run, Setting
from .protobuf_metadata import CORE_ML

SUFFIX = '.mlpackage'
SPECIFICATION = 'Data/com.apple.CoreML/model.mlmodel'  # The file of a package that describes the network.


def load(coremltools: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a package for images of one size; see :class:`repvgg_seg.runtime.backend.Backend`."""
    model = coremltools.models.MLModel(str(path), compute_units=coremltools.ComputeUnit.CPU_ONLY)
    from_array = importlib.import_module('PIL.Image').fromarray
    output = model.get_spec().description.output[0].name
    dtype = np.uint8 if output == 'labels' else np.float32

    def run(images: np.ndarray) -> np.ndarray:
        return np.concatenate([model.predict({'images': from_array(image)})[output] for image in images]).astype(dtype)

    return run


def describe(path: Path, description: str) -> None:
    """Write the description of a package into it."""
    CORE_ML.write(path / SPECIFICATION, description)


def description(path: Path) -> str | None:
    """Read the description of a package."""
    return CORE_ML.read(path / SPECIFICATION)


BACKEND = Backend('Core ML', 'coremltools', 'coremltools', load, system='darwin', describe=describe,
                  description=description)
