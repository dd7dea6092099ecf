"""The exported files that a user names."""
from collections.abc import Sequence
from pathlib import Path

from ..core.command_names import command
from ..core.errors import UserError
from ..runtime.backends import backend_of, holds_files
from ..runtime.report import read_report


def files_in(sources: Sequence[str]) -> list[Path]:
    """The exported files of all sources, files or folders.

    Raises:
        UserError: a folder has no exported files that run on this system.
    """
    files = []
    for source in map(Path, sources):
        found = [source / name for name in read_report(source)['artefacts'] if backend_of(Path(name)).runs_here
                 ] if holds_files(source) else [source]
        if not found:
            raise UserError(f'{source} has no exported files; export some with {command("deploy")} --formats onnx openvino')
        files += found
    return files
