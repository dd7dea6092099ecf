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
from .comparison import Decision


class NcnnProgram(NamedTuple):
    """An ncnn network, see :class:`repvgg_seg.deploy.programs.Program`: the texts of its layers, and their weights."""
    layers: str
    weights: bytes

    def with_labels(self, decision: Decision) -> 'NcnnProgram':
        """The same network with the output ``labels``.

        ncnn has no argmax, so what comes out are scores of which our runtime takes the argmax, as the name of the output tells
        it: the logits, or of a single channel the threshold and the sigmoid.
        """
        if decision.threshold is None:
            return self._replace(layers=re.sub(r'\blogits\b', 'labels', self.layers))
        appended = ('Sigmoid squash 1 1 logits probability',
                    'Split copy 1 2 probability probability_1 probability_2',
                    'BinaryOp erase 1 1 probability_1 zero 0=2 1=1 2=0.0',
                    f'BinaryOp compare 1 1 zero threshold 0=0 1=1 2={decision.threshold!r}',
                    'Concat join 2 1 threshold probability_2 labels 0=0')
        magic, counts, *layers = self.layers.rstrip().splitlines()
        layer_count, blob_count = map(int, counts.split())
        return self._replace(layers='\n'.join(
            [magic, f'{layer_count + len(appended)} {blob_count + 6}', *layers, *appended, '']))

    def save(self, path: Path) -> None:
        """Write the layers to ``path`` and the weights beside it, as ``.bin``."""
        path.write_text(self.layers)
        path.with_suffix('.bin').write_bytes(self.weights)


def convert(model: nn.Module, shape: tuple[int, int, int]) -> NcnnProgram:
    """Convert a model of one image or map, float32 (1, C, H, W), in full precision.

    Args:
        model: a model with one output.
        shape: C, H and W.

    Returns:
        The network, with the input ``images`` and the output ``logits``.

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
            raise UserError(f'pnnx cannot convert this model to ncnn (exit status {done.returncode}): {last}')
        named = re.sub(r'\bout0\b', 'logits', re.sub(r'\bin0\b', 'images', layers.read_text()))
        return NcnnProgram(named, layers.with_suffix('.bin').read_bytes())
