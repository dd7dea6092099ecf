"""Packages that PyTorch's AOTInductor compiled for CPUs (.aoti.pt2)."""
import json
import platform
import zipfile
from pathlib import Path
from types import ModuleType

from ..core.errors import UserError
from .backend import Backend, Run, Setting
from .torch import describe, description, on_cpu

INSTRUCTIONS = ('DEFAULT', 'AVX2', 'AVX512')  # Of 64-bit Intel and AMD CPUs; each includes those before it.


def load(torch: ModuleType, path: Path, precision: str, setting: Setting) -> Run:
    """Load a package; see :class:`repvgg_seg.runtime.backend.Backend`.

    Raises:
        UserError: the package was compiled for other CPUs.
    """
    if setting.threads:
        torch.set_num_threads(setting.threads)
    check_cpu(path, platform.machine(), torch.backends.cpu.get_cpu_capability())
    return on_cpu(torch, torch._inductor.aoti_load_package(str(path)))


def check_cpu(path: Path, machine: str, instructions: str) -> None:
    """Check that a package was compiled for this CPU, which would otherwise end the process at the first unknown instruction.

    Args:
        path: the package.
        machine: architecture of this CPU, such as 'x86_64'.
        instructions: vector instructions of this CPU, one of ``INSTRUCTIONS`` on 'x86_64'.

    Raises:
        UserError: it was compiled for other CPUs.
    """
    with zipfile.ZipFile(path) as archive:
        name, = (name for name in archive.namelist() if name.endswith('wrapper_metadata.json'))
        compiled = json.loads(archive.read(name))
    needed = compiled['AOTI_CPU_ISA'].partition(' ')[0]
    enough = needed not in INSTRUCTIONS or instructions in INSTRUCTIONS[INSTRUCTIONS.index(needed):]
    if compiled['AOTI_MACHINE'] != machine or not enough:
        raise UserError(f'{path} was compiled for CPUs of {compiled["AOTI_MACHINE"]} with {needed}, this one is {machine} with '
                        f'{instructions}; export it on this machine')


BACKEND = Backend('AOTInductor', 'torch', 'torch', load, needs_torch=True, describe=describe, description=description)
