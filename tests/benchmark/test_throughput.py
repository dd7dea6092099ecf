"""Images per second of a predictor that several threads use, with a stand-in: answers are counted and compared."""
import json
import threading
import time

import numpy as np
import pytest
from served import labels_of, stand_in

from repvgg_seg.benchmark import throughput
from repvgg_seg.benchmark.throughput import USES, Rate, Use, run, table


@pytest.mark.parametrize('use', USES, ids=str)
def test_a_use(use):
    threads, sizes = set(), set()

    def slow(images):
        threads.add(threading.get_ident())
        sizes.add(len(images))
        time.sleep(0.01)
        return labels_of(images)

    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8)
    answered, seconds, wrong = run(stand_in(slow), images, labels_of(images), use, 0.2)
    assert len(threads) == use.callers and sizes == {use.batch} and wrong == 0 and seconds >= 0.2
    assert 0.1 * use.callers * use.batch < answered / (seconds / 0.01) <= use.callers * use.batch


def test_wrong_answers_are_counted():
    images = np.zeros((4, 16, 16, 3), np.uint8)
    answered, _, wrong = run(stand_in(lambda images: labels_of(images) ^ 1), images, labels_of(images), Use(2, 1), 0.05)
    assert wrong == answered > 1


def test_table():
    rates = [Rate('a.xml', 'latency', 1, 1, 20, 2, 0), Rate('a.xml', 'throughput', 4, 1, 50, 2, 3)]
    assert table(rates) == [
        {'file': 'a.xml', 'mode': 'latency', 'callers': 1, 'images a call': 1, 'images/s': '10.00', 'times faster': '1.00',
         'wrong': 0},
        {'file': 'a.xml', 'mode': 'throughput', 'callers': 4, 'images a call': 1, 'images/s': '25.00', 'times faster': '2.50',
         'wrong': 3}]


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A folder with a file of a fixed size and one of any, for stand-ins."""
    entry = dict(precision='fp32', output='labels')
    artefacts = {'model.fp32.xml': dict(entry, size=[16, 24]), 'model.fp32.onnx': dict(entry, size=None)}
    (tmp_path / 'deploy.json').write_text(json.dumps(dict(
        classes=['a'], palette=[[0, 0, 0]], channels='RGB', min_size=16, artefacts=artefacts)))
    loaded = []

    def load(path, threads, verify, throughput):
        loaded.append((path.name, threads, throughput))
        return stand_in(size=(16, 24) if path.suffix == '.xml' else None)

    monkeypatch.setattr(throughput, 'load', load)
    monkeypatch.setattr(throughput, 'PAUSE', 0)
    return tmp_path, loaded


def test_every_mode(exported):
    folder, loaded = exported
    rates = throughput.measure([str(folder)], (16, 24), 0.01, 2)
    assert loaded == [('model.fp32.xml', 2, False), ('model.fp32.xml', 2, True), ('model.fp32.onnx', 2, False)]
    assert [(rate.mode, rate.callers, rate.batch) for rate in rates] == [
        (mode, *use) for mode in ('latency', 'throughput', 'latency') for use in USES]
    assert all(rate.images > 0 and rate.wrong == 0 for rate in rates)


def test_another_size(exported):
    with pytest.raises(ValueError) as error:
        throughput.measure([str(exported[0])], (16, 25), 0.01, 2)
    assert str(error.value) == f'{exported[0]}/model.fp32.xml takes 16x24 only; give --size 16 24'
