"""The rooms of the package import downwards only."""
import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'repvgg_seg'
FLOORS = [{'core', 'registration'}, {'registry', '__init__'}, {'models', 'datasets', 'runtime'}, {'engine', 'checkpoints'},
          {'deploy'}, {'serving'}, {'benchmark'}, {'ablations'}, {'commands'}, {'__main__'}]
# Rooms that work without PyTorch and OpenMMLab packages, and what they import from.
ONLY = {'runtime': {'core'}, 'serving': {'core', 'runtime'}}
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob('*.py'))


def imported_rooms(path: Path) -> Iterator[str]:
    """Rooms from which a module imports, also within its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = [*path.relative_to(PACKAGE).parts[:-node.level], *(node.module or '').split('.')]
            yield from [inside[0]] if inside[0] else (alias.name for alias in node.names if alias.name != '__version__')
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition('.')[0] == PACKAGE.name:
            yield node.module.split('.')[1]


@pytest.mark.parametrize('module', MODULES)
def test_imports_go_down(module):
    room = module.split('/')[0].removesuffix('.py')
    floor = next(number for number, rooms in enumerate(FLOORS) if room in rooms)
    below = ONLY.get(room, set().union(*FLOORS[:floor]))
    assert set(imported_rooms(PACKAGE / module)) <= below | {room}
