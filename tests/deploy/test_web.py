"""The page beside an exported network: what it consists of, and where onnxruntime-web comes from."""
import io
import os
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from repvgg_seg.core.errors import InstallationError, UserError
from repvgg_seg.deploy.deploying import WRITTEN
from repvgg_seg.deploy.formats import ExportRequest, check_request, web

DOWNLOAD = f'npm cannot download onnxruntime-web@{web.VERSION} '
ALTERNATIVE = 'give the folder of the package onnxruntime-web with --onnxruntime-web FOLDER'


def plan(channels: int = 3, **request) -> SimpleNamespace:
    """What the page needs of a deployment plan."""
    return SimpleNamespace(request=ExportRequest(('web', ), **request), normalization=SimpleNamespace(channels=channels))


@pytest.fixture
def package(tmp_path) -> Path:
    """Stands in for the folder of onnxruntime-web."""
    (tmp_path / 'package/dist').mkdir(parents=True)
    for name in web.RUNTIME:
        (tmp_path / 'package/dist' / name).write_bytes(name.encode())
    return tmp_path / 'package'


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Write the script that is run instead of npm."""

    def write(script: str) -> None:
        (tmp_path / 'bin').mkdir()
        (tmp_path / 'bin/npm').write_text(f'#!/bin/sh\n{script}\n')
        (tmp_path / 'bin/npm').chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:{os.environ["PATH"]}')

    return write


def message_of(found: SimpleNamespace, kind: type[Exception] = UserError) -> str:
    """What is said about a page that cannot be written."""
    with pytest.raises(kind) as raised:
        web.site(found)
    return str(raised.value)


def test_the_page_has_all_files_that_it_asks_for(package):
    files = web.site(plan(onnxruntime_web=str(package)))
    assert tuple(files) == web.FORMAT.names_beside and all(files[name] == name.encode() for name in web.RUNTIME)
    assert set(files) <= WRITTEN, 'the folder can be written again'
    html = files[web.INDEX].decode()
    assert set(re.findall(r'(?:src|href)="([^"]*)"', html)) <= {*files, 'data:,'}
    assert not re.search(rb'https?:(?!//localhost)', b''.join(files[name] for name in (web.INDEX, *web.SOURCES)))


def test_npm_downloads_the_tested_version(package, tmp_path, npm):
    with tarfile.open(tmp_path / 'packed.tgz', 'w:gz') as archive:
        archive.add(package, 'package')
    npm(f'echo "$@" > {tmp_path}/arguments; cp {tmp_path}/packed.tgz onnxruntime-web.tgz')
    assert web.site(plan()) == web.site(plan(onnxruntime_web=str(package)))
    assert (tmp_path / 'arguments').read_text() == (
        f'pack --loglevel=error --ignore-scripts --fetch-retries=1 onnxruntime-web@{web.VERSION}\n')


@pytest.mark.parametrize(('script', 'reason'), [
    ('echo "npm error code EAI_AGAIN" >&2; echo "npm error more" >&2; exit 1', 'npm error code EAI_AGAIN'),
    ('exit 3', 'it ended with code 3')])
def test_npm_fails(npm, script, reason):
    npm(script)
    assert message_of(plan()) == f'{DOWNLOAD}({reason}); try again, or {ALTERNATIVE}'


def test_npm_downloads_something_else(npm, tmp_path):
    with tarfile.open(tmp_path / 'packed.tgz', 'w:gz') as archive:
        archive.addfile(tarfile.TarInfo('package/README.md'), io.BytesIO())
    npm(f'cp {tmp_path}/packed.tgz .')
    assert message_of(plan()) == f'{DOWNLOAD}(it has no dist/{web.SCRIPT}); try again, or {ALTERNATIVE}'


def test_no_npm(monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert message_of(plan(), InstallationError) == (
        f'web needs onnxruntime-web, which npm downloads, but npm is not installed; install it, or {ALTERNATIVE}')


def test_refused(package):
    folder = str(package)
    assert message_of(plan(onnxruntime_web=folder, logits=True)) == (
        'web shows classes, but --logits returns scores; leave one of them out')
    assert message_of(plan(1, onnxruntime_web=folder)) == (
        'web is for images of 3 channels, this segmentor takes 1; leave web out')
    (package / 'dist' / web.SCRIPT).unlink()
    assert message_of(plan(onnxruntime_web=folder)) == (
        f'--onnxruntime-web {folder} has no dist/{web.SCRIPT}; expected the folder of the package, such as '
        f'node_modules/onnxruntime-web after: npm install onnxruntime-web@{web.VERSION}')
    with pytest.raises(UserError) as raised:
        check_request(ExportRequest(('onnx', ), onnxruntime_web=folder))
    assert str(raised.value) == '--onnxruntime-web is for --formats web; leave it out'
