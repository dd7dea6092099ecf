"""Files appear whole or not at all, also when the disk is full."""
import errno
import os

import pytest

from repvgg_seg.core import files
from repvgg_seg.core.errors import UserError


def test_content_replaces_what_was_there(tmp_path):
    path = tmp_path / 'folder' / 'name.pth'
    for content in (b'first', b'second'):
        files.write_atomically(content, path)
        assert path.read_bytes() == content and os.listdir(path.parent) == ['name.pth']


@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_failure_leaves_what_was_there(tmp_path, monkeypatch, code, call):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    path = tmp_path / 'name.pth'
    path.write_bytes(b'before')
    monkeypatch.setattr(*dict(fsync=(files.os, 'fsync'), replace=(files.Path, 'replace'))[call], fail)
    reason = r'the disk is full \(\d+\.\d MB free\) or the quota spent' if code != errno.EIO else 'Input/output error'
    with pytest.raises(UserError, match=rf'name\.pth \(0\.0 MB\) cannot be written: {reason}; .* unharmed\. Make room'):
        files.write_atomically(b'after', path)
    assert path.read_bytes() == b'before' and os.listdir(tmp_path) == ['name.pth']


def test_full_disk(small_disk):
    path = small_disk / 'name.pth'
    files.write_atomically(b'before', path)
    with pytest.raises(UserError, match='cannot be written'):
        files.write_atomically(bytes(5 * 2**20), path)
    assert path.read_bytes() == b'before' and os.listdir(small_disk) == ['name.pth']


def test_file_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(files.os, 'fsync', lambda descriptor: calls.append(os.readlink(f'/proc/self/fd/{descriptor}')))
    replace = files.Path.replace
    monkeypatch.setattr(files.Path, 'replace', lambda self, to: (calls.append('rename'), replace(self, to)))
    files.write_atomically(b'x', tmp_path / 'a.pth')
    assert calls == [str(tmp_path / f'.a.pth.{os.getpid()}'), 'rename', str(tmp_path)]


def test_temporaries_of_killed_processes_are_removed(tmp_path):
    names = ['.epoch_1.pth.17', '.epoch_1.pth.swp', '.notes.17', 'epoch_1.pth', 'epoch_1.pth.17']
    for name in names:
        (tmp_path / name).touch()
    files.remove_temporaries(tmp_path, '*.pth')
    assert {path.name for path in tmp_path.iterdir()} == {*names[1:]}
