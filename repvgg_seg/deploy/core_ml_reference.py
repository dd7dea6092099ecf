"""Core ML packages in PyTorch, to check them on systems that do not run Core ML.

A package is read back from the disk, and each of its operations is computed as coremltools documents it, in float32. This shows
errors of the conversion and of the file, not those of Apple's own implementation.
"""
import importlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import UserError, some
from ..runtime.backend import Run

WEIGHTS = 'Data/com.apple.CoreML/weights'  # Folder in a package.


@contextmanager
def quiet_coremltools() -> Iterator[ModuleType]:
    """Import coremltools without its progress bars, and without its warnings about versions of packages and about Linux."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()):
            yield importlib.import_module('coremltools')
    finally:
        logging.disable(disabled)


def convolve(x: Tensor, weight: Tensor, strides: Sequence[int], pad: Sequence[int], dilations: Sequence[int], groups: int,
             pad_type: str, bias: Tensor | None = None) -> Tensor:
    """Convolve; ``pad`` is for the pad type "custom", the only one that PyTorch's programs are converted to, or "valid"."""
    if pad_type == 'custom':
        top, bottom, left, right = pad
        x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, tuple(strides), 0, tuple(dilations), groups)


def enlarge(x: Tensor, scale_factor_height: float, scale_factor_width: float, align_corners: bool, **_: Any) -> Tensor:
    """Interpolate bilinearly; the height and the width are rounded down."""
    size = int(x.shape[2] * scale_factor_height), int(x.shape[3] * scale_factor_width)
    return F.interpolate(x, size, mode='bilinear', align_corners=align_corners)


def matmul(x: Tensor, y: Tensor, transpose_x: bool, transpose_y: bool) -> Tensor:
    """Multiply matrices."""
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


def cut(x: Tensor, begin: Sequence[int], end: Sequence[int], stride: Sequence[int] | None = None,
        begin_mask: Sequence[bool] | None = None, end_mask: Sequence[bool] | None = None,
        squeeze_mask: Sequence[bool] | None = None) -> Tensor:
    """Cut a part out; where a mask is true, the part begins or ends with the axis, or the axis is removed."""
    no = [False] * x.ndim
    axes = zip(begin, end, stride or [1] * x.ndim, begin_mask or no, end_mask or no, squeeze_mask or no)
    return x[tuple(first if removed else slice(None if from_start else first, None if to_end else last, step)
                   for first, last, step, from_start, to_end, removed in axes)]


# Kind of an operation -> function of its inputs by their names in coremltools' reference of MIL operations.
OPERATIONS: dict[str, Callable[..., Tensor]] = {
    'add': lambda x, y: x + y,
    'cast': lambda x, dtype: x.to(getattr(torch, dict(fp16='float32', fp32='float32', bool='bool', int32='int32')[dtype])),
    'concat': lambda values, axis, interleave: torch.cat(values, axis),
    'conv': convolve,
    'greater': lambda x, y: x > y,
    'linear': F.linear,
    'matmul': matmul,
    'mul': lambda x, y: x * y,
    'reduce_argmax': lambda x, axis, keep_dims: x.argmax(axis, keep_dims).int(),
    'reduce_mean': lambda x, axes, keep_dims: x.mean(axes, keep_dims),
    'relu': torch.relu,
    'reshape': lambda x, shape: x.reshape(shape),
    'sigmoid': torch.sigmoid,
    'slice_by_index': cut,
    'squeeze': lambda x, axes: x.squeeze(tuple(axes)),
    'sub': lambda x, y: x - y,
    'transpose': lambda x, perm: x.permute(perm),
    'upsample_bilinear': enlarge,
}


def load_reference(path: Path) -> Run:
    """Load a package of :class:`repvgg_seg.deploy.formats.coreml.CoreMlProgram`.

    Returns:
        A function that maps images, uint8 (N, H, W, 3), to the output of the package.

    Raises:
        UserError: the package has an operation that is not in ``OPERATIONS``.
    """
    with quiet_coremltools() as coremltools:
        specification = coremltools.models.utils.load_spec(str(path))
        reader = importlib.import_module('coremltools.converters.mil.frontend.milproto.load')
        function = reader.load(specification, specification.specificationVersion,
                               file_weights_dir=str(path / WEIGHTS)).functions['main']
    operations = [operation for operation in function.operations if operation.op_type != 'const']
    if unknown := {operation.op_type for operation in operations} - set(OPERATIONS):
        raise UserError(f'{path.name} has operations of Core ML that cannot be checked here: {some(unknown)}; leave coreml out')
    steps = [(OPERATIONS[operation.op_type], {name: source_of(given) for name, given in operation.inputs.items()
                                              if given is not None}, operation.outputs[0].name) for operation in operations]
    output = function.outputs[0].name

    @torch.no_grad()
    def run_one(image: np.ndarray) -> np.ndarray:
        values = dict(images=torch.from_numpy(image).permute(2, 0, 1)[None].float())
        for compute, sources, name in steps:
            values[name] = compute(**{key: source(values) for key, source in sources.items()})
        return values[output].numpy()

    return lambda images: np.concatenate([run_one(image) for image in images])


def source_of(given: Any) -> Callable[[dict[str, Tensor]], Any]:
    """Turn an input of an operation into a function of the values computed so far: a constant, a value, or several of these."""
    if isinstance(given, (list, tuple)):
        sources = [source_of(each) for each in given]
        return lambda values: [source(values) for source in sources]
    if given.val is None:
        return lambda values: values[given.name]
    constant = given.val
    if isinstance(constant, (np.ndarray, np.generic)):
        floating = np.issubdtype(constant.dtype, np.floating) and constant.ndim
        constant = torch.from_numpy(constant.astype(np.float32)) if floating else constant.tolist()
    return lambda values: constant
