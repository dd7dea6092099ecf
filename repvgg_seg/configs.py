"""Finding configs: those of the repository lie beside the package in a clone, and are not in a wheel."""
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / 'configs'


def existing_config(path: str | Path) -> Path:
    """The path of a config, relative to the working directory or absolute.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path)
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f'config {path} is a folder; expected a file such as those in configs/')
    if CONFIGS in path.parents and not CONFIGS.is_dir():
        raise UserError(f'config {path} does not exist: the installed package has no configs; clone the repository and run '
                        '"pip install -e ." in it')
    near = nearest_config(path)
    raise UserError(f'config {path} does not exist; ' + (f'did you mean {near}?' if near else
                                                         'expected a file such as those in configs/'))


def nearest_config(path: Path) -> Path | None:
    """The config beside a path that does not exist, or of the repository, whose name is most like its name; None if none is."""
    beside = {other.name: other for folder in (CONFIGS / 'ablations', CONFIGS, path.parent) for other in folder.glob('*.py')}
    found = difflib.get_close_matches(path.with_suffix('.py').name, beside, n=1, cutoff=0.8)
    if not found:
        return None
    near = beside[found[0]]
    return near.relative_to(Path.cwd()) if near.is_relative_to(Path.cwd()) else near


def files_of_config(config: 'Config') -> list[Path]:
    """The file that a config was read from, and those that it is based on by ``_base_``; none where it is from no file."""
    pending, found = [Path(config.filename)] if config.filename else [], []
    while pending:
        found.append(path := pending.pop())
        pending += filter(Path.is_file, (path.parent / base for base in config._get_base_files(str(path))))
    return found
