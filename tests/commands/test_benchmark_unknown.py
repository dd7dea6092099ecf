"""repvgg-seg benchmark unknown on drawn streets, with a stand-in for the network: its table, and what cannot be measured."""
import json

import numpy as np
import pytest
import tiny
from mistakes import assert_error_line

from repvgg_seg.benchmark.unknown import METHODS
from repvgg_seg.datasets.toy import CLASSES, write_toy_streets
from repvgg_seg.runtime import predictor


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A folder with files of two precisions, and a config of 8 streets; the stand-in of the network sees classes in red."""
    write_toy_streets(tmp_path / 'streets', dict(train=1, val=8), 48, 64)
    config = tiny.write_segmentor_config(tmp_path / 'tiny.py', tmp_path / 'streets')
    entry = dict(format='onnx', size=None, output='logits')
    info = dict(classes=[name for name, *_ in CLASSES], palette=[list(color) for *_, color in CLASSES], channels='RGB',
                min_size=1, artefacts={'model.fp32.onnx': dict(entry, precision='fp32'),
                                       'model.int8.onnx': dict(entry, precision='int8')})
    folder = tmp_path / 'exported'
    folder.mkdir()
    for name in info['artefacts']:
        (folder / name).touch()
    (folder / 'deploy.json').write_text(json.dumps(info))

    def run(images):
        return (np.arange(len(CLASSES)).reshape(-1, 1, 1) * (images[:, None, :, :, 0] / 100 - 1)).astype(np.float32)

    monkeypatch.setattr(predictor, 'load_file', lambda *_: run)
    return config, folder, info


def test_the_command(run_tool, exported, tmp_path):
    config, folder, _ = exported
    options = ('--abstain', '0.6', '--confidence', '0.3', '--splits', '3', '--block', '2', '--out', tmp_path / 'out.json')
    result = run_tool('benchmark', 'unknown', config, folder / 'model.int8.onnx', folder, *options)
    assert result.code == 0, result.err
    written = json.loads((tmp_path / 'out.json').read_text())
    assert [(row['precision'], row['thresholds']) for row in written['rows']] == [
        (precision, method) for precision in ('int8', 'fp32') for method in METHODS]
    assert all(len(each['outcomes']) == 3 for each in written['measurements'])
    for risk, coverage in (outcome for each in written['measurements'][1::2] for outcome in each['outcomes']):
        assert 0 <= risk < 1 and 0 <= coverage <= 1
    assert '| splits above 0.6 |' in result.out


@pytest.mark.parametrize(('change', 'options', 'message'), [
    (dict(output='labels'), (), '{}/model.fp32.onnx returns class indices without their confidence; export it with --logits'),
    ({}, (), '8 images are 1 block(s) of 10, of which 0.7 is 1; expected blocks on both sides: give a smaller --block, or '
     'another --calibrate'),
    ({}, ('--block', '2'), '--abstain 0.05 needs more than 60 labeled images for a confidence of 90%, there are 6 in the part '
     'on which thresholds are chosen; add images, or allow a larger --abstain or a lower --confidence'),
    ({}, ('--cfg-options', 'test_dataloader.dataset.data_root=nowhere'), 'thresholds are chosen and measured on the labeled '
     'images of test_dataloader, which are not on this machine; set its data_root')])
def test_what_cannot_be_measured(run_tool, exported, change, options, message):
    config, folder, info = exported
    info['artefacts']['model.fp32.onnx'].update(change)
    (folder / 'deploy.json').write_text(json.dumps(info))
    assert_error_line(run_tool('benchmark', 'unknown', config, folder, *options), f'error: {message.format(folder)}')


def test_a_folder_without_exports(run_tool, exported):
    config, folder, info = exported
    (folder / 'deploy.json').write_text(json.dumps(dict(info, artefacts={})))
    assert_error_line(run_tool('benchmark', 'unknown', config, folder),
                      f'error: {folder} has no exported files; export some with tools/deploy.py --formats onnx '
                      'openvino')
