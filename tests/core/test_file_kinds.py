"""A file that is no checkpoint is named for what it is; nothing is unpacked, waited for or advised to be trusted."""
import io
import os
import struct
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from helpers import TINY_ARCH, assert_same_state, randomize
from torch import nn

from repvgg_seg.core.errors import CheckpointError
from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.models import RepVGG
from repvgg_seg.models.pretrained import load_pretrained

EXPECTED = 'expected a checkpoint that torch.save or safetensors wrote'
UNPACK = 'unpack it and give the checkpoint in it'


def refusal(path) -> str:
    """The message with which a file is refused, FILE in the place of its name."""
    with pytest.raises(CheckpointError) as raised:
        read_checkpoint(path)
    return str(raised.value).replace(str(path), 'FILE')


def written(write) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zipped(**files) -> bytes:
    def write(buffer):
        with zipfile.ZipFile(buffer, 'w') as archive:
            for name, content in files.items():
                archive.writestr(name.replace('__', '.'), content)
    return written(write)


def tarred(buffer):
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('pickle'))


def script(buffer):
    torch.jit.save(torch.jit.script(nn.ReLU()), buffer)


def program(buffer):
    torch.export.save(torch.export.export(nn.ReLU(), (torch.ones(1), )), buffer)


WEB_PAGE = 'a web page (HTML), as a link that first asks for a login or a click gives it; download the file itself'
CONTENTS = {
    'empty': (b'', 'empty; get it again'),
    'zeros': (bytes(1000), 'full of zeros, as a broken download leaves it; get it again'),
    'HTML': (b'<!DOCTYPE html>\n<html lang="en">', WEB_PAGE),
    'HTML with a byte order mark': (b'\xef\xbb\xbf\r\n <HTML><HEAD>', WEB_PAGE),
    'Git LFS': (b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n',
                'a Git LFS pointer instead of the file itself; run "git lfs pull" in its repository'),
    'gzip': (b'\x1f\x8b\x08\x00', f'compressed by gzip; {UNPACK}'), 'bzip2': (b'BZh91AY', f'compressed by bzip2; {UNPACK}'),
    'xz': (b'\xfd7zXZ\x00\x00', f'compressed by xz; {UNPACK}'),
    'zstd': (b'\x28\xb5\x2f\xfd\x00', f'compressed by zstd; {UNPACK}'), 'tar': (written(tarred), f'a tar archive; {UNPACK}'),
    '7z': (b'7z\xbc\xaf\x27\x1c\x00', f'a 7z archive; {UNPACK}'), 'RAR': (b'Rar!\x1a\x07', f'a RAR archive; {UNPACK}'),
    'npy': (written(lambda buffer: np.save(buffer, np.ones(3))), f'a NumPy array; {EXPECTED}'),
    'npy of objects': (written(lambda buffer: np.save(buffer, np.array([{}]))), f'a NumPy array; {EXPECTED}'),
    'npz': (written(lambda buffer: np.savez(buffer, a=np.ones(3))), f'an archive of NumPy arrays (.npz); {EXPECTED}'),
    'HDF5': (b'\x89HDF\r\n\x1a\n\x00', f'an HDF5 file, as Keras writes them; {EXPECTED}'),
    'TorchScript': (lambda: written(script), 'a TorchScript program; save the weights of the model that it was made from, '
                    'torch.save(model.state_dict(), FILE)'),
    'torch.export': (lambda: written(program), f'a program of torch.export; {EXPECTED}'),
    'ONNX': (b'\x08\x08\x12\x07pytorch\x1a\x062.14.1:\xa3', f'an ONNX model; {EXPECTED}'),
    'ONNX without a producer': (b'\x08\x0a:\x9c\x01\n', f'an ONNX model; {EXPECTED}'),
    'TensorFlow graph': (b'\n>\n\x05input\x12\x0bPlaceholder*\x0f', f'a TensorFlow graph; {EXPECTED}'),
    'TensorFlow saved model': (b'\x08\x01\x12\xb3\x8c\x01\n\x12\x01', f'a TensorFlow graph; {EXPECTED}'),
    'TensorFlow Lite': (b'\x1c\x00\x00\x00TFL3\x14', f'a TensorFlow Lite model; {EXPECTED}'),
    'PNG': (b'\x89PNG\r\n\x1a\n\x00', f'a PNG image; {EXPECTED}'), 'JPEG': (b'\xff\xd8\xff\xe0', f'a JPEG image; {EXPECTED}'),
    'text': (b'  layers: [64, 128]\nepochs: 3\n', f"a text file that begins with 'layers: [64, 128]'; {EXPECTED}"),
    'JSON': ('{"error": "Zugriff verweigert – bitte anmelden, um die Datei"}'.encode(),
             f"a text file that begins with '{{\"error\": \"Zugriff verweigert – bitte an'; {EXPECTED}"),
    'Python': (b'import torch\n', f"a text file that begins with 'import torch'; {EXPECTED}"),
    'pickle': (b'\x80\x04}\x94.', f'a plain pickle, not a file of torch.save; {EXPECTED}'),
    'zip of a checkpoint': (zipped(a__pth=b'', b__txt=b''), f'a zip archive with a.pth in it; {UNPACK}'),
    'zip of other files': (zipped(a__txt=b'', b__txt=b''), f'a zip archive of other files (a.txt, b.txt); {EXPECTED}'),
    'empty zip': (zipped(), f'a zip archive of other files (none); {EXPECTED}'),
    'program': (b'\x7fELF\x02\x01\x01\0\0',
                f'in no known format, it begins with the bytes 7f 45 4c 46 02 01 01 00; {EXPECTED}'),
}


@pytest.mark.situation("Other people's checkpoints", 'a web page, Git LFS pointer, NumPy file or TorchScript as a checkpoint',
                       before='"cut short or not a checkpoint: Invalid magic number", or "add --trust-checkpoint"',
                       now='named for what it is, with what to do')
@pytest.mark.parametrize('kind', CONTENTS)
def test_other_files_are_named(kind, tmp_path):
    content, message = CONTENTS[kind]
    path = tmp_path / 'strange.pth'
    path.write_bytes(content() if callable(content) else content)
    assert refusal(path) == f'checkpoint FILE is {message}'


@pytest.mark.parametrize('content', [b'PK\x03\x04', b'PK\x03\x04' + bytes(100), b'PK\x05\x06'], ids=repr)
def test_broken_archive(content, tmp_path):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    assert refusal(path) == 'checkpoint FILE is damaged (cut short?): File is not a zip file; get it again'


def test_safetensors(tmp_path, monkeypatch):
    from safetensors.torch import save_file
    source, target = randomize(RepVGG(TINY_ARCH)), RepVGG(TINY_ARCH)
    save_file({f'backbone.{key}': value for key, value in source.state_dict().items()}, path := tmp_path / 'a.safetensors')
    load_pretrained(target, path)
    assert_same_state(target, source.state_dict())
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert refusal(path).startswith('checkpoint FILE is damaged (cut short?): ')
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    assert refusal(path) == ('checkpoint FILE is in the format safetensors, which needs a package that is not installed; run: '
                             'pip install safetensors')


def repack(path, compression, data=None):
    """Write a sound checkpoint's archive again."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content if data is None or not name.endswith('data/0') else data)


@pytest.mark.situation('Hostile or broken files', 'an archive as a checkpoint that unpacks to far more than it is',
                       before='unpacked into memory', now='refused before anything is unpacked')
def test_archive_that_unpacks_to_far_more_is_refused(save):
    path = save(dict(weight=torch.zeros(2**20)))
    repack(path, zipfile.ZIP_DEFLATED)
    assert refusal(path) == (f'checkpoint FILE is refused: it is an archive of {path.stat().st_size:,} bytes that unpacks to '
                             f'{unpacked(path):,}; checkpoints are hardly compressed')


def unpacked(path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def test_overlapping_entries_are_refused(save):
    """Many entries of the directory that all stand for the same bytes."""
    path = save(dict(weight=torch.randn(10000)))
    content = path.read_bytes()
    end = content.rindex(b'PK\x05\x06')
    size, start = struct.unpack('<II', content[end + 12:end + 20])
    directory, copies = content[start:start + size], 100
    entries = struct.unpack('<H', content[end + 10:end + 12])[0] * copies
    path.write_bytes(content[:start] + directory * copies + b'PK\x05\x06' + struct.pack(
        '<HHHHIIH', 0, 0, entries, entries, size * copies, start, 0))
    size = path.stat().st_size
    assert refusal(path) == (f'checkpoint FILE is refused: it is an archive of {size:,} bytes that unpacks to '
                             f'{unpacked(path):,}; checkpoints are hardly compressed')


def test_repacked_checkpoint_is_read(save):
    source = randomize(RepVGG(TINY_ARCH))
    path = save(source.state_dict())
    repack(path, zipfile.ZIP_DEFLATED)
    assert read_checkpoint(path).keys() == source.state_dict().keys()


@pytest.mark.situation('Hostile or broken files', 'a pipe or device as a checkpoint', before='"does not exist"',
                       now='named for what it is; never waited for')
def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.pth')
    (tmp_path / 'link.pth').symlink_to('/dev/zero')
    for name in ('pipe.pth', 'link.pth'):
        assert refusal(tmp_path / name) == 'checkpoint FILE is a pipe, socket or device; expected a .pth file'


@pytest.mark.parametrize('name, message', [
    ('.', 'is a folder; expected a .pth file, such as one in it'), ('none.pth', 'does not exist'),
    ('a' * 300, 'cannot be read: File name too long'),
    ('s3://bucket/a.pth', 'cannot be downloaded; expected a file or a URL of http or https'),
], ids=['folder', 'absent', 'long name', 'other URL'])
def test_what_is_no_file(name, message, tmp_path):
    path = name if '://' in name else tmp_path / name
    assert refusal(path) == f'checkpoint FILE {message}'
