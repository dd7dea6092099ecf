"""tools/plot_curves.py draws what the runs logged."""
import json

import pytest
from mistakes import assert_error_line

from repvgg_seg.engine import curves


def log(folder, *records):
    path = folder / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))


def unsupported(folder) -> str:
    """What Matplotlib says of a suffix that it does not know."""
    with pytest.raises(ValueError, match='not supported') as raised:
        curves.Figure().savefig(folder / 'c.xyz')
    return str(raised.value)


@pytest.fixture
def runs(tmp_path):
    log(tmp_path / 'a/20260101', dict(loss=3.0, step=20, epoch=1), dict(mIoU=10.0, step=1), dict(loss=9.0, step=40))
    log(tmp_path / 'a/20260102', dict(loss=2.0, step=40))  # Resumed: step 40 was repeated.
    log(tmp_path / 'a/20260103', dict(mIoU=20.0, step=2))  # Resumed at the end of an epoch, which is not iteration 2.
    log(tmp_path / 'b/20260101', dict(loss=1.0, step=20, epoch=1), dict(**{'accuracy/top1': 30.0}, step=1))
    return tmp_path


def test_curves_of_each_run(runs, monkeypatch):
    drawn = []
    savefig = curves.Figure.savefig
    monkeypatch.setattr(curves.Figure, 'savefig', lambda self, *args, **kwargs: drawn.append(self) or savefig(
        self, *args, **kwargs))
    curves.draw_curves([runs / 'a', runs / 'b'], runs / 'c.png')
    assert (runs / 'c.png').read_bytes().startswith(b'\x89PNG')
    left, right = drawn[0].axes
    lines = [[(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
             for axes in (left, right)]
    assert lines == [[('a', [20, 40], [3.0, 2.0]), ('b', [20], [1.0])], [('a', [1, 2], [10.0, 20.0]), ('b', [1], [30.0])]]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ['a', 'b']
    assert right.get_xlabel() == 'epoch'
    assert right.get_ylabel() == 'validation mIoU and accuracy/top1 (%)'


@pytest.mark.parametrize(('run', 'out', 'message'), [
    ('none', 'c.png', '{runs}/none has no */vis_data/scalars.json; expected the work dir of a training run'),
    ('a', 'c', 'cannot write {runs}/c: it has no suffix; expected one such as .png or .pdf'),
    ('a', 'c.xyz', 'cannot write {runs}/c.xyz: {unsupported}'),
])
def test_one_line_for_a_mistake(run_tool, runs, run, out, message):
    line = f'error: {message.format(runs=runs, unsupported=unsupported(runs))}'
    assert_error_line(run_tool('plot_curves', runs / run, '--out', runs / out), line)


def test_too_many_runs(run_tool, runs):
    result = run_tool('plot_curves', *[runs / 'a'] * 19, '--out', runs / 'c.png')
    assert_error_line(result, 'error: got 19 runs, can draw at most 18 in one picture')


def test_a_run_that_began_anew_replaces_the_one_before(runs):
    log(runs / 'a/20260104', dict(loss=5.0, step=20, epoch=1))
    assert curves.read_log(runs / 'a') == [dict(loss=5.0, step=20, epoch=1)]


def test_a_run_interrupted_before_its_first_metric(tmp_path):
    records = [dict(loss=3.0, step=20, epoch=1), dict(mIoU=10.0, step=1)]
    for name, record in zip(('20260101', '20260102'), records):
        log(tmp_path / name, record)
    assert curves.read_log(tmp_path) == records


def test_labels_tell_runs_apart(tmp_path, monkeypatch):
    for name in ('b0/long', 'b0/short', 'b1/long'):
        log(tmp_path / name / '20260101', dict(loss=3.0, step=20, epoch=1))
    drawn = []
    monkeypatch.setattr(curves.Figure, 'legend', lambda self, handles, **kwargs: drawn.extend(handles))
    monkeypatch.chdir(tmp_path / 'b0')
    curves.draw_curves([curves.Path('long'), curves.Path('short'), tmp_path / 'b1/long'], tmp_path / 'c.png')
    assert [line.get_label() for line in drawn] == ['b0/long', 'b0/short', 'b1/long']


def test_names_that_are_given_are_the_labels(runs, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves.Figure, 'legend', lambda self, handles, **kwargs: drawn.extend(handles))
    curves.draw_curves([runs / 'a', runs / 'b'], runs / 'c.png', ['DiracNet', 'ACB'])
    assert [line.get_label() for line in drawn] == ['DiracNet', 'ACB']
