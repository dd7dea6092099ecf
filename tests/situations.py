"""The situations that tests are marked with, as the table of docs/reliability.md: python tests/situations.py"""
import ast
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent
GROUPS = ('Data loss', 'Silently wrong', 'Hostile or broken files', 'Tracebacks', "Other people's checkpoints", 'Smaller')


class Situation(NamedTuple):
    """A row of the table: what ``@pytest.mark.situation`` says, and the file of the test."""
    group: str
    what: str
    before: str
    now: str
    test: str


@cache
def situations() -> tuple[Situation, ...]:
    """Read them from the source of all tests, without importing any."""
    found = []
    for path in sorted(TESTS.rglob('test_*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == 'pytest.mark.situation':
                values = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
                group, what = map(ast.literal_eval, node.args)
                found.append(Situation(group, what, test=path.relative_to(TESTS.parent).as_posix(), **values))
    return tuple(found)


def table() -> str:
    """Markdown: a section a group, in the order of ``GROUPS``."""
    parts = []
    for group in GROUPS:
        lines = [f'| {row.what} | {row.before} | {row.now} | `{row.test}` |' for row in situations() if row.group == group]
        head = [f'### {group}', '', '| situation | before | now | test |', '| --- | --- | --- | --- |']
        parts.append('\n'.join([*head, *lines]))
    return '\n\n'.join(parts) + '\n'


if __name__ == '__main__':
    sys.stdout.write(table())
