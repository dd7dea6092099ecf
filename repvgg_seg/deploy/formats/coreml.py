"""Core ML packages (.mlpackage), for iOS, iPadOS and macOS."""
from pathlib import Path
from typing import cast

from torch.export import ExportedProgram

from ...core.errors import UserError
from ...core.files import telling_full_disk
from ...core.tasks import SEGMENTATION
from ...runtime.coreml import SUFFIX
from ..comparison import Decision
from ..core_ml_reference import load_reference, quiet_coremltools
from ..programs import Exporter, Program, TorchProgram
from .format import Format

DEBUG = 'executorch_debug_handle_mapping.json'  # A file for ExecuTorch's debugger, which coremltools adds.


class CoreMlProgram(TorchProgram):
    """A network that is converted to Core ML when it is saved. Its input is an image, whose order of colors Core ML knows.

    Args:
        program: program of pixels, float32 (1, 3, H, W) in RGB order, with one output.
        precision: 'fp32' or 'fp16'.
    """

    def __init__(self, program: ExportedProgram, precision: str) -> None:
        super().__init__(program)
        self.precision, self.output = precision, 'logits'

    def with_labels(self, decision: Decision) -> 'CoreMlProgram':
        """See :class:`repvgg_seg.deploy.programs.Program`. Core ML has outputs of 32 bits, not of 8."""
        decided = cast(CoreMlProgram, super().with_labels(decision._replace(dtype='int32')))
        decided.output = 'labels'
        return decided

    def save(self, path: Path) -> None:
        """See :class:`repvgg_seg.deploy.programs.Program`."""
        images, = self.program.example_inputs[0]
        with quiet_coremltools() as coremltools:
            colors = coremltools.ImageType('images', images.shape, color_layout=coremltools.colorlayout.RGB)
            model = coremltools.convert(
                self.program.run_decompositions({}), inputs=[colors], outputs=[coremltools.TensorType(self.output)],
                minimum_deployment_target=coremltools.target.iOS15, skip_model_load=True,
                compute_precision=dict(fp32=coremltools.precision.FLOAT32, fp16=coremltools.precision.FLOAT16)[self.precision])
            size = sum(value.nbytes for value in self.program.state_dict.values())
            with telling_full_disk(path, size // 2 if self.precision == 'fp16' else size):
                model.save(str(path))
        (path / DEBUG).unlink(missing_ok=True)


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to Core ML.

    Raises:
        UserError: the pixels are not RGB, the only kind that Core ML takes from images.
    """
    channels = exporter.plan.normalization.channels
    if channels != 3:
        raise UserError(f'coreml is for images of 3 channels, this segmentor takes {channels}; leave coreml out')
    if exporter.plan.request.channels != 'RGB':
        raise UserError('coreml takes images, whose order of colors Core ML knows; leave --channels out')
    return CoreMlProgram(exporter.of_float_pixels, precision)


FORMAT = Format(SUFFIX, ('fp32', 'fp16'), export, ('coremltools', ), 'coreml', any_size=False, batches=False,
                dtypes=('uint8', ), tasks=(SEGMENTATION, ), portable=('fp16', ), reference=load_reference)
