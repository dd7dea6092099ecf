"""What can be exported and what cannot, and what an export leaves behind."""
import ast
import errno
import json
import os
import re
from dataclasses import FrozenInstanceError
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from exports import picture, skip_without
from helpers import assert_relatively_close, randomize
from mistakes import assert_error_line
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from repvgg_seg.deploy.comparison import as_batch, logits_of
from repvgg_seg.deploy.exporting import export
from repvgg_seg.deploy.formats import FORMATS, PRECISIONS, ExportRequest
from repvgg_seg.deploy.fusing import fuse_for_inference
from repvgg_seg.deploy.plan import DeployPlan
from repvgg_seg.runtime.predictor import load, sha256_of

onnx = pytest.importorskip('onnx', reason='needs the extra [export]')
skip_without('onnxscript', 'onnxruntime', 'openvino')
DEPLOY = Path(__file__).parents[2] / 'repvgg_seg/deploy'


def test_fixed_size_bgr_and_logits(run_tool, config, random_checkpoint, random_segmentor, tmp_path):
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', '--size', '56', '72',
                      '--channels', 'BGR', '--logits')
    assert result.code == 0, result.err
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {'model.fp32.onnx', 'deploy.json'}
    predictor = load(tmp_path / 'out')
    assert predictor.size == (56, 72) and predictor.channels == 'BGR'
    assert '1x3x56x72' in result.out, 'training form and file are timed at the same size'
    image = picture(56, 72)
    expected = logits_of(random_segmentor, as_batch(random_segmentor, image))[0]
    assert_relatively_close(torch.from_numpy(predictor(image)), expected, 1e-4)


@pytest.mark.parametrize(('options', 'message'), [
    (['--formats', 'onnx', '--precision', 'bf16'], 'onnx cannot be written in bf16; --formats openvino or pt2 or ncnn or '
                                                 'aotinductor can'),
    (['--formats', 'pth', 'openvino', '--precision', 'bf16'], 'pth can be written in fp32, not in bf16'),
    (['--formats', 'onnx', '--size', '40', '64'],
     "--size 40 64 is too small for the head's pyramid; expected at least 41 41"),
])
def test_requests_that_cannot_be_met(run_tool, config, random_checkpoint, tmp_path, options, message, monkeypatch):
    monkeypatch.setattr('repvgg_seg.deploy.formats.request.native_precisions', lambda: list(PRECISIONS))
    assert_error_line(run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', *options), f'error: {message}')
    assert not list(tmp_path.iterdir())


def test_what_exports_refuse_can_still_be_fused(run_tool, config, tmp_path):
    stock = tmp_path / 'stock.py'
    stock.write_text(f"_base_ = '{config}'\nmodel = dict(decode_head=dict(type='PSPHead'), data_preprocessor=dict("
                     "test_cfg=dict(size_divisor=32)))\n")
    loaded = Config.fromfile(stock)
    init_default_scope('mmseg')
    torch.save(randomize(MODELS.build(loaded.model)).state_dict(), tmp_path / 'stock.pth')
    arguments = [stock, tmp_path / 'stock.pth', '--out', tmp_path / 'out']
    assert run_tool('deploy', *arguments).code == 0
    assert_error_line(run_tool('deploy', *arguments, '--formats', 'pt2'), (
        "error: images that the preprocessor pads cannot be exported, got test_cfg={'size_divisor': 32}; remove "
        'data_preprocessor.test_cfg'))


def test_out_must_be_a_folder_that_can_be_replaced(run_tool, config, random_checkpoint, tmp_path, monkeypatch):
    (tmp_path / 'file.onnx').touch()
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'file.onnx')
    assert_error_line(result, f'error: {tmp_path / "file.onnx"} is a file; expected a folder to write')
    (tmp_path / 'out').mkdir()
    monkeypatch.setattr(os, 'access', lambda path, mode: path != tmp_path / 'out')
    assert_error_line(run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out'),
                      f'error: folder {tmp_path / "out"} cannot be written; choose another one')


def test_a_link_to_the_folder_stays_one(run_tool, config, random_checkpoint, tmp_path):
    (tmp_path / 'v1').mkdir()
    (tmp_path / 'current').symlink_to('v1')
    for _ in range(2):
        assert run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'current').code == 0
    assert (tmp_path / 'current').is_symlink() and (tmp_path / 'v1/deploy.json').is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['current', 'v1']


def test_every_format_and_precision_can_be_asked_for(run_tool):
    text = run_tool('deploy', '--help').out
    assert f'--formats {{{",".join(FORMATS)}}}' in text and f'--precision {{{",".join(PRECISIONS)}}}' in text


def test_older_torch_cannot_export(run_tool, config, random_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.6.0+cpu')
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'pth', 'onnx')
    assert_error_line(result, (
        'error: torch 2.6.0+cpu cannot export these models; use 2.14 or newer, with which that is tested, or leave --formats '
        'out'))
    assert run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out').code == 0


def test_missing_package(run_tool, config, random_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('repvgg_seg.deploy.formats.request.find_spec', lambda name: None if name == 'openvino' else True)
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'openvino')
    assert_error_line(result, "error: openvino needs openvino; run: pip install 'repvgg_seg[openvino]'")


def test_adaptive_pooling_needs_a_size(run_tool, config, tmp_path):
    stock = tmp_path / 'stock.py'
    stock.write_text(f"_base_ = '{config}'\nmodel = dict(decode_head=dict(type='PSPHead'))\n")
    loaded = Config.fromfile(stock)
    init_default_scope('mmseg')
    torch.save(randomize(MODELS.build(loaded.model)).state_dict(), tmp_path / 'stock.pth')
    arguments = [stock, tmp_path / 'stock.pth', '--formats', 'pt2', '--out', tmp_path / 'out']
    assert_error_line(run_tool('deploy', *arguments), (
        'error: PSPHead pools adaptively, which can be exported for one size only; give --size H W, or use '
        'repvgg_seg.FactorizedPSPHead in its place, which takes its weights'))
    assert run_tool('deploy', *arguments, '--size', '48', '64').code == 0


def test_the_config_is_read_once(config, random_segmentor, tmp_path):
    loaded = Config.fromfile(config)
    plan = DeployPlan.of(loaded, ExportRequest(('pt2', ), size=(48, 64)))
    loaded._cfg_dict.clear()
    artifacts, info = export(plan, random_segmentor, fuse_for_inference(random_segmentor), tmp_path)
    assert list(artifacts) == ['model.fp32.pt2'] and os.listdir(tmp_path) == ['model.fp32.pt2']
    assert (info['dilation'], len(info['classes']), info['task']) == ('full', 12, 'segmentation')
    with pytest.raises(FrozenInstanceError):
        plan.classes = []


@pytest.mark.parametrize('module', ['artifacts', 'comparison', 'exporting', 'graph', 'ncnn_program', 'programs', 'quantization',
                                    'undilation', *(f'formats/{path.stem}' for path in DEPLOY.glob('formats/*.py'))])
def test_what_follows_the_plan_knows_no_config(module):
    tree = ast.parse((DEPLOY / f'{module}.py').read_text())
    assert 'config' not in {node.id if isinstance(node, ast.Name) else node.arg for node in ast.walk(tree)
                            if isinstance(node, ast.Name | ast.arg)}


def test_a_wrong_export_is_refused_and_leaves_the_older_one(run_tool, config, random_checkpoint, tmp_path, monkeypatch):
    from repvgg_seg.deploy.formats import format
    out = tmp_path / 'out'
    assert run_tool('deploy', config, random_checkpoint, '--out', out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    zeros = lambda images: np.zeros((1, 12, *images.shape[1:3]), np.float32)  # noqa: E731
    monkeypatch.setattr(format, 'load_file', lambda path, precision: zeros)
    result = run_tool('deploy', config, random_checkpoint, '--out', out, '--formats', 'pt2', '--size', '48', '64')
    assert_error_line(result, re.compile(
        r'error: model\.fp32\.pt2 differs from the trained model: logits by \d\.\de[+-]\d\d of the largest \(limit 0\.001\), '
        r'\d+\.\d{3}% of the pixels \(limit 0\.1%\); nothing was written'))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize('method', ['write_bytes', 'write_text'])
def test_a_full_disk_leaves_the_older_folder(run_tool, config, random_checkpoint, tmp_path, monkeypatch, method):
    out = tmp_path / 'out'
    assert run_tool('deploy', config, random_checkpoint, '--out', out).code == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(path, content, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, method, fail)
    assert_error_line(run_tool('deploy', config, random_checkpoint, '--out', out), (
        f'error: {out} cannot be written: the disk is full or the quota spent; what was there before is unharmed. Make room, '
        'or choose another folder'))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.situation('Tracebacks', 'deploy.py with a URL or ~/x.pth as CHECKPOINT', before='a traceback', now='it works')
@pytest.mark.parametrize('form', ['url', 'home'])
def test_checkpoints_that_are_no_plain_paths(run_tool, config, random_checkpoint, streets, tmp_path, monkeypatch, form):
    monkeypatch.setenv('HOME', str(random_checkpoint.parent))
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = partial(SimpleHTTPRequestHandler, directory=str(random_checkpoint.parent))
    with ThreadingHTTPServer(('localhost', 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        source = {'url': f'http://localhost:{server.server_port}/random.pth', 'home': '~/random.pth'}[form]
        for tool, arguments in (('deploy', ['--out', tmp_path / 'out']), ('test', ['--work-dir', tmp_path / 'test']),
                                ('predict', [streets / 'leftImg8bit/val', '--out', tmp_path / 'predicted'])):
            result = run_tool(tool, config, source, *arguments)
            assert result.code == 0, result.err
        server.shutdown()
    info = json.loads((tmp_path / 'out/deploy.json').read_text())
    assert info['source'] == 'random.pth' and info['source_sha256'] == sha256_of(random_checkpoint)


@pytest.mark.situation('Tracebacks', 'deploy.py with a PyTorch without oneDNN', before='a traceback', now='it works')
def test_without_onednn(run_tool, config, random_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', None, raising=False)
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out')
    assert result.code == 0, result.err
    assert_error_line(run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'pt2',
                               '--precision', 'bf16'),
                      'error: this CPU cannot compute in bf16, so the file could not be checked here; use --precision fp32 or '
                      'int8, or export on a CPU that can')
