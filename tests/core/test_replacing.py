"""A folder is replaced in one step, whatever moment the process is killed at, and nothing is left behind that is not in use."""
import errno
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from repvgg_seg.core import replacing
from repvgg_seg.core.errors import UserError
from repvgg_seg.core.replacing import TEMPORARY, put_in_place, replacement

FILES = ('deploy.json', 'part/more.bin')
STEPS = ((replacing, 'exchange'), (Path, 'rename'), (replacing.shutil, 'rmtree'), (replacing, 'flush'))


@pytest.fixture(params=['one step', 'two steps'])
def steps(request, monkeypatch) -> str:
    """Once as the file system of these tests has it, and once as on one that cannot exchange folders."""
    if request.param == 'two steps':
        monkeypatch.setattr(replacing, 'exchange', lambda one, other: False)
    elif not can_exchange(request.getfixturevalue('tmp_path')):
        pytest.skip('the file system cannot exchange folders')
    return request.param


def can_exchange(folder: Path) -> bool:
    pair = folder / 'one', folder / 'other'
    for path in pair:
        path.mkdir()
    possible = replacing.exchange(*pair)
    for path in pair:
        path.rmdir()
    return possible


def write(folder: Path, version: object) -> None:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(str(version))


def deploy(out: Path, version: object) -> None:
    with replacement(out) as new:
        write(new, version)


def versions(folder: Path) -> set[str]:
    """What the files of a folder hold, which must all be there."""
    return {(folder / name).read_text() for name in FILES}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_replaces(steps, tmp_path):
    for version in range(3):
        deploy(tmp_path / 'out', version)
        assert versions(tmp_path / 'out') == {str(version)} and names(tmp_path) == ['out']
    assert (tmp_path / 'out').stat().st_mode & 0o777 == 0o755


@pytest.mark.situation(
    'Data loss', 'a deployed folder is replaced while someone reads it',
    before='for a moment there was no folder', now='readers see the older or the new folder, nothing between them')
def test_a_reader_always_finds_the_folder(tmp_path):
    if not can_exchange(tmp_path):
        pytest.skip('the file system cannot exchange folders')
    out = tmp_path / 'out'
    deploy(out, 0)
    done = threading.Event()

    def redeploy() -> None:
        try:
            for version in range(1, 40):
                deploy(out, version)
        finally:
            done.set()

    writer = threading.Thread(target=redeploy)
    writer.start()
    seen = []
    while not done.is_set():
        seen.append(int((out / 'deploy.json').read_text()))
    writer.join()
    assert seen == sorted(seen) and len(set(seen)) > 5, 'a reader that saw few versions shows nothing'


def in_child(work: Callable[[], object]) -> int:
    """Run something in a forked process, which ends without cleaning up; how it ended."""
    process = os.fork()
    if not process:
        try:
            work()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(process, 0)[1])


def kill_at(moment: int, work: Callable[[], object]) -> None:
    """Run something, but be killed before or after a step: 0 is before the first, 1 after it, 2 before the second ..."""
    count = iter(range(10**6))

    def stepping(function: Callable, *arguments: object, **options: object) -> object:
        kill(next(count))
        result = function(*arguments, **options)
        kill(next(count))
        return result

    def kill(now: int) -> None:
        if now == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in STEPS:
        function = getattr(owner, name)
        setattr(owner, name, lambda *arguments, function=function, **options: stepping(function, *arguments, **options))
    work()


@pytest.mark.whole
@pytest.mark.situation(
    'Data loss', 'deploy.py is killed while it replaces a folder',
    before='the older folder was gone from its place, and copies of it were left behind',
    now='the folder is the older or the new one; the next call removes what was left behind')
@pytest.mark.parametrize('exists', [True, False])
def test_killed_at_each_step(steps, exists, tmp_path):
    moment, out = 0, tmp_path / 'out'
    while True:
        for path in tmp_path.iterdir():
            replacing.shutil.rmtree(path)
        if exists:
            deploy(out, 'older')
        if in_child(partial(kill_at, moment, partial(deploy, out, 'new'))) == 0:
            break
        if steps == 'one step' and exists:
            assert versions(out) in ({'older'}, {'new'})
        with pytest.raises(KeyError), replacement(out):  # A second call that fails must not lose it either.
            raise KeyError
        if exists or out.exists():
            assert versions(out) in ({'older'}, {'new'})
        assert names(tmp_path) in ([], ['out'])
        deploy(out, 'newest')
        assert versions(out) == {'newest'} and names(tmp_path) == ['out']
        moment += 1
    assert versions(out) == {'new'} and moment > 12


def test_a_failure_changes_nothing(steps, tmp_path, monkeypatch):
    out = tmp_path / 'out'
    deploy(out, 'older')

    def fail(*paths: Path) -> None:
        raise OSError(errno.EIO, 'Input/output error')

    rename = Path.rename
    monkeypatch.setattr(*((replacing, 'exchange', fail) if steps == 'one step' else (
        Path, 'rename', lambda path, target: fail() if target == out and path.name.startswith(TEMPORARY)
        else rename(path, target))))
    with pytest.raises(UserError) as caught:
        deploy(out, 'new')
    assert str(caught.value) == (f'{out} cannot be replaced (Input/output error), it is what it was before; choose another '
                                 'folder')
    assert versions(out) == {'older'} and names(tmp_path) == ['out']


def test_an_interruption_between_two_renames_brings_the_older_folder_back(tmp_path, monkeypatch):
    for name in ('new', 'out'):
        write(tmp_path / name, name)
    monkeypatch.setattr(replacing, 'exchange', lambda one, other: False)
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> None:
        if path.name == 'new':
            raise KeyboardInterrupt
        rename(path, target)

    monkeypatch.setattr(Path, 'rename', interrupted)
    with pytest.raises(KeyboardInterrupt):
        put_in_place(tmp_path / 'new', tmp_path / 'out')
    assert versions(tmp_path / 'out') == {'out'} and names(tmp_path) == ['new', 'out']
    monkeypatch.setattr(Path, 'rename', rename)
    put_in_place(tmp_path / 'new', tmp_path / 'out')
    assert versions(tmp_path / 'out') == {'new'} and names(tmp_path) == ['out']


def test_what_is_in_use_or_of_someone_else_is_left_alone(steps, tmp_path):
    mine = ('.out-backup', '.out-old-12345678', '.out.bak', 'unfinished-1', '.unfinished')
    for name in mine:
        write(tmp_path / name, name)
    (tmp_path / f'{TEMPORARY}file').write_text('a file')
    (tmp_path / f'{TEMPORARY}link').symlink_to(tmp_path / '.out-backup')
    with replacement(tmp_path / 'other') as running:
        write(running, 'running')
        deploy(tmp_path / 'out', 'new')
        assert versions(running) == {'running'}
    assert versions(tmp_path / 'out') == {'new'} and versions(tmp_path / 'other') == {'running'}
    assert names(tmp_path) == sorted([*mine, 'out', 'other', f'{TEMPORARY}file', f'{TEMPORARY}link'])
    assert all(versions(tmp_path / name) == {name} for name in mine)


def test_two_at_once(steps, tmp_path):
    out = tmp_path / 'out'
    deploy(out, 'older')
    with replacement(out) as first:
        write(first, 'first')
        with replacement(out) as second:
            write(second, 'second')
        assert versions(out) == {'second'}
    assert versions(out) == {'first'} and names(tmp_path) == ['out']


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(replacing.fcntl, 'flock', no_locks)
    write(tmp_path / f'{TEMPORARY}perhaps_in_use', 1)
    deploy(tmp_path / 'out', 'new')
    assert names(tmp_path) == [f'{TEMPORARY}perhaps_in_use', 'out']


@pytest.mark.parametrize('code', replacing.CANNOT_EXCHANGE)
def test_systems_that_cannot_exchange(code, tmp_path, monkeypatch):
    monkeypatch.setattr(replacing.ctypes, 'get_errno', lambda: code)
    assert not replacing.exchange(tmp_path / 'not there', tmp_path)
    monkeypatch.setattr(replacing.ctypes, 'get_errno', lambda: errno.EACCES)
    with pytest.raises(PermissionError):
        replacing.exchange(tmp_path / 'not there', tmp_path)
