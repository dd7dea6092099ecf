"""Packages of PyTorch's AOTInductor (.aoti.pt2): exported programs, compiled for the kind of CPU that exports them."""
import io
from pathlib import Path

import torch

from ...core.errors import InstallationError
from ..programs import Exporter, Program, TorchProgram
from .format import PRECISIONS, Format

NAMED_INSTRUCTIONS = {'cpp.march': ''}  # Not whatever else this CPU has: the package tells only those that it names.


class AotInductorProgram(TorchProgram):
    """A network that is compiled when it is saved."""

    def save(self, path: Path) -> None:
        """See :class:`repvgg_seg.deploy.programs.Program`.

        Raises:
            InstallationError: there is no C++ compiler.
        """
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler
        try:
            get_cpp_compiler()
        except InvalidCxxCompiler:
            raise InstallationError('aotinductor needs a C++ compiler, such as g++, which is not installed; install one, or '
                                    'leave aotinductor out') from None
        buffer = io.BytesIO()  # PyTorch terminates the process if it runs out of disk space itself.
        torch._inductor.aoti_compile_and_package(self.program, package_path=buffer, inductor_configs=NAMED_INSTRUCTIONS)
        path.write_bytes(buffer.getbuffer())


def export(exporter: Exporter, precision: str, folder: Path) -> Program:
    """Export for ``torch._inductor.aoti_load_package``."""
    return AotInductorProgram(exporter.program(PRECISIONS[precision].dtype))


FORMAT = Format('.aoti.pt2', ('fp32', 'fp16', 'bf16'), export, abstains=True)
