"""test --report: numbers that are those of the test, for every form of a model, compared, and written nowhere that is read."""
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from exports import skip_without
from mistakes import assert_error_line
from PIL import Image
from processes import start_ranks

from repvgg_seg.core.labels import IGNORE
from repvgg_seg.datasets.toy import CLASSES
from repvgg_seg.engine.report.pictures import RED

LAYERS = ('image.jpg', 'label.png', 'prediction.png', 'errors.jpg')


@pytest.fixture
def report_on(run_tool, config, tmp_path):
    """Report on a model: the numbers, and how the command ended."""

    def report(model: Path, name: str = 'report', *options) -> tuple[dict, object]:
        result = run_tool('test', config, model, '--work-dir', tmp_path / 'run', '--report', tmp_path / name, *options)
        assert result.code == 0, result.err
        return json.loads((tmp_path / name / 'report.json').read_text()), result
    return report


def values_of(work_dir: Path) -> dict:
    return json.loads((work_dir / 'test.json').read_text())


def test_report_of_a_checkpoint(report_on, random_checkpoint, tmp_path):
    report, result = report_on(random_checkpoint)
    values = values_of(tmp_path / 'run')
    assert result.out.splitlines()[-1] == (
        f'mIoU {values["mIoU"]:.2f}, mean accuracy {values["mAcc"]:.2f}, pixel accuracy {values["aAcc"]:.2f}; written to '
        f'{tmp_path}/run/test.json, report to {tmp_path}/report/index.html')
    assert {name: f'{report["metrics"][name]:.2f}' for name in ('mIoU', 'mAcc', 'aAcc')} == {
        name: f'{values[name]:.2f}' for name in ('mIoU', 'mAcc', 'aAcc')}
    assert report['mIoU_interval'][0] < report['metrics']['mIoU'] < report['mIoU_interval'][1]
    assert [entry['name'] for entry in report['classes']] == [name for name, _, _ in CLASSES] == list(values['classes'])
    for entry in report['classes']:
        assert values['classes'][entry['name']] == {
            key: None if entry[name] is None else pytest.approx(entry[name], abs=0.005)
            for key, name in (('IoU', 'IoU'), ('Acc', 'accuracy'))}
    labeled = sum(entry['pixels'] for entry in report['classes'])
    assert np.sum(report['confusion']) == labeled == sum(each['pixels'] for each in report['calibration']['bins'])
    assert sum(entry['frequency'] for entry in report['classes']) == pytest.approx(100)
    assert [image['name'] for image in report['images']] == [f'toytown_{index:06}_000000_leftImg8bit.png' for index in range(3)]
    assert sorted(report['worst']) == sorted(report['random']) == [0, 1, 2] and report['against'] is None
    ious = [report['images'][number]['IoU'] for number in report['worst']]
    assert ious == sorted(ious)
    folder = tmp_path / 'report'
    assert {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()} == {
        'index.html', 'report.json', *(f'images/{number:05}_{layer}' for number in range(3) for layer in LAYERS)}


def test_pictures_are_of_the_image_that_they_are_named_after(report_on, run_tool, config, random_checkpoint, streets, tmp_path):
    report, _ = report_on(random_checkpoint, 'report', '--out', tmp_path / 'out')
    for number, image in enumerate(report['images']):
        read = {layer: np.array(Image.open(tmp_path / f'report/images/{number:05}_{layer}')) for layer in LAYERS}
        original = np.array(Image.open(streets / 'leftImg8bit/val/toytown' / image['name']))
        assert abs(read['image.jpg'].astype(int) - original).mean() < 8
        np.testing.assert_array_equal(read['prediction.png'], np.array(Image.open(tmp_path / 'out' / image['name'])))
        label, predicted = read['label.png'], read['prediction.png']
        wrong = (label != predicted) & (label != IGNORE)
        assert wrong.sum() == sum(pixels for actual, found, pixels in image['confusion'] if actual != found)
        red, green = np.moveaxis(read['errors.jpg'].astype(int), 2, 0)[:2]
        assert (red - green)[wrong].mean() > 0.5 * (RED[0] - RED[1]) > 5 * (red - green)[~wrong].mean()


def test_the_page_needs_no_network(report_on, random_checkpoint, tmp_path):
    report_on(random_checkpoint)
    page = (tmp_path / 'report/index.html').read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"|https?://|@import|url\(', page)
    assert len(re.findall('<tr><th scope="row"', page)) == 2 * len(CLASSES)


def test_report_of_the_fused_model_against_the_trained_one(report_on, fuse, config, checkpoint, tmp_path):
    first, _ = report_on(checkpoint, 'first')
    second, _ = report_on(fuse(config, checkpoint), 'second', '--against', tmp_path / 'first/report.json')
    against = second['against']
    assert against['metrics']['mIoU'] == dict(before=first['metrics']['mIoU'], change=0, interval=[0, 0], verdict='undecided')
    assert against['checkpoint'] == str(checkpoint) and against['pictures'] == '../first'
    assert second['calibration']['error'] == pytest.approx(first['calibration']['error'], abs=1e-3)
    assert 'No evidence of a difference.' in (tmp_path / 'second/index.html').read_text()


@pytest.mark.whole
def test_report_of_an_exported_file_against_the_trained_model(report_on, run_tool, config, checkpoint, tmp_path):
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    first, _ = report_on(checkpoint, 'first')
    options = ['--formats', 'onnx', '--size', '48', '64']
    assert run_tool('deploy', config, checkpoint, '--out', tmp_path / 'out', *options).code == 0
    second, result = report_on(tmp_path / 'out/model.fp32.onnx', 'second', '--against', tmp_path / 'first/report.json')
    assert result.out.splitlines()[-1].endswith(f'report to {tmp_path}/second/index.html')
    against = second['against']
    assert against['checkpoint'] == str(checkpoint) and second['checkpoint'] == f'{tmp_path}/out/model.fp32.onnx'
    change = against['metrics']['mIoU']
    assert change['before'] == first['metrics']['mIoU'] and change['change'] == pytest.approx(0, abs=0.1)
    assert change['verdict'] == 'undecided' and len(against['images']) == len(second['images']) == 3
    assert second['calibration'] is None
    assert second['calibration_note'] == 'this model gives labels without probabilities, as exported files do'


def test_tta_has_no_probabilities(report_on, random_checkpoint, tmp_path):
    report, _ = report_on(random_checkpoint, 'report', '--tta')
    assert report['calibration'] is None and report['calibration_note'] == '--tta averages without keeping probabilities'
    assert f'{report["metrics"]["mIoU"]:.2f}' == f'{values_of(tmp_path / "run")["mIoU"]:.2f}'


def test_an_older_report_is_replaced(report_on, random_checkpoint, tmp_path):
    older = tmp_path / 'report/images/00007_label.png'
    older.parent.mkdir(parents=True)
    for path in (older, older.with_name('mine.png'), tmp_path / 'report/index.html'):
        path.write_bytes(b'older')
    report_on(random_checkpoint)
    assert not older.exists() and (tmp_path / 'report/images/mine.png').read_bytes() == b'older'
    assert (tmp_path / 'report/index.html').read_bytes() != b'older'


@pytest.mark.slow
def test_two_processes_count_as_one(report_on, config, random_checkpoint, tmp_path):
    """Of three images one process has two, the other one and a filler."""
    alone, _ = report_on(random_checkpoint, 'alone')
    ranks = start_ranks(tiny.ROOT / 'tools/test.py', config, random_checkpoint, '--work-dir', tmp_path / 'two', '--report',
                        tmp_path / 'both', '--launcher', 'pytorch')
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    both = json.loads((tmp_path / 'both/report.json').read_text())
    assert {**both, 'created': ''} == {**alone, 'created': ''}
    pictures = [{path.name: path.read_bytes() for path in (tmp_path / name / 'images').iterdir()} for name in ('alone', 'both')]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(('options', 'line'), [
    (['--against', 'report.json'], '--against compares a new report with an older one; add --report DIR'),
    (['--report', '{}/r', '--submit', '{}/s'], '--submit reads no labels, which --report needs; leave one of them out'),
    (['--report', '{}/r', '--against', '{}/none.json'], '--against {}/none.json cannot be read (No such file or directory); '
     'expected the report.json that tools/test.py --report writes')], ids=['alone', 'submit', 'absent'])
def test_options_that_do_not_go_together(run_tool, config, random_checkpoint, tmp_path, options, line):
    result = run_tool('test', config, random_checkpoint, '--work-dir', tmp_path / 'run',
                      *(option.format(tmp_path) for option in options))
    assert_error_line(result, f'error: {line.format(tmp_path)}')
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


def test_images_of_another_test_set(run_tool, report_on, config, random_checkpoint, streets, tmp_path):
    report_on(random_checkpoint)
    before = {path: path.read_bytes() for path in (tmp_path / 'report').rglob('*') if path.is_file()}
    split = ['test_dataloader.dataset.data_prefix.img_path=leftImg8bit/train',
             'test_dataloader.dataset.data_prefix.seg_map_path=gtFine/train']
    result = run_tool('test', config, random_checkpoint, '--work-dir', tmp_path / 'run', '--report', tmp_path / 'new',
                      '--against', tmp_path / 'report/report.json', '--cfg-options', *split)
    assert_error_line(result, f'error: --against {tmp_path}/report/report.json has 3 images, the test set has 4: none '
                      'only in the first, toytown_000003_000000_leftImg8bit.png only in the second; compare reports on the '
                      'same images')
    assert not (tmp_path / 'new').exists()
    assert {path: path.read_bytes() for path in (tmp_path / 'report').rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('lost', ['config', 'checkpoint', 'earlier report'])
def test_report_over_what_it_reads(run_tool, report_on, config, random_checkpoint, tmp_path, lost):
    report_on(random_checkpoint)
    out = tmp_path / 'other'
    (out / 'images').mkdir(parents=True)
    config = Path(shutil.copy(config, tmp_path / 'copy.py'))
    read, written = {'config': (config, out / 'index.html'), 'checkpoint': (random_checkpoint, out / 'images/00001_image.jpg'),
                     'earlier report': (tmp_path / 'report/report.json', tmp_path / 'report/report.json')}[lost]
    against = ['--against', read] if lost == 'earlier report' else []
    if against:
        out = read.parent
    else:
        written.symlink_to(read)
    before = read.read_bytes()
    result = run_tool('test', config, random_checkpoint, '--work-dir', tmp_path / 'run', '--report', out, *against)
    assert_error_line(result, f'error: {read} is read, but {written} would be written over it; write to another place')
    assert read.read_bytes() == before


def test_a_test_set_without_labels(run_tool, config, random_checkpoint, tmp_path):
    result = run_tool('test', config, random_checkpoint, '--work-dir', tmp_path / 'run', '--report', tmp_path / 'r',
                      '--cfg-options', 'test_dataloader.dataset.data_prefix.seg_map_path=None',
                      'test_evaluator.format_only=True', f'test_evaluator.output_dir={tmp_path}/out')
    assert_error_line(result, 'error: --report compares predictions with labels, but the test set has none; leave --report out')


def test_classes_are_counted_with_several_metrics(run_tool, config, random_checkpoint, tmp_path):
    path = tmp_path / 'several.py'
    path.write_text(f"_base_ = '{config}'\ntest_evaluator = [dict(type='IoUMetric', format_only=True, "
                    f"output_dir='{tmp_path}/theirs'), dict(type='IoUMetric', iou_metrics=['mIoU'])]\n")
    assert run_tool('test', path, random_checkpoint, '--work-dir', tmp_path / 'run', '--out', tmp_path / 'out').code == 0
    values = values_of(tmp_path / 'run')
    ious = [entry['IoU'] for entry in values['classes'].values() if entry['IoU'] is not None]
    assert np.mean(ious) == pytest.approx(values['mIoU'], abs=0.006)


def test_another_ignored_value(run_tool, config, random_checkpoint, tmp_path):
    arguments = ['test', config, random_checkpoint, '--work-dir', tmp_path / 'run', '--cfg-options',
                 'test_evaluator.ignore_index=0']
    assert run_tool(*arguments).code == 0 and 'classes' not in values_of(tmp_path / 'run')
    assert_error_line(run_tool(*arguments, '--report', tmp_path / 'r'), 'error: --report leaves out pixels of the value 255, '
                      'but test_evaluator.ignore_index is 0; set it to 255')
    assert not (tmp_path / 'r').exists()
