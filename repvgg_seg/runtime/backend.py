"""What a runtime for exported files is."""
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Backend:
    """A runtime that one kind of exported file is loaded into.

    Args:
        title: its name in tables.
        module: its Python module, which is imported when a file is loaded.
        package: the package that pip installs it from.
        load: function of the module, a path, a precision, and a number of CPU threads (None to let the runtime decide) that
            returns a function of images, uint8 or uint16 (N, H, W, channels); see
            :class:`repvgg_seg.runtime.predictor.Predictor`.
        weights_beside: whether the weights are in a second file of the same name that ends in ``.bin``.
    """
    title: str
    module: str
    package: str
    load: Callable[[ModuleType, Path, str, int | None], Run]
    weights_beside: bool = False
