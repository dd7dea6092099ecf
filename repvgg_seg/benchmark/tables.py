"""Output of every benchmark: a Markdown table, and JSON with the machine, the versions and the command."""
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .rounds import Measurement

PACKAGES = ('torch', 'onnxruntime', 'openvino', 'nncf', 'ncnn', 'opencv-python', 'opencv-python-headless', 'ai-edge-litert',
            'executorch', 'onedl-mmpretrain', 'onedl-mmsegmentation', 'mmpretrain', 'mmsegmentation', 'timm')


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Format a Markdown table; the keys of the first row are the column headings."""
    heads = list(rows[0])
    lines = [heads, ['---'] * len(heads), *([str(row[head]) for head in heads] for row in rows)]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def timed(measurement: Measurement, reference: Measurement) -> dict[str, str]:
    """Cells of a row for the time, the speed relative to the reference, and the peak memory."""
    low, high = measurement.quartiles
    return {'ms': milliseconds(measurement.median), 'quartiles': f'{milliseconds(low)} to {milliseconds(high)}',
            'times faster': f'{reference.median / measurement.median:.2f}',
            'peak memory (MB)': cell(measurement.peak_bytes and measurement.peak_bytes / 1e6, '.0f')}


def milliseconds(value: float) -> str:
    """Format a duration with at least three significant digits: with one decimal from 10 ms, two from 1 ms, else three."""
    return f'{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f}'


def cell(number: float | None, form: str) -> str:
    """Format a number for a table; None becomes an empty cell."""
    return '' if number is None else format(number, form)


def shorten(name: str) -> str:
    """Shorten the name of a model: a config loses its folder and suffix; a ``config.py`` is called by its folder."""
    *forms, name = name.split(':')
    path = Path(name)
    if path.suffix == '.py':
        name = path.absolute().parent.name if path.stem == 'config' else path.stem
    return ':'.join([*forms, name])


def circumstances() -> dict[str, object]:
    """Date, command, machine and versions of a measurement."""
    import torch
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return dict(
        date=datetime.now(timezone.utc).isoformat(timespec='minutes'),
        command=' '.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]]),
        cpu=cpu_name(), cores=os.cpu_count(), gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        python=platform.python_version(), versions=versions)


def cpu_name() -> str:
    """Name of the CPU as reported by the system."""
    info = Path('/proc/cpuinfo')
    names = [line.partition(':')[2].strip() for line in info.read_text().splitlines() if line.startswith('model name')
             ] if info.is_file() else []
    return names[0] if names else platform.processor()


def write(path: Path, **content: object) -> None:
    """Write JSON that also describes the circumstances of the measurement."""
    path.write_text(json.dumps({**circumstances(), **content}, indent=2))
