"""ncnn models, converted by pnnx."""
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
    """An ncnn network: the text that describes its layers, and their weights.

    It implements :class:`repvgg_seg.deploy.programs.Program`.
    """
    layers: str
    weights: bytes

    def with_labels(self, decision: Decision) -> 'NcnnProgram':
        """Return the same network with the output ``labels``.

        ncnn has no argmax, so the network returns scores, and the name of the output tells our runtime to take the argmax. The
        scores are the logits or, for a single channel, the threshold and the sigmoid.
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
        """Write the layers to ``path`` and the weights to a ``.bin`` file next to it."""
        path.write_text(self.layers)
        path.with_suffix('.bin').write_bytes(self.weights)


def convert(model: nn.Module, shape: tuple[int, int, int]) -> NcnnProgram:
    """Convert a model to ncnn in full precision. The model takes one image or feature map, float32 (1, C, H, W).

    Args:
        model: model with one output.
        shape: C, H, and W of the input.

    Returns:
        The network, with the input ``images`` and the output ``logits``.

    Raises:
        UserError: pnnx fails.
    """
    import pnnx
    with TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # torch.jit warns that it is deprecated, but pnnx reads nothing else.
        torch.jit.trace(model.eval(), torch.zeros(1, *shape), check_trace=False).save(Path(folder, 'model.pt'))
        done = subprocess.run([pnnx.EXEC_PATH, 'model.pt', f'inputshape=[1,{",".join(map(str, shape))}]f32', 'fp16=0'],
                              cwd=folder, capture_output=True, text=True)
        layers = Path(folder, 'model.ncnn.param')
        if done.returncode or not layers.is_file():
            last = (done.stderr.strip().splitlines() or ['it wrote no file'])[-1]
            raise UserError(f'pnnx cannot convert this model to ncnn (exit status {done.returncode}): {last}')
        named = re.sub(r'\bout0\b', 'logits', re.sub(r'\bin0\b', 'images', layers.read_text()))
        return NcnnProgram(named, layers.with_suffix('.bin').read_bytes())
