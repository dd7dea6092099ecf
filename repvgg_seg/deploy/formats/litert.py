"""LiteRT files (.tflite), for Android, iOS and single-board computers."""
from pathlib import Path

from ...core.tasks import SEGMENTATION
from ..programs import Exporter, Program, TorchProgram
from .format import PRECISIONS, Format


class LiteRtProgram(TorchProgram):
    """A network that is converted to LiteRT when it is saved."""

    def save(self, path: Path) -> None:
        """See :class:`repvgg_seg.deploy.programs.Program`."""
        import litert_torch
        litert_torch.config.show_progress = False
        module = self.program.module()
        for part in module.modules():
            part.training = False  # Exported modules do not have eval(), but LiteRT warns about this attribute.
        images, _ = self.program.example_inputs
        path.write_bytes(litert_torch.convert(module, images).model_content())


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to LiteRT."""
    return LiteRtProgram(exporter.program(PRECISIONS[precision].dtype))


FORMAT = Format('.tflite', ('fp32', ), export, ('litert_torch', 'ai_edge_litert'), 'litert', any_size=False,
                batches=False, dtypes=('uint8', ), tasks=(SEGMENTATION, ), abstains=True)
