"""Models for ncnn, converted by pnnx."""
import re
import subprocess
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import nn

from ..core.errors import UserError


class NcnnProgram(NamedTuple):
    """The two files of ncnn: its layers and their weights."""
    layers: str
    weights: bytes

    def save(self, path: Path, output: str) -> None:
        """Write the layers to ``path`` and the weights beside it, as ``.bin``.

        Args:
            path: of the layers.
            output: name of the output. By 'labels' our runtime is told to take the argmax of what comes out.
        """
        path.write_text(re.sub(r'\bout0\b', output, re.sub(r'\bin0\b', 'images', self.layers)))
        path.with_suffix('.bin').write_bytes(self.weights)


def convert(model: nn.Module, shape: tuple[int, int, int]) -> NcnnProgram:
    """Convert a model of one image or map, float32 (1, C, H, W), in full precision.

    Args:
        model: with one output.
        shape: C, H and W.

    Raises:
        UserError: pnnx fails.
    """
    import pnnx
    with TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # That torch.jit is deprecated; pnnx reads nothing else.
        torch.jit.trace(model.eval(), torch.zeros(1, *shape), check_trace=False).save(Path(folder, 'model.pt'))
        done = subprocess.run([pnnx.EXEC_PATH, 'model.pt', f'inputshape=[1,{",".join(map(str, shape))}]f32', 'fp16=0'],
                              cwd=folder, capture_output=True, text=True)
        layers = Path(folder, 'model.ncnn.param')
        if done.returncode or not layers.is_file():
            last = (done.stderr.strip().splitlines() or ['it wrote no file'])[-1]
            raise UserError(f'pnnx cannot convert this segmentor to ncnn (exit status {done.returncode}): {last}')
        return NcnnProgram(layers.read_text(), layers.with_suffix('.bin').read_bytes())
