"""Packages that PyTorch's AOTInductor compiled for CPUs (.aoti.pt2)."""
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.errors import InstallationError, UserError
from .backend import Backend, Run, Setting
from .torch import describe, description, on_cpu

# Vector instructions as AOTInductor names them -> as PyTorch does, where the names differ. The last is what it says of none.
NAMES = {'avx512': 'avx512_f', 'asimd': 'neon', 'invalid_vec_isa': 'architecture'}


def load(torch: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a package; see :class:`repvgg_seg.runtime.backend.Backend`.

    Raises:
        UserError: the package was compiled for other CPUs.
        InstallationError: this version of PyTorch cannot say what the CPU is.
    """
    if not hasattr(torch.cpu, 'get_capabilities'):
        raise InstallationError(f'{path.name} needs a newer PyTorch, such as that which wrote it, found {torch.__version__}; '
                                'run: pip install --upgrade torch')
    if setting.threads:
        torch.set_num_threads(setting.threads)
    check_cpu(path, torch.cpu.get_capabilities())
    return on_cpu(torch, torch._inductor.aoti_load_package(str(path)))


def check_cpu(path: Path, capabilities: Mapping[str, Any]) -> None:
    """Check that a package was compiled for this CPU, which would otherwise end the process at the first unknown instruction.

    Args:
        path: the package.
        capabilities: what ``torch.cpu.get_capabilities`` says of this CPU.

    Raises:
        UserError: it was compiled for other CPUs.
    """
    with zipfile.ZipFile(path) as archive:
        name, = (name for name in archive.namelist() if name.endswith('wrapper_metadata.json'))
        compiled = json.loads(archive.read(name))
    needed = compiled['AOTI_CPU_ISA'].lower().split()
    lacking = [each for each in needed if not capabilities.get(NAMES.get(each, each))]
    if compiled['AOTI_MACHINE'] != capabilities['architecture'] or lacking:
        without = f' without {" ".join(lacking)}' if lacking else ''
        raise UserError(f'{path} was compiled for CPUs of {compiled["AOTI_MACHINE"]} with {" ".join(needed)}, this one is '
                        f'{capabilities["architecture"]}{without}; export it on this machine')


BACKEND = Backend('AOTInductor', 'torch', 'torch', load, needs_torch=True, describe=describe, description=description)
