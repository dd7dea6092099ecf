"""The lists of networks that are timed together exist; a list that fails does not end the others."""
import json

import pytest
from mmengine.config import Config

from repvgg_seg.benchmark import suites
from repvgg_seg.benchmark.networks import Setting, split_name, stock_config
from repvgg_seg.benchmark.rounds import Measurement
from repvgg_seg.benchmark.suites import SUITES, run_suites


@pytest.mark.parametrize('name', SUITES)
def test_networks_exist(name):
    suite = SUITES[name]
    assert len(set(suite.models)) == len(suite.models) > 1
    for text in suite.models:
        forms, model = split_name(text)
        if 'stock' in forms:
            config = Config.fromfile(model)
            config.merge_from_dict(suite.options or {})
            assert stock_config(config.model).decode_head.type == 'PSPHead'


def test_what_is_written_and_what_fails(tmp_path, monkeypatch):
    settings = []

    def measure(subjects, rounds, warm_up, threads, shared, failures):
        setting = subjects[0].make.args[1]
        settings.append((setting.precision, setting.batch, setting.size, shared))
        if setting.precision == 'fp16':
            raise RuntimeError('conv1x1 failed: Traceback\nCUDA out of memory')
        return [Measurement(subject.name, subject.units, [1.0, 2.0, 3.0], info=dict(flops=10)) for subject in subjects]

    monkeypatch.setattr(suites, 'measure', measure)
    found = list(run_suites(['table1', 'table4'], ['fp32', 'fp16'], Setting(), tmp_path, 2, 1))
    assert found == [('table1_fp32', None), ('table1_fp16', 'CUDA out of memory'), ('table4_fp32', None),
                     ('table4_fp16', 'CUDA out of memory')]
    assert settings[0] == ('fp32', 32, (56, 56), False) and settings[2] == ('fp32', 128, (224, 224), True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'table1_fp32.json', 'table1_fp32.md', 'table4_fp32.json', 'table4_fp32.md', 'table4_fp32.png']
    assert '\nbatch 32, 56x56, fp32, cpu\n' in (tmp_path / 'table1_fp32.md').read_text()
    written = json.loads((tmp_path / 'table4_fp32.json').read_text())
    assert written['setting']['batch'] == 128 and written['rows'][0]['network'] == 'ResNet-50'


@pytest.mark.parametrize('failed', ['plain-run', 'ncnn:plain-run', 'matmul'])
def test_networks_that_a_runtime_cannot_run(failed, tmp_path, monkeypatch):
    def measure(subjects, *args, failures, **kwargs):
        failures[failed] = 'RuntimeError: unknown operator'
        return [Measurement(subject.name, 1, [1.0, 2.0], info=dict(flops=1)) for subject in subjects
                if subject.name != failed]

    monkeypatch.setattr(suites, 'measure', measure)
    found, = run_suites(['runs'], ['fp32'], Setting(), tmp_path, 2, 1)
    if failed != 'ncnn:plain-run':
        assert found == ('runs_fp32', 'RuntimeError: unknown operator') and not list(tmp_path.iterdir())
        return
    assert found == ('runs_fp32', None)
    text = (tmp_path / 'runs_fp32.md').read_text()
    assert text.endswith('\n\nNot timed: ncnn:plain-run (RuntimeError: unknown operator)\n') and '| ncnn:dilated-run |' in text
    assert json.loads((tmp_path / 'runs_fp32.json').read_text())['failures'] == {failed: 'RuntimeError: unknown operator'}


def test_batch_and_size_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(suites, 'measure', lambda subjects, *args, **kwargs: [
        Measurement(subject.name, 1, [1.0, 2.0], info=dict(flops=1)) for subject in subjects])
    list(run_suites(['table6'], ['bf16'], Setting(), tmp_path, 2, 1, batch=3, size=(65, 97)))
    assert 'batch 3, 65x97, bf16, cpu' in (tmp_path / 'table6_bf16.md').read_text()


@pytest.mark.parametrize(('precision', 'setting', 'count'), [
    ('fp32', Setting(), 10), ('fp32', Setting(device='cuda'), 2), ('int8', Setting(), 4)], ids=['cpu', 'gpu', 'int8'])
def test_other_runtimes_are_left_out_where_they_are_not_timed(tmp_path, monkeypatch, precision, setting, count):
    timed = []
    monkeypatch.setattr(suites, 'measure', lambda subjects, *args, **kwargs: timed.extend(subjects) or [
        Measurement(subject.name, 1, [1.0, 2.0], info=dict(flops=1)) for subject in subjects])
    assert list(run_suites(['runs'], [precision], setting, tmp_path, 2, 1)) == [(f'runs_{precision}', None)]
    assert len([subject for subject in timed if subject.name != 'matmul']) == count
    assert ('of a matrix product' in (tmp_path / f'runs_{precision}.md').read_text()) == (precision != 'int8')


def test_a_suite_without_a_network_for_the_precision(tmp_path):
    assert list(run_suites(['table1'], ['int8'], Setting(), tmp_path, 2, 1)) == [
        ('table1_int8', 'no network of this suite is timed in int8 with these settings')]


@pytest.mark.parametrize(('size', 'timed'), [((224, 224), True), ((64, 64), False)], ids=str)
def test_vgg_is_left_out_where_its_linear_layers_do_not_fit(tmp_path, monkeypatch, size, timed):
    monkeypatch.setattr(suites, 'measure', lambda subjects, *args, **kwargs: [
        Measurement(subject.name, 1, [1.0, 2.0], info=dict(flops=1)) for subject in subjects])
    assert list(run_suites(['table4'], ['fp32'], Setting(), tmp_path, 2, 1, size=size)) == [('table4_fp32', None)]
    assert ('VGG-16' in (tmp_path / 'table4_fp32.md').read_text()) == timed
