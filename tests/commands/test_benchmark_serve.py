"""The load on a server: answers are counted and compared, and what cannot be measured is told."""
import re
from contextlib import contextmanager

import pytest
from mistakes import assert_error_line
from served import encoded, labels_of, noise, served, stand_in

from repvgg_seg.benchmark import serving_load


@pytest.fixture
def pictures(tmp_path):
    for seed in range(3):
        (tmp_path / f'{seed}.png').write_bytes(encoded(noise(seed=seed)))
    return tmp_path


@pytest.fixture
def stand_in_server(monkeypatch):
    """A server of the stand-in instead of that of a model."""
    @contextmanager
    def started(source, *options):
        with served(*options) as server:
            yield server.port

    monkeypatch.setattr(serving_load, 'started', started)
    monkeypatch.setattr(serving_load, 'load_segmentor', lambda *_, **__: stand_in())


def test_load(stand_in_server, pictures):
    load = serving_load.measure('stand-in', str(pictures), clients=3, seconds=0.6, threads=1, options=['--batch', '2'])
    assert load.wrong == 0 and load.failed == [] and load.images == len(load.answers) > 10 and load.runs <= load.images
    assert load.seconds >= 0.6 and all(0 < seconds < 5 for seconds in load.answers) and min(load.alone) > 1
    row = load.row('stand-in', 3)
    assert (row['clients'], row['wrong'], row['answers']) == (3, 0, len(load.answers))
    assert float(row['ratio']) == pytest.approx(len(load.answers) / load.seconds / (sum(load.alone) / 2), abs=0.01)
    assert all(re.fullmatch(r'\d+', row[name]) for name in ('memory before (MB)', 'after'))


def test_wrong_answers_are_counted(stand_in_server, pictures, monkeypatch):
    monkeypatch.setattr(serving_load, 'load_segmentor', lambda *_, **__: stand_in(lambda images: labels_of(images) ^ 1))
    load = serving_load.measure('stand-in', str(pictures), clients=1, seconds=0.3, threads=1)
    assert load.wrong == len(load.answers) > 1


def test_refused_requests_are_told(stand_in_server, pictures, run_tool, monkeypatch):
    started = serving_load.started
    monkeypatch.setattr(serving_load, 'started', lambda source, *_: started(source, '--max-pixels', '100'))
    assert_error_line(run_tool('benchmark', 'serve', 'stand-in', pictures, '--seconds', '1', '--clients', '1'), (
        'error: there were 0 answers in 1 s ({"detail":"the picture has 40x60 pixels, 100 is the limit here; send a smaller '
        'one"}); give more --seconds, or smaller images'))


def test_pictures_that_cannot_be_served(stand_in_server, tmp_path, run_tool):
    body = encoded(noise(), 'BMP')
    (tmp_path / 'a.bmp').write_bytes(body)
    assert_error_line(run_tool('benchmark', 'serve', 'stand-in', tmp_path),
                      f'error: {tmp_path}/a.bmp: the body is not a PNG or JPEG file; it begins with {body[:8]!r}; image/png '
                      'and image/jpeg are served')


def test_what_is_not_exported(tmp_path, run_tool):
    assert_error_line(run_tool('benchmark', 'serve', tmp_path, tmp_path),
                      f'error: {tmp_path} has no deploy.json; expected a folder that tools/deploy.py wrote, or a file in it')
