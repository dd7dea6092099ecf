"""Finding configs: those of the repository lie beside the package in a clone, and are not in a wheel."""
from pathlib import Path

from .errors import UserError

CONFIGS = Path(__file__).parents[2] / 'configs'


def existing_config(path: str | Path) -> Path:
    """The path of a config, relative to the working directory or absolute.

    Raises:
        UserError: there is no such file.
    """
    path = Path(path)
    if path.is_file():
        return path
    if CONFIGS in path.parents and not CONFIGS.is_dir():
        raise UserError(f'config {path} does not exist: the installed package has no configs; clone the repository and run '
                        '"pip install -e ." in it')
    raise UserError(f'config {path} does not exist; expected a file such as those in configs/')
