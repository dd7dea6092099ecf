"""Finding configs: the package's configs are a folder of the repository in a clone, and package data in a wheel."""
import ast
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from .command_names import command
from .errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

PACKAGE = Path(__file__).parents[1]
CONFIGS = PACKAGE / 'configs' if (PACKAGE / 'configs').is_dir() else PACKAGE.parent / 'configs'


def shipped_names() -> list[str]:
    """Sorted names of the configs that come with the package."""
    paths = (path.relative_to(CONFIGS) for path in CONFIGS.rglob('*.py'))
    return sorted(path.with_suffix('').as_posix() for path in paths if '_base_' not in path.parts)


def title(name: str) -> str:
    """The first sentence of the comment at the top of a config that comes with the package."""
    lines = (CONFIGS / f'{name}.py').read_text(encoding='utf-8').splitlines()
    comment = ' '.join(line.removeprefix('#').strip() for line in lines if line.startswith('#'))
    return comment.partition('. ')[0].rstrip('.')


def existing_config(name: str | Path) -> Path:
    """Find the file of a config.

    Args:
        name: path, relative to the working directory or absolute; or the name of a config that comes with the package.

    Raises:
        UserError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.as_posix() in shipped_names():
        return CONFIGS / path.with_name(f'{path.name}.py')
    if path.is_dir():
        raise UserError(f'config {path} is a folder; expected a file, or a name that {command("configs")} lists')
    near = nearest_config(path)
    raise UserError(f'config {path} does not exist; ' + (
        f'did you mean {near}?' if near else f'expected a file, or a name that {command("configs")} lists'))


def nearest_config(path: Path) -> str | None:
    """Find the config, beside a missing path or in the package, whose name is most similar; None if none is similar."""
    choices = {name.rpartition('/')[2]: name for name in shipped_names()}
    choices |= {other.stem: str(other) for other in path.parent.glob('*.py')}
    found = difflib.get_close_matches(path.name.removesuffix('.py'), choices, n=1, cutoff=0.8)
    return choices[found[0]] if found else None


def bases_of(config: Path) -> list[Path]:
    """List the files that a config inherits from by ``_base_``, directly or not, each before those that need it."""
    bases: list[Path] = []
    for node in ast.parse(config.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_base_':
            named = ast.literal_eval(node.value)
            for name in [named] if isinstance(named, str) else named:
                path = (config.parent / name).resolve()
                if path.is_file():  # Not a file of another package, such as mmseg::_base_/default_runtime.py.
                    bases += [base for base in (*bases_of(path), path) if base not in bases]
    return bases


def files_of_config(config: 'Config') -> list[Path]:
    """List the file that a config was read from, and its ``_base_`` files; empty if the config is not from a file."""
    if not config.filename:
        return []
    path = Path(config.filename)
    return [path, *(bases_of(path) if path.suffix == '.py' else [])]
