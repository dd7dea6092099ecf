"""What a command would write is compared with what it reads, whatever the paths."""
import os
import re
from pathlib import Path

import pytest

from repvgg_seg.core import destinations
from repvgg_seg.core.destinations import Output, check_outputs, check_place, check_replaced
from repvgg_seg.core.errors import UserError


def refused(message: str):
    return pytest.raises(UserError, match=f'^{re.escape(message)}$')


@pytest.fixture
def image(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images/a.png').write_bytes(b'pixels')
    return tmp_path / 'images/a.png'


@pytest.mark.parametrize('way', ['absolute', 'relative', 'with dots', 'link', 'hard link', 'linked folder'])
def test_no_input_is_written_over(image, tmp_path, way):
    out = {'absolute': image, 'relative': Path('images/a.png'), 'with dots': tmp_path / 'images/../images/a.png',
           'linked folder': tmp_path / 'other/a.png'}.get(way, tmp_path / 'out.png')
    if way == 'link':
        out.symlink_to(image)
    elif way == 'hard link':
        out.hardlink_to(image)
    elif way == 'linked folder':
        out.parent.symlink_to(image.parent)
    with refused(f'{image} is read, but {out} would be written over it; write to another place'):
        check_outputs([Output(out, 'a')], ['https://some.where/model.pth', image])
    check_outputs([Output(tmp_path / 'images/b.png', 'a')], [image])


@pytest.mark.parametrize('way', ['one path', 'link to nothing', 'hard links', 'linked folder'])
def test_no_output_is_written_over_another(image, tmp_path, way):
    first, second = tmp_path / 'x.png', tmp_path / 'y.png'
    if way == 'one path':
        second = Path('x.png')
    elif way == 'link to nothing':
        second.symlink_to(first)
    elif way == 'hard links':
        first.touch()
        second.hardlink_to(first)
    else:
        (tmp_path / 'new').symlink_to(tmp_path / 'images')
        first, second = tmp_path / 'images/x.png', tmp_path / 'new/x.png'
    with refused(f'a.jpg and a.png would both be written to {second}; give them different names, or write them in two calls to '
                 'two folders'):
        check_outputs([Output(first, 'a.jpg'), Output(second, 'a.png')], [])


@pytest.mark.parametrize('ignored', [True, False])
def test_names_that_differ_in_case(tmp_path, monkeypatch, ignored):
    monkeypatch.setattr(destinations, 'ignores_case', lambda folder: ignored)
    outputs = [Output(tmp_path / 'new/a.png', 'a.jpg'), Output(tmp_path / 'new/A.png', 'A.jpg')]
    if ignored:
        with refused(f'a.jpg and A.jpg would both be written to {tmp_path}/new/A.png; give them different names, or write them '
                     'in two calls to two folders'):
            check_outputs(outputs, [])
    else:
        check_outputs(outputs, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.path.exists(__file__.upper()), reason='this disk does not tell cases apart')
def test_whether_a_folder_ignores_case(tmp_path):
    assert not destinations.ignores_case(tmp_path) and not list(tmp_path.iterdir())


def test_places_that_no_file_can_have(tmp_path):
    with refused(f'{tmp_path} is a folder; expected the name of a file to write'):
        check_place(tmp_path)
    name = 'a' * 252 + '.png'
    with refused(f'the name {name} would have 256 bytes, the file system takes 255; give the file that it is named after a '
                 'shorter name'):
        check_place(tmp_path / 'new' / name)
    check_place(tmp_path / 'new' / name[1:])


@pytest.mark.parametrize('way', ['a file in it', 'a folder in it', 'itself', 'a link in it', 'through a link'])
def test_no_input_is_in_a_folder_that_is_replaced(image, tmp_path, way):
    folder = image.parent
    read = {'a file in it': image, 'a folder in it': folder / 'more', 'itself': Path('images'),
            'a link in it': folder / 'link.png'}.get(way, tmp_path / 'linked/a.png')
    (tmp_path / 'outside.png').touch()
    (folder / 'more').mkdir()
    (folder / 'link.png').symlink_to(tmp_path / 'outside.png')
    (tmp_path / 'linked').symlink_to(folder)
    with refused(f'{read} is read, but it is in {folder}, which would be replaced; write to another place'):
        check_replaced(folder, [tmp_path / 'outside.png', read])
    check_replaced(folder, [tmp_path / 'outside.png', tmp_path])
    check_replaced(tmp_path / 'new', [read])
