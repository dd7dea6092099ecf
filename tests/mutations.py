"""Break the package on purpose, one small breakage at a time, and report which of them the tests notice.

    python tests/mutations.py --count 60

This takes an hour or more, so it is not part of ``make test``. The seed chooses breakages evenly among the rooms of the
package, and within a room evenly among the kinds of breakages. Each is made in a copy of the repository and tried with the
tests of its room and all others that import the broken module, directly or through others: nearest first, until one fails. A
test that failed must pass without the breakage. The exit code is 1 if a breakage survived that ``ACCEPTED`` does not explain.
"""
import argparse
import ast
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ('core', 'package', 'models', 'datasets', 'runtime', 'engine', 'deploy', 'serving', 'benchmark', 'ablations',
         'commands')
SWAPS: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add}
NOT_NUMBERS = (ast.JoinedStr, ast.List, ast.Tuple, ast.ListComp)  # What + puts together, and - would only crash on.

# Survivors that may stay: the file, the line without its indentation, the kind of breakage; and the reason.
ACCEPTED = {
    ('repvgg_seg/ablations/runs.py', 'run.folder.mkdir(parents=True, exist_ok=True)', 'bool'):
        'the command has made the folder above, to see whether it can be written',
    ('repvgg_seg/benchmark/complexity.py', 'super().__init__()', 'call'):
        'what the constructor of PyTorch\'s mode sets is of no use to a mode that only counts',
    ('repvgg_seg/benchmark/suites.py',
     "f'{runtime}{name}' for runtime in EVERYWHERE for name in ('plain-run', 'dilated-run')), 1, (45, 60)),", 'number'):
        'a size at which a table is measured; nothing else hangs on it',
    ('repvgg_seg/datasets/toy/scenes.py', 'picture = image + texture[..., None]', '+/-'):
        'the texture is noise around 0, which has no sign',
    ('repvgg_seg/engine/exported.py',
     "def forward(self, inputs: list[Tensor], data_samples: list, mode: str = 'predict') -> list:", 'default'):
        'MMEngine gives the mode, of which there is one only',
    ('repvgg_seg/registration.py', 'sys.meta_path.insert(0, _AfterMMEngine())', 'number'):
        'the finder of built-in modules, which is the first, finds no MMEngine',
}

FORK = multiprocessing.get_context('fork')
FAR = 99  # Imports between files that do not reach each other.
# Loaded once, before tests are run in forked processes.
HEAVY = ('torch', 'cv2', 'matplotlib.pyplot', 'mmengine.runner', 'mmcv', 'mmseg.apis', 'mmpretrain.apis')


class Breakage(NamedTuple):
    """A change of one expression or statement: the bytes from ``start`` to ``end`` of a file."""
    file: str
    line: int
    kind: str
    before: str
    after: str
    start: int
    end: int

    def apply(self, source: bytes) -> bytes:
        # Parentheses keep what an expression belongs to; statements may not have them.
        after = self.after if self.kind in ('raise', 'call', 'augmented') else f'({self.after})'
        return source[:self.start] + after.encode() + source[self.end:]

    def key(self) -> tuple[str, str, str]:
        """As in ``ACCEPTED``."""
        return self.file, (ROOT / self.file).read_text(encoding='utf-8').splitlines()[self.line - 1].strip(), self.kind


class Outcome(NamedTuple):
    """Of a trial."""
    breakage: Breakage
    test: str  # That noticed it; empty if none did.
    seconds: float


def breakable(node: ast.AST) -> Iterator[ast.AST]:
    """The node and all within it but messages, annotations, ``if TYPE_CHECKING`` and ``if __name__ == '__main__'``."""
    if isinstance(node, ast.If) and re.search('TYPE_CHECKING|__name__', ast.unparse(node.test)):
        return
    yield node
    if isinstance(node, (ast.Raise, ast.JoinedStr)):
        return
    for name, value in ast.iter_fields(node):
        if name not in ('annotation', 'returns', 'type_comment'):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from breakable(child)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST, str]]:
    """Kinds of breakages of a node: the part that changes, and what it becomes."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield 'compare', node, swapped(node, 'ops')
    elif isinstance(node, ast.BoolOp):
        yield 'and/or', node, swapped(node, 'op')
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield 'not', node, ast.unparse(node.operand)
    elif isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not any(is_text(side) for side in (node.left, node.right)):
        yield '+/-', node, swapped(node, 'op')
    elif isinstance(node, ast.AugAssign) and type(node.op) in SWAPS and not is_text(node.value):
        yield 'augmented', node, swapped(node, 'op')
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield 'bool', node, str(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield 'number', node, str(node.value + 1)
    elif isinstance(node, ast.Raise):
        yield 'raise', node, 'pass'
    elif isinstance(node, ast.Return) and node.value and ast.unparse(node.value) != 'None':
        yield 'return', node.value, 'None'
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield 'call', node, 'pass'
    elif isinstance(node, (ast.If, ast.IfExp)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
        yield 'condition', node.test, f'not {ast.unparse(node.test)}'
    elif isinstance(node, ast.arguments):
        for default in filter(None, node.defaults + node.kw_defaults):
            if not isinstance(default, ast.Constant) or isinstance(default.value, str):
                yield 'default', default, 'None'


def is_text(node: ast.AST) -> bool:
    return isinstance(node, NOT_NUMBERS) or isinstance(node, ast.Constant) and isinstance(node.value, str)


def swapped(node: ast.AST, field: str) -> str:
    """The source of an expression with another operator, the first of several."""
    changed = deepcopy(node)
    if field == 'ops':
        changed.ops[0] = SWAPS[type(changed.ops[0])]()
    else:
        changed.op = SWAPS[type(changed.op)]()
    return ast.unparse(changed)


def breakages(path: Path) -> Iterator[Breakage]:
    """All breakages of a file."""
    source = path.read_bytes()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in breakable(ast.parse(source)):
        for kind, part, after in changes(node):
            yield Breakage(path.relative_to(ROOT).as_posix(), part.lineno, kind, ast.unparse(part), after,
                           starts[part.lineno - 1] + part.col_offset, starts[part.end_lineno - 1] + part.end_col_offset)


def room_of(file: str) -> str:
    """The room of a file; modules that stand beside the rooms are one, and tools belong to the commands."""
    parts = Path(file).parts
    return 'commands' if parts[0] == 'tools' else parts[1] if len(parts) > 2 else 'package'


def choose(rooms: Iterable[str], number: int, seed: int) -> list[Breakage]:
    """As many breakages of each room, and within a room of each kind, as far as there are some.

    The order hangs on a breakage and the seed alone, so that a change of the package does not change the choice elsewhere.
    """
    found: dict[str, dict[str, list[Breakage]]] = {room: defaultdict(list) for room in ROOMS}
    for path in sorted([*ROOT.glob('repvgg_seg/**/*.py'), *ROOT.glob('tools/*.py')]):
        if (path.parent / '__init__.py').is_file() or path.parent.name == 'tools':  # Others are configs.
            for breakage in breakages(path):
                found[room_of(breakage.file)][breakage.kind].append(breakage)

    def place(*facts: str) -> float:
        return random.Random(' '.join([str(seed), *facts])).random()

    orders = []
    for room in rooms:
        kinds = sorted(found[room], key=lambda kind: place(room, kind))
        orders.append(take_turns(sorted(found[room][kind], key=lambda one: place(one.file, one.before, one.after))
                                 for kind in kinds))
    return list(islice(take_turns(orders), number))


def take_turns(sequences: Iterable[Iterable[Breakage]]) -> Iterator[Breakage]:
    """The first of each sequence, then the second of each, until all are at their ends."""
    return (item for turn in zip_longest(*sequences) for item in turn if item is not None)


def files_named_in(path: Path, files: set[str]) -> set[str]:
    """Files of the repository that a file imports, or names in a string: a path, a module, a neighbor, or a command."""
    here = path.relative_to(ROOT).parts
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names.update(alias.name.replace('.', '/') for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '/'.join([*(here[:-node.level] if node.level else ()), *filter(None, (node.module or '').split('.'))])
            names.update([base, *(f'{base}/{alias.name}' for alias in node.names)])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r'[\w./-]+', node.value):
            names.update([node.value.removesuffix('.py'), node.value.replace('.', '/'),
                          '/'.join([*here[:-1], node.value]), f'repvgg_seg/commands/{node.value.replace("-", "_")}'])
    names |= {f'tests/{name}' for name in names}
    return {file for name in names for file in (f'{name}.py', f'{name}/__init__.py') if file in files} - {'/'.join(here)}


def distances() -> dict[str, dict[str, int]]:
    """For each test file, how many imports it is away from the files that it reaches."""
    files = {path.relative_to(ROOT).as_posix() for folder in ('repvgg_seg', 'tools', 'tests')
             for path in (ROOT / folder).rglob('*.py')}
    graph = {file: files_named_in(ROOT / file, files) for file in files}
    reached = {}
    for test in (file for file in files if Path(file).name.startswith('test_')):
        fixtures = str(Path(test).with_name('conftest.py'))
        found = {test: 0}
        queue = deque(found)
        while queue:
            file = queue.popleft()
            for other in graph[file] | ({fixtures} & files if file == test else set()):
                if other not in found:
                    found[other] = found[file] + 1
                    queue.append(other)
        reached[test] = found
    return reached


def test_files(file: str, graph: dict[str, dict[str, int]]) -> list[list[str]]:
    """Groups of test files for a broken file: that of its name and the nearest of its room, the rest of it, other rooms."""
    room = room_of(file)
    home = Path('tests', *([] if room == 'package' else [room]))
    distance = {test: found.get(file, FAR) for test, found in graph.items()}
    nearest = min((distance[test] for test in graph if Path(test).parent == home), default=FAR)
    groups: list[list[str]] = [[], [], []]
    mirror = home / f'test_{Path(file).stem}.py'
    # Tests of rooms further up train and export, so that they come last.
    for test in sorted(graph, key=lambda test: (Path(test) != mirror, distance[test], rank(test), test)):
        if Path(test) == mirror or Path(test).parent == home and distance[test] == nearest:
            groups[0].append(test)
        elif Path(test).parent == home:
            groups[1].append(test)
        elif distance[test] < FAR:
            groups[2].append(test)
    return groups


def rank(test: str) -> int:
    room = Path(test).parent.name
    return ROOMS.index(room) if room in ROOMS else 0


class Run(NamedTuple):
    """What a run of tests ended with."""
    failed: list[str]
    unfinished: str  # The test in which the process died or was killed; empty if it did not.


def run_tests(copy: Path, tests: Iterable[str], left_out: Iterable[str], limit: float, *options: str) -> Run:
    """Run tests in a copy of the repository, each for at most ``limit`` seconds."""
    record = copy.with_suffix('.record')
    record.write_text('')
    options = ('-p', 'mutations', '-p', 'no:cacheprovider', f'--basetemp={copy.with_suffix(".tmp")}',
               '-o', f'faulthandler_timeout={limit}', '-o', 'faulthandler_exit_on_timeout=true', *options,
               *(f'--deselect={test}' for test in left_out), *tests)
    log = copy.with_suffix('.log')
    process = FORK.Process(target=work, args=(copy, record, log, options))
    process.start()
    try:
        process.join(20 * limit)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # Also what tests started and left running.
        process.join()
    events = [line.split(' ', 1) for line in record.read_text().splitlines()]
    failed = [test for event, test in events if event == 'failed']
    if failed or process.exitcode in (0, 5):  # 5: none of the tests is of the default suite.
        return Run(failed, '')
    if events:
        return Run([], events[-1][1])
    output = log.read_text(encoding='utf-8', errors='replace')
    if broken := re.search(r"while loading conftest '.*?(tests/.*?)'", output):
        return Run([broken[1]], '')
    raise RuntimeError(f'pytest ended with {process.exitcode} and no test:\n{output[-2000:]}')


def work(copy: Path, record: Path, log: Path, options: Sequence[str]) -> None:
    """What a process does that was forked to run tests: the packages below ours are loaded already."""
    os.setsid()
    with open(log, 'w') as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.chdir(copy)
    sys.path[:0] = [str(copy), str(copy / 'tests')]
    os.environ.update(PYTHONPATH=os.pathsep.join(sys.path[:2]), RECORD=str(record))
    os._exit(int(pytest.main(list(options))))


def record(event: str, test: str) -> None:
    with open(os.environ['RECORD'], 'a', encoding='utf-8') as file:
        file.write(f'{event} {test}\n')


def pytest_runtest_logstart(nodeid: str) -> None:
    """As a plugin of pytest, in a copy: say which test runs, so that it is known if the process dies."""
    record('started', nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        record('failed', report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        record('failed', report.nodeid)


class Trials:
    """Breaks a copy of the repository.

    Args:
        folder: where to make the copy.
        groups: of test files that are tried: 1, 2 and 3 of :func:`test_files`.
        limit: seconds for a test.
    """

    def __init__(self, folder: Path, groups: Sequence[int], limit: float) -> None:
        self.copy, self.groups, self.limit = folder / 'copy', groups, limit
        self.graph = distances()
        self.times = count(10**9)
        self.unsound: set[str] = set()  # Tests that fail without a breakage, too.
        names = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, check=True,
                               capture_output=True, text=True).stdout.split('\0')
        for name in filter(None, names):
            (self.copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, self.copy / name)

    def __call__(self, breakage: Breakage) -> Outcome:
        """Try a breakage with one group of test files after the other until a test fails."""
        start = time.perf_counter()
        source = (ROOT / breakage.file).read_bytes()
        self.write(breakage.file, breakage.apply(source))
        noticed = ''
        files_of = test_files(breakage.file, self.graph)
        for files in filter(None, (files_of[group - 1] for group in self.groups)):
            run = run_tests(self.copy, files, self.unsound, self.limit, '--exitfirst')
            if noticed := (run.failed or [run.unfinished])[0]:
                break
        self.write(breakage.file, source)
        return Outcome(breakage, noticed, time.perf_counter() - start)

    def write(self, file: str, source: bytes) -> None:
        """Write a module with a time that it never had: Python takes compiled files of the same time and size for its."""
        (self.copy / file).write_bytes(source)
        os.utime(self.copy / file, (when := next(self.times), when))

    def fail_anyway(self, tests: set[str]) -> set[str]:
        """Which of these tests fail without a breakage, or take more than a third of the limit."""
        functions = sorted({test.partition('[')[0] for test in tests})  # A case can be there by a breakage only.
        if not functions:
            return set()
        run = run_tests(self.copy, functions, (), self.limit / 3)
        if run.unfinished:
            return {*run.failed, run.unfinished} | self.fail_anyway(
                {test for test in tests if test.partition('[')[0] != run.unfinished.partition('[')[0]})
        return set(run.failed) & tests


def row(outcome: Outcome) -> str:
    """A row of the table."""
    breakage = outcome.breakage
    change = ' -> '.join(textwrap.shorten(text, 70, placeholder=' ...') for text in (breakage.before, breakage.after))
    reason = ACCEPTED.get(breakage.key())
    end = outcome.test or (f'survived: {reason}' if reason else 'SURVIVED')
    return f'| {breakage.file}:{breakage.line} | `{change}` | {end} | {outcome.seconds:.0f} |\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--count', type=int, default=60, help='breakages (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of the choice (default: %(default)s)')
    parser.add_argument('--rooms', nargs='+', choices=ROOMS, default=ROOMS, metavar='ROOM',
                        help=f'rooms to break (default: {" ".join(ROOMS)})')
    parser.add_argument('--only', nargs='+', metavar='FILE:LINE', help='only those of the chosen breakages')
    parser.add_argument('--groups', nargs='+', type=int, choices=(1, 2, 3), default=(1, 2, 3), metavar='GROUP',
                        help='1: the nearest tests; 2: others of the room; 3: those of other rooms (default: 1 2 3)')
    parser.add_argument('--limit', type=float, default=300, help='seconds for a test (default: %(default)s)')
    parser.add_argument('--list', action='store_true', help='show the breakages, and try none')
    args = parser.parse_args()
    chosen = choose(args.rooms, args.count, args.seed)
    if args.only:
        chosen = [breakage for breakage in chosen if f'{breakage.file}:{breakage.line}' in args.only]
    if args.list:
        sys.stdout.writelines(row(Outcome(breakage, breakage.kind, 0)) for breakage in chosen)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ['OMP_NUM_THREADS'] = '1'
    for name in HEAVY:
        if find_spec(name.partition('.')[0]):
            import_module(name)
    sys.stdout.write('| where | breakage | noticed by | seconds |\n| --- | --- | --- | --- |\n')
    outcomes: dict[Breakage, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), args.groups, args.limit)
        while chosen:
            for breakage in chosen:
                outcomes[breakage] = trials(breakage)
                sys.stdout.write(row(outcomes[breakage]))
                sys.stdout.flush()
            unsound = trials.fail_anyway({outcome.test for outcome in outcomes.values()} - {''} - trials.unsound)
            trials.unsound |= unsound
            chosen = [breakage for breakage, outcome in outcomes.items() if outcome.test in unsound]
            if unsound:
                sys.stdout.write(f'Fail without a breakage, too, and are left out: {", ".join(sorted(unsound))}\n')
    survivors = [outcome.breakage for outcome in outcomes.values() if not outcome.test]
    unexplained = [breakage for breakage in survivors if breakage.key() not in ACCEPTED]
    sys.stdout.write(f'\n{len(outcomes) - len(survivors)} of {len(outcomes)} were noticed; {len(unexplained)} of the others '
                     'have no reason in ACCEPTED\n')
    sys.exit(bool(unexplained))


if __name__ == '__main__':
    main()
