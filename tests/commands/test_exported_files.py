"""Exported segmentors give the trained model's answer, at any size, without the packages that they were trained with."""
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from exports import FLOATS, OPERATORS, check_for_strict_readers, expected_labels, picture, skip_without
from mistakes import assert_error_line
from mmengine.config import Config

from repvgg_seg.benchmark.deployed_forms import subjects
from repvgg_seg.core.errors import UserError
from repvgg_seg.runtime.backends import parts_of
from repvgg_seg.runtime.description import FIELDS
from repvgg_seg.runtime.predictor import load, sha256_of, windows
from repvgg_seg.serving.running import load_segmentor

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
skip_without('onnxscript', 'onnxruntime', 'openvino')
pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
ARTEFACTS = ('model.fp32.onnx', *(f'model.{precision}.{suffix}' for suffix in ('xml', 'pt2') for precision in FLOATS))
SIZE_OPERATORS = {'Abs', 'Gather', 'Greater', 'Less', 'Max', 'Mul', 'Pad', 'Range', 'Reciprocal', 'ReduceSum', 'Shape', 'Slice',
                  'Squeeze', 'Unsqueeze'}  # With which files for any size compute the weights of their pyramid.
SIZES = ((48, 64), (65, 97), (100, 67), (113, 113))


@pytest.fixture(scope='session')
def artefacts(config, random_checkpoint, tmp_path_factory) -> Path:
    """All formats and precisions, for any size."""
    folder = tmp_path_factory.mktemp('export') / 'artefacts'
    command = [sys.executable, 'tools/deploy.py', config, random_checkpoint, '--out', folder, '--formats', 'pth', 'onnx',
               'openvino', 'pt2', '--precision', *FLOATS]
    result = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    line = r'model\.fp32\.onnx +logits differ by \S+, 0\.0000% of the pixels change class; \S+ MB\n'
    assert re.search(line, result.stdout) and 'tools/benchmark.py artefacts' in result.stdout
    return folder


def test_folder_and_sidecar(artefacts):
    names = {path.name for path in artefacts.iterdir()}
    assert names == {*ARTEFACTS, *(f'model.{precision}.bin' for precision in FLOATS), 'model.pth', 'config.py', 'deploy.json'}
    info = json.loads((artefacts / 'deploy.json').read_text())
    assert set(info['artefacts']) == set(ARTEFACTS)
    assert len(info['classes']) == len(info['palette']) == 12 and info['min_size'] == 41
    assert (info['channels'], info['mean'][0], info['dilation']) == ('RGB', 123.675, 'full')
    for name, entry in info['artefacts'].items():
        limits = (1e-5, 0) if entry['precision'] == 'fp32' else (0.1, 0.05)
        assert entry['logit_difference'] <= limits[0] and entry['changed'] <= limits[1], name
        assert entry['size'] is None and entry['output'] == 'labels'


def row_of(name: str) -> str:
    """Row of the table of tensors in docs/deployment.md."""
    table = (ROOT / 'docs/deployment.md').read_text(encoding='utf-8').partition('### Tensors')[2]
    return next(line for line in table.splitlines() if f'`{name}`' in line.partition(' | ')[0])


def test_tensors_are_those_of_the_table(artefacts):
    import openvino
    model = onnx.load(artefacts / 'model.fp32.onnx')
    opset, = (entry.version for entry in model.opset_import if not entry.domain)
    assert row_of('onnx').endswith(f'| opset {opset} and IR {model.ir_version}, or `--opset` |')
    tensors = [(value.name, onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
                len(value.type.tensor_type.shape.dim)) for value in (*model.graph.input, *model.graph.output)]
    assert tensors == [('images', 'uint8', 4), ('labels', 'uint8', 3)]
    read = openvino.Core().read_model(artefacts / 'model.fp32.xml')
    ports = [(port.any_name, port.element_type.to_string(), len(port.partial_shape)) for port in (*read.inputs, *read.outputs)]
    assert ports == [('images', 'u8', 4), ('labels', 'u8', 3)]
    version = re.search(r'<net [^>]*version="(\d+)"', (artefacts / 'model.fp32.xml').read_text())[1]
    assert f'| IR {version}; ' in row_of('openvino')
    for name in ('onnx', 'openvino'):
        assert '`images`: uint8 (N, H, W, C) | `labels`: uint8 (N, H, W)' in row_of(name)


@pytest.mark.situation('Silently wrong', 'threads share a predictor, as in every web server',
                       before='with OpenVINO 435 of 480 answers were those of other images', now='the answers of one thread')
@pytest.mark.parametrize('name', ['model.fp32.onnx', 'model.fp32.xml', 'model.fp32.pt2'])
def test_threads_may_share_a_predictor(artefacts, name):
    predictor = load(artefacts / name)
    images = [picture(48, 64, seed) for seed in range(16)]
    expected = [predictor(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for found, labels in zip(pool.map(predictor, images * 10), expected * 10):
            np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize('name', ARTEFACTS)
def test_a_batch_gives_the_labels_of_single_calls(artefacts, name):
    predictor = load(artefacts / name)
    images = [picture(65, 97, seed) for seed in range(3)]
    np.testing.assert_array_equal(predictor.batch(images), [predictor(image) for image in images])


@pytest.mark.situation('Tracebacks', 'Ctrl-C or SIGTERM in a process that had loaded two OpenVINO models',
                       before='a segmentation fault: a plugin of OpenVINO had freed the stack of signal handlers',
                       now='the signal is handled')
def test_signals_after_two_predictors(artefacts):
    script = '''
import faulthandler, signal, sys
from repvgg_seg.runtime.predictor import load
faulthandler.enable()  # Which has signals handled on a stack of their own, as other packages do.
first, second = load(sys.argv[1]), load(sys.argv[1])
del first
del second
signal.signal(signal.SIGTERM, lambda *_: print('handled'))
signal.raise_signal(signal.SIGTERM)
'''
    result = subprocess.run([sys.executable, '-c', script, artefacts / 'model.fp32.xml'], cwd=ROOT,
                            capture_output=True, text=True, timeout=90)
    assert (result.returncode, result.stdout) == (0, 'handled\n')


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('name', ARTEFACTS)
def test_agrees_at_awkward_sizes(artefacts, random_segmentor, name, size):
    predictor = load(artefacts / name)
    images = [picture(*size, seed) for seed in range(3)]
    expected = np.stack([expected_labels(random_segmentor, image) for image in images])
    assert len(np.unique(expected)) > 3, 'answers of one class show nothing'
    for batch_size in (1, 3):
        outputs = [predictor.run(np.stack(images[first:first + batch_size])) for first in range(0, 3, batch_size)]
        labels = np.concatenate(outputs)
        assert labels.dtype == np.uint8 and labels.shape == (3, *size)
        assert (labels != expected).mean() <= (1e-3 if 'fp32' in name else 0.08)


def test_a_tile_that_covers_the_image_changes_nothing(artefacts):
    predictor = load(artefacts / 'model.fp32.onnx')
    image = picture(100, 130)
    np.testing.assert_array_equal(predictor(image), predictor(image, tile=(100, 130)))
    tiled = predictor(image, tile=(80, 96), overlap=40, batch_size=4)
    for rows in windows(100, 80, 40):
        for columns in windows(130, 96, 40):
            window = predictor(image[rows.start:rows.stop, columns.start:columns.stop])
            np.testing.assert_array_equal(tiled[rows.first:rows.end, columns.first:columns.end], window[
                rows.first - rows.start:rows.end - rows.start, columns.first - columns.start:columns.end - columns.start])


def test_one_convolution_a_block_and_no_branches(artefacts, random_segmentor):
    operators = Counter(node.op_type for node in onnx.load(artefacts / 'model.fp32.onnx').graph.node)
    blocks = 1 + sum(len(stage) for stage in random_segmentor.backbone.stages)
    # The head: a 1x1 for each scale, the bottleneck, the classifier.
    scales = len(random_segmentor.decode_head.pool_scales)
    assert operators['Conv'] == blocks + scales + 1 + 1
    assert operators['Relu'] == blocks + scales + 1
    assert not {'BatchNormalization', 'Dropout'} & set(operators)
    assert set(operators) == OPERATORS | SIZE_OPERATORS
    # A sum of branches adds two results of convolutions; the pyramid is added to one.
    graph = onnx.load(artefacts / 'model.fp32.onnx').graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    sums = [node for node in graph.node if node.op_type == 'Add' and 'Conv' in [made_by.get(name) for name in node.input]]
    assert len(sums) == 1


def test_what_strict_readers_expect(artefacts):
    check_for_strict_readers(artefacts / 'model.fp32.onnx', ['batch', 'height', 'width'])


def test_opset(config, random_checkpoint, run_tool, tmp_path):
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', 'openvino',
                      '--opset', '15', '--size', '48', '64')
    assert result.code == 0, result.err
    entries = json.loads((tmp_path / 'out/deploy.json').read_text())['artefacts']
    assert {name: entry['opset'] for name, entry in entries.items()} == {'model.fp32.onnx': 15, 'model.fp32.xml': None}
    model = onnx.load(tmp_path / 'out/model.fp32.onnx')
    assert [(each.domain, each.version) for each in model.opset_import] == [('', 15)] and model.ir_version == 8


def test_a_file_alone(artefacts, config, random_checkpoint, streets, run_tool, tmp_path):
    alone = tmp_path / 'renamed.onnx'
    shutil.copy(artefacts / 'model.fp32.onnx', alone)
    info = json.loads((artefacts / 'deploy.json').read_text())
    description = json.loads({each.key: each.value for each in onnx.load(alone).metadata_props}['repvgg_seg'])
    entry = {key: value for key, value in info['artefacts']['model.fp32.onnx'].items() if key not in ('bytes', 'sha256')}
    assert description == {**{field: info[field] for field in FIELDS}, 'artefact': entry}
    assert description['artefact']['opset'] == 18
    assert description['source_sha256'] == sha256_of(random_checkpoint) and description['classes'][0]
    image = picture(65, 97)
    np.testing.assert_array_equal(load(alone)(image), load(artefacts / 'model.fp32.onnx')(image))
    assert load_segmentor(alone, threads=1, trust=False).classes == tuple(info['classes'])
    forms = [subject.name for subject in subjects(Config.fromfile(config), str(random_checkpoint), alone, (48, 64), 1)]
    assert len(forms) == 4 and forms[-1] == 'ONNX Runtime, fp32'
    for arguments in (['test', config, alone, '--work-dir', tmp_path / 'work'],
                      ['predict', config, alone, streets / 'leftImg8bit/val', '--out', tmp_path / 'pictures', '--labels-only']):
        result = run_tool(*arguments)
        assert result.code == 0, result.err
    assert len([*(tmp_path / 'pictures').iterdir()]) == 3


WITHOUT = """
import sys
for name in {blocked}:
    sys.modules[name] = None
import numpy as np
from repvgg_seg.runtime.predictor import load, sha256_of, windows
from repvgg_seg.core.errors import UserError
image = np.random.default_rng(0).integers(0, 256, (65, 97, 3), np.uint8)
labels = load({path!r}, threads=1)(image)
np.save({out!r}, labels)
"""


@pytest.mark.parametrize('name', ['model.fp32.onnx', 'model.fp32.xml', 'model.fp32.pt2'])
def test_runs_without_what_it_was_trained_with(artefacts, random_segmentor, name, tmp_path):
    backends = {'onnx': 'onnxruntime', 'xml': 'openvino', 'pt2': 'torch'}
    needed = backends.pop(name.rpartition('.')[2])
    blocked = ['mmengine', 'mmseg', 'mmcv', 'mmpretrain', 'cv2', 'PIL', 'rich', *backends.values()]
    assert needed not in blocked
    for part in parts_of(artefacts / name):  # The file alone, without deploy.json.
        shutil.copy(part, tmp_path)
    code = WITHOUT.format(blocked=blocked, path=str(tmp_path / name), out=str(tmp_path / 'labels.npy'))
    subprocess.run([sys.executable, '-c', code], check=True, timeout=600)
    np.testing.assert_array_equal(np.load(tmp_path / 'labels.npy'), expected_labels(random_segmentor, picture(65, 97)))


@pytest.mark.parametrize('name', ['model.fp32.onnx', 'model.fp32.xml', 'model.fp32.pt2'])
def test_metrics_and_pictures_of_an_exported_file(run_tool, config, random_checkpoint, artefacts, streets, tmp_path, name):
    metrics = []
    trust = ['--trust-checkpoint'] if name.endswith('.pt2') else []
    for model in (random_checkpoint, artefacts / name):
        assert run_tool('test', config, model, '--work-dir', tmp_path, *trust).code == 0
        values = json.loads((tmp_path / 'test.json').read_text())
        metrics.append({key: values[key] for key in ('mIoU', 'mAcc', 'aAcc')})
    assert metrics[0] == metrics[1] and metrics[0]['aAcc'] > 0
    images = streets / 'leftImg8bit/val'
    for model, pictures in ((random_checkpoint, 'trained'), (artefacts / name, 'exported')):
        assert run_tool('predict', config, model, images, '--out', tmp_path / pictures, *trust).code == 0
    pictures = sorted(path.name for path in (tmp_path / 'trained').iterdir())
    assert len(pictures) == 6
    for picture_name in pictures:
        assert (tmp_path / 'trained' / picture_name).read_bytes() == (tmp_path / 'exported' / picture_name).read_bytes()


def test_report_of_an_exported_file(run_tool, config, random_checkpoint, artefacts, tmp_path):
    numbers, earlier = [], []
    for model in (random_checkpoint, artefacts / 'model.fp32.onnx'):
        folder = tmp_path / model.stem
        assert run_tool('test', config, model, '--work-dir', tmp_path / 'run', '--report', folder, *earlier).code == 0
        numbers.append(json.loads((folder / 'report.json').read_text()))
        earlier = ['--against', folder / 'report.json']
    trained, exported = numbers
    assert exported['metrics'] == trained['metrics'] and exported['confusion'] == trained['confusion']
    assert trained['calibration'] and exported['calibration'] is None
    page = (tmp_path / 'model.fp32/index.html').read_text()
    assert 'No reliability diagram: this model gives labels without probabilities, as exported files do.' in page
    assert 'No evidence of a difference.' in page


@pytest.mark.parametrize(('options', 'message'), [
    (['--tta'], 'an exported file cannot be tested with --tta; give the training checkpoint or the fused weights'),
    (['--launcher', 'pytorch'], 'an exported file is tested by one process; leave --launcher out'),
    (['--cfg-options', 'test_dataloader.dataset.type=repvgg_seg.CityscapesDataset'],
     "the exported segmentor and the test set have different classes: 'wall', 'traffic light', 'rider', 'truck', 'bus' and 2 "
     'more only in the second; give the config that it was trained with'),
])
def test_exported_files_and_wrong_options(run_tool, config, artefacts, tmp_path, options, message):
    assert_error_line(run_tool('test', config, artefacts / 'model.fp32.onnx', '--work-dir', tmp_path, *options),
                      f'error: {message}')


@pytest.mark.situation('Hostile or broken files', 'a .pt2 file, which is a program, is given as CHECKPOINT',
                       before='its code could run', now='one line, unless --trust-checkpoint is there')
@pytest.mark.parametrize('tool', ['test', 'predict', 'benchmark'])
def test_a_program_needs_trust(run_tool, config, random_checkpoint, artefacts, streets, tmp_path, tool, monkeypatch):
    monkeypatch.setattr(torch.export, 'load', lambda path: pytest.fail('it was read'))
    arguments = {'test': [config, artefacts / 'model.fp32.pt2', '--work-dir', tmp_path],
                 'predict': [config, artefacts / 'model.fp32.pt2', streets / 'leftImg8bit/val', '--out', tmp_path],
                 'benchmark': ['artefacts', config, random_checkpoint, artefacts, '--size', '48', '64']}[tool]
    assert_error_line(run_tool(tool, *arguments), (
        f'error: {artefacts / "model.fp32.pt2"} is a program, which can run any code; if you know who made it, add '
        '--trust-checkpoint, else use another format'))


@pytest.mark.situation('Silently wrong', 'a file of a fused or exported folder was changed or swapped',
                       before='test, predict and benchmark took it',
                       now='one line, unless --trust-checkpoint is there')
@pytest.mark.parametrize('changed', ['model.pth', 'model.fp32.onnx', 'model.fp32.bin'])
def test_changed_files_are_noticed_by_the_tools(run_tool, config, artefacts, tmp_path, changed):
    folder = tmp_path / 'artefacts'
    shutil.copytree(artefacts, folder)
    path = folder / changed
    path.write_bytes(path.read_bytes() + b' ')
    source = {'model.pth': folder, 'model.fp32.bin': path.with_suffix('.xml')}.get(changed, path)
    owner = path if changed == 'model.pth' else source
    info = json.loads((folder / 'deploy.json').read_text())
    recorded = info['files'].get(changed) or info['artefacts'][owner.name]['sha256']
    found = sha256_of(owner)
    assert_error_line(run_tool('test', config, source, '--work-dir', tmp_path), (
        f'error: {owner} is not the file that was exported: its sha256 begins with {found[:12]}, the one in deploy.json with '
        f'{recorded[:12]}; copy or export it again, or load it as it is with --trust-checkpoint, in Python with '
        'load(..., verify=False)'))
    assert run_tool('test', config, source, '--work-dir', tmp_path, '--trust-checkpoint').code == (2 * ('onnx' in changed))


@pytest.mark.situation('Hostile or broken files', 'exported files name operators that the backend does not have',
                       before='shown by no test', now='one line: nothing is searched for or loaded')
@pytest.mark.parametrize(('name', 'old', 'new'), [
    ('model.fp32.xml', b'type="Convolution" version="opset1"', b'type="Intruder" version="extension"'),
    ('model.fp32.onnx', b'Conv', b'Evil')])
def test_operators_that_a_backend_does_not_have(artefacts, tmp_path, name, old, new):
    folder = tmp_path / 'artefacts'
    shutil.copytree(artefacts, folder)
    content = (folder / name).read_bytes()
    assert old in content
    (folder / name).write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=f'^{re.escape(str(folder / name))} cannot be loaded by .*; copy or export it again$'):
        load(folder / name, verify=False)


@pytest.mark.situation('Hostile or broken files', 'exported files that are cut short, their sha256 not recorded',
                       before='a traceback', now='one line that names the file')
@pytest.mark.parametrize('share', [0, 0.01, 0.3, 0.9])
@pytest.mark.parametrize('name', ['model.fp32.onnx', 'model.fp32.xml', 'model.fp32.bin', 'model.fp32.pt2'])
def test_truncated_files(artefacts, tmp_path, name, share):
    folder = tmp_path / 'artefacts'
    shutil.copytree(artefacts, folder)
    info = json.loads((folder / 'deploy.json').read_text())
    for entry in info['artefacts'].values():
        del entry['sha256']
    (folder / 'deploy.json').write_text(json.dumps(info))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:int(share * len(content))])
    path = (folder / name).with_suffix('.xml') if name.endswith('.bin') else folder / name
    with pytest.raises(UserError, match=f'^{re.escape(str(path))} cannot be loaded by .*; copy or export it again$'):
        load(path)


@pytest.mark.situation('Silently wrong', 'a predictor is used in processes that were forked after it was loaded',
                       before='shown by no test', now='the answers of one process; with ncnn one line')
@pytest.mark.parametrize('name', ['model.fp32.onnx', 'model.fp32.xml', 'model.fp32.pt2'])
def test_forked_processes_may_share_a_predictor(artefacts, name):
    script = """
import multiprocessing, sys
import numpy as np
from repvgg_seg.runtime.predictor import load
predictor = load(sys.argv[1], threads=2)
images = [np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8) for seed in range(4)]
expected = [predictor(image) for image in images]
def answer(index):
    return predictor(images[index])
with multiprocessing.get_context('fork').Pool(2) as pool:
    for index, labels in enumerate(pool.map(answer, [0, 1, 2, 3] * 4)):
        assert (labels == expected[index % 4]).all(), index
"""
    result = subprocess.run([sys.executable, '-c', script, str(artefacts / name)], cwd=ROOT,
                            capture_output=True, text=True, timeout=90)
    assert result.returncode == 0, result.stderr[-2000:]
