"""The exported files that a user names."""
from collections.abc import Sequence
from pathlib import Path

from ..core.command_names import command
from ..core.errors import UserError
from ..runtime.report import read_report


def files_in(sources: Sequence[str]) -> list[Path]:
    """The exported files of all sources, files or folders.

    Raises:
        UserError: a folder has no exported files.
    """
    files = []
    for source in map(Path, sources):
        found = [source / name for name in read_report(source)['artefacts']] if source.is_dir() else [source]
        if not found:
            raise UserError(f'{source} has no exported files; export some with {command("deploy")} --formats onnx openvino')
        files += found
    return files
