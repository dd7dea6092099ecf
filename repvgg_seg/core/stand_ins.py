"""Replacements for classes and functions, beyond PyTorch's, that checkpoints of training programs refer to.

None of them runs code from a file or trusts a size given in it; NumPy's own functions crash on damaged files.
"""
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pickle import UnpicklingError
from typing import Any

import numpy as np

from .logs import mmengine_logging

HISTORY_METHODS = ('min', 'max', 'mean', 'current')
NUMBERS = 'biufc'  # Kinds of NumPy's numeric types.
# Classes of plain settings, which other training programs save with the weights.
SETTINGS = ('argparse.Namespace', 'types.SimpleNamespace', 'yacs.config.CfgNode', 'fvcore.common.config.CfgNode',
            'detectron2.config.config.CfgNode', 'pytorch_lightning.utilities.parsing.AttributeDict',
            'lightning_fabric.utilities.data.AttributeDict', 'lightning.fabric.utilities.data.AttributeDict')


class Settings:
    """Replacement for a class of settings, or for one that is only named: its instances are plain dicts."""

    def __new__(cls, *args: object, **kwargs: object) -> Any:
        return OrderedDict()


class NumberType:
    """Replacement for NumPy's numeric types.

    Args:
        code: type code such as 'f8'.
        rest: further arguments, which are ignored.
    """

    def __init__(self, code: str, *rest: object) -> None:
        self.dtype = np.dtype(code if isinstance(code, str) else None)
        if self.dtype.kind not in NUMBERS or self.dtype.names or self.dtype.shape:
            raise UnpicklingError(f'a NumPy array of {code!r}')

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class Array(np.ndarray):
    """A NumPy array that is pickled again in its original form."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, kind, fortran, data = state
        if not (isinstance(kind, NumberType) and prod(shape) * kind.dtype.itemsize == len(data) and min(shape, default=0) >= 0):
            raise UnpicklingError('a NumPy array whose size is not that of its data')
        whole: Any = (1, shape, kind.dtype, bool(fortran), bytes(data))
        super().__setstate__(whole)

    def __reduce__(self) -> Any:
        return self.view(np.ndarray).__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _reconstruct(*args: object) -> Array:
    return Array((0, ), np.uint8)


def scalar(kind: NumberType, data: bytes) -> Any:
    """Replacement for NumPy's function that builds a scalar."""
    return np.frombuffer(data, kind.dtype, 1)[0]


def history_method(owner: type, name: str) -> Callable:
    """Replacement for ``getattr``, which gives a pickle access to anything; MMEngine's histories refer to their methods."""
    HistoryBuffer = mmengine_logging().HistoryBuffer
    if owner is HistoryBuffer and name in HISTORY_METHODS:
        return getattr(owner, name)
    raise UnpicklingError(f'getattr({owner!r}, {name!r})')


@contextmanager
def unchanged_statistics() -> Iterator[None]:
    """Preserve the methods of all histories: reading a history adds the methods that the file names."""
    HistoryBuffer = mmengine_logging().HistoryBuffer
    HistoryBuffer()  # The first history of a process registers MMEngine's own methods.
    methods = dict(HistoryBuffer._statistics_methods)
    try:
        yield
    finally:
        HistoryBuffer._statistics_methods.clear()
        HistoryBuffer._statistics_methods.update(methods)


STAND_INS: list[tuple[Any, str]] = [
    (history_method, 'builtins.getattr'), (NumberType, 'numpy.dtype'), (Settings, 'numpy.ndarray'),
    # NumPy 2 renamed numpy.core to numpy._core; a checkpoint has the name that was current when it was written.
    *((function, f'numpy.{package}.multiarray.{function.__name__}') for package in ('core', '_core')
      for function in (_reconstruct, scalar)),
    (Array, 'Array'),  # Allows setting the state of built arrays; no pickle can name it, because pickled names contain a dot.
    *((Settings, name) for name in SETTINGS)]


def stand_ins() -> list[tuple[Any, str]]:
    """The replacements with the names that they replace, in the form that ``torch.serialization.safe_globals`` accepts."""
    HistoryBuffer = mmengine_logging().HistoryBuffer
    return [(HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'), *STAND_INS]
