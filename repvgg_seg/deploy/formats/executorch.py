"""ExecuTorch files (.pte), for Android and iOS, computed by XNNPACK."""
from pathlib import Path

from ..programs import Exporter, Program, TorchProgram
from .format import PRECISIONS, Format


class ExecuTorchProgram(TorchProgram):
    """A network that is lowered to ExecuTorch and XNNPACK when it is saved."""

    def save(self, path: Path) -> None:
        """See :class:`repvgg_seg.deploy.programs.Program`."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        lowered = to_edge_transform_and_lower(self.program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export to ExecuTorch."""
    return ExecuTorchProgram(exporter.program(PRECISIONS[precision].dtype))


FORMAT = Format('.pte', ('fp32', ), export, ('executorch', ), 'executorch', any_size=False, batches=False,
                dtypes=('uint8', ), abstains=True)
