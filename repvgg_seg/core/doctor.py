"""Examining an installation: what it consists of, and what is wrong with it. Needs only Python."""
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .environment import MM_DISTRIBUTIONS, require_mm
from .errors import InstallationError

GIGABYTE = 2**30
MIN_PYTHON = (3, 10)
# Distribution -> import name, if they differ.
IMPORTS = {'opencv-python': 'cv2', 'pillow': 'PIL', **{new: name for name, (new, _) in MM_DISTRIBUTIONS.items()}}
OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')
FEATURES = ('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni', 'amx_bf16', 'amx_int8')
MIN_DISK, MIN_SHARED_MEMORY = 5 * GIGABYTE, GIGABYTE
IMPORT_SECONDS = 300

OK, INFO, WARNING, ERROR = 'ok', 'info', 'warning', 'error'


@dataclass(frozen=True)
class Finding:
    """One finding of the report.

    Args:
        state: severity, one of OK, INFO, WARNING and ERROR.
        text: what was found.
        remedy: command that fixes it.
    """
    state: str
    text: str
    remedy: str = ''

    def __str__(self) -> str:
        return f'{self.state:8}{self.text}' + (f'\n{"":8}-> {self.remedy}' if self.remedy else '')


def examine(folder: Path) -> Iterator[Finding]:
    """Report everything noteworthy about this installation.

    Args:
        folder: folder for work dirs, whose free space is checked.
    """
    yield from python()
    yield from families()
    yield from packages()
    yield from torch_pair()
    yield from opencv()
    yield from extras()
    yield from gpu()
    yield from cpu()
    yield from space(folder)


def python() -> Iterator[Finding]:
    """Version and location of Python."""
    state = OK if sys.version_info >= MIN_PYTHON else ERROR
    yield Finding(state, f'Python {platform.python_version()} ({sys.prefix}), {platform.platform()}',
                  '' if state == OK else f'install Python {".".join(map(str, MIN_PYTHON))} or newer')


def families() -> Iterator[Finding]:
    """Original and maintained OpenMMLab packages installed side by side."""
    try:
        require_mm()
    except InstallationError as error:
        text, _, command = str(error).partition('; keep one family, for example: ')
        yield Finding(ERROR, text, command)


def packages() -> Iterator[Finding]:
    """Every dependency: its version, its origin, whether it is recent enough and can be imported."""
    wanted: dict[str, tuple[str, str]] = {}
    for name, minimum in requirements(('', 'mm')).items():
        original = next((olds for new, olds in MM_DISTRIBUTIONS.values() if new == name), ())
        installed = next((found for found in (name, *original) if version_of(found)), None)
        if installed is None and name in OPENCV:
            installed = next((found for found in OPENCV if version_of(found)), None)
        if installed is None:
            needed = 'not installed' + (f', needs >={minimum}' if minimum else '')
            yield Finding(ERROR, f'{name}: {needed}', f"pip install '{name}{f'>={minimum}' if minimum else ''}'")
        else:
            wanted[name] = installed, minimum
    with ThreadPoolExecutor() as pool:
        failures = dict(zip(wanted, pool.map(import_failure, [IMPORTS.get(name, name) for name in wanted])))
    for name, (installed, minimum) in wanted.items():
        version = version_of(installed) or ''
        text = f'{installed} {version} ({origin(installed)})'
        # The version bounds are those of the maintained family.
        if minimum and installed == name and numbers(version) < numbers(minimum):
            yield Finding(ERROR, f'{text}, needs >={minimum}', f"pip install '{name}>={minimum}'")
        elif failures[name]:
            yield Finding(ERROR, f'{text} cannot be imported: {failures[name]}',
                          f'pip install --force-reinstall --no-deps {installed}')
        else:
            yield Finding(OK, text)


def torch_pair() -> Iterator[Finding]:
    """Matching versions and builds of torch and torchvision; torchvision records which torch it was built with."""
    torch, torchvision = version_of('torch'), version_of('torchvision')
    if not (torch and torchvision):
        return
    needs = [need for line in metadata.requires('torchvision') or []
             if (need := re.match(r'torch *\(?(==|>=)([\d.]+)', line))]
    fits = all(numbers(torch) == numbers(need[2]) if need[1] == '==' else numbers(torch) >= numbers(need[2]) for need in needs)
    builds = [version.partition('+')[2] for version in (torch, torchvision)]
    if not fits:
        yield Finding(ERROR, f'torchvision {torchvision} needs {needs[0][0].replace("(", "")}, but torch {torch} is installed',
                      f"pip install 'torch=={torch}' torchvision --upgrade")
    elif builds[0] != builds[1]:
        yield Finding(WARNING, f'torch {torch} and torchvision {torchvision} are builds for different devices',
                      'pip install --force-reinstall torch torchvision, both from one index')


def opencv() -> Iterator[Finding]:
    """Multiple OpenCV distributions, which overwrite each other's files."""
    installed = [name for name in OPENCV if version_of(name)]
    if len(installed) > 1:
        yield Finding(WARNING, f'{" and ".join(installed)} overwrite each other',
                      f'pip uninstall -y {" ".join(installed)} && pip install {installed[0]}')


def extras() -> Iterator[Finding]:
    """Packages that only some tools need."""
    for extra in ('onnx', 'openvino', 'ncnn', 'litert', 'executorch', 'coreml', 'hub', 'labels', 'serve', 'test'):
        absent = [name for name in requirements((extra, )) if not version_of(name)]
        if absent:
            yield Finding(INFO, f'extra [{extra}]: without {", ".join(absent)}', f"pip install 'repvgg_seg[{extra}]'")
        else:
            yield Finding(OK, f'extra [{extra}]: complete')
    compiled = importlib.util.find_spec('mmcv') is not None and importlib.util.find_spec('mmcv._ext') is not None
    yield Finding(OK, f'compiled operations of mmcv: {"there" if compiled else "absent"}, and not needed')


def gpu() -> Iterator[Finding]:
    """GPUs that PyTorch can use, and any that it cannot."""
    code = ('import torch; print(torch.version.cuda); '
            '[print(p.name, round(p.total_memory / 2**30), f"sm_{p.major}{p.minor}", sep="|") for p in '
            'map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))]; print(*torch.cuda.get_arch_list())')
    done = run_python(code)
    if done.returncode:
        return  # The failing import of torch was already reported.
    cuda, *devices, supported = done.stdout.splitlines()
    if not devices:
        if shutil.which('nvidia-smi'):
            why = 'is built without CUDA' if cuda == 'None' else f'is built for CUDA {cuda}; the driver may be too old'
            yield Finding(WARNING, f'there is an NVIDIA driver, but no GPU that PyTorch can use: it {why}',
                          'see nvidia-smi, then choose the build on https://pytorch.org/get-started/locally')
        else:
            yield Finding(INFO, 'no GPU: training and deployment run on the CPU')
    for device in devices:
        name, memory, kind = device.split('|')
        able = kind in supported.split() or f'compute_{kind[3:]}' in supported
        yield Finding(OK if able else WARNING, f'GPU {name}, {memory} GB, {kind}' + (
            '' if able else f', for which PyTorch is not built ({supported})'),
                      '' if able else 'choose another build on https://pytorch.org/get-started/locally')


def cpu() -> Iterator[Finding]:
    """CPU cores, and the instructions that make bf16 and int8 fast."""
    flags = set()
    with suppress(OSError):
        flags = set(re.findall(r'\w+', Path('/proc/cpuinfo').read_text().partition('flags')[2].partition('\n')[0]))
    found = [name for name in FEATURES if name in flags]
    fast = 'has instructions for bf16 (--amp)' if {'amx_bf16', 'avx512_bf16'} & flags else 'emulates bf16 (--amp)'
    yield Finding(INFO, f'CPU: {os.cpu_count()} cores, ' + (f'{", ".join(found)}; it {fast}' if flags else 'features unknown'))


def space(folder: Path) -> Iterator[Finding]:
    """Space for checkpoints, and for batches in transit from data loader workers."""
    free = shutil.disk_usage(folder).free
    yield Finding(OK if free >= MIN_DISK else WARNING, f'disk: {free / GIGABYTE:.1f} GB free in {folder.absolute()}',
                  '' if free >= MIN_DISK else 'make room, or give --work-dir on another disk')
    shared = Path('/dev/shm')
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        yield Finding(OK if size >= MIN_SHARED_MEMORY else WARNING, f'shared memory: {size / GIGABYTE:.1f} GB',
                      '' if size >= MIN_SHARED_MEMORY else 'start the container with --shm-size=8g, or set '
                      'train_dataloader.num_workers=0')


def requirements(wanted: tuple[str, ...]) -> dict[str, str]:
    """Distributions that this package needs, each with its minimum version or an empty string.

    Args:
        wanted: names of extras; the empty string for the required dependencies.
    """
    found = {}
    for line in metadata.requires('repvgg_seg') or []:
        need, _, marker = line.partition(';')
        extra = re.search(r'extra == [\'"](\w+)', marker)
        if (extra[1] if extra else '') in wanted:
            name, _, minimum = need.strip().partition('>=')
            found[name] = minimum
    return found


def version_of(distribution: str) -> str | None:
    """Version of a distribution; None if it is not installed."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(distribution)
    return None


def origin(distribution: str) -> str:
    """Installer of a distribution, its source if recorded, and its location."""
    found = metadata.distribution(distribution)
    installer = (found.read_text('INSTALLER') or 'unknown').strip()
    source = re.search(r'"url": *"([^"]+)"', found.read_text('direct_url.json') or '')
    return f'{installer}, {f"from {source[1]}" if source else found.locate_file("")}'


def numbers(version: str) -> tuple[int, ...]:
    """Parse a version into numbers: '2.6.0+cpu' -> (2, 6, 0)."""
    return tuple(map(int, re.findall(r'\d+', version.partition('+')[0])))


def import_failure(name: str) -> str | None:
    """Import a module in a separate process; return the last line of the error output if that fails, else None."""
    done = run_python(f'import {name}')
    return (done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1] if done.returncode else None


def run_python(code: str) -> subprocess.CompletedProcess:
    """Run code in a new process."""
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=IMPORT_SECONDS)
