"""tools/test.py, tools/deploy.py and tools/predict.py on a trained checkpoint and on the fused folder."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mistakes import assert_error_line
from PIL import Image

from repvgg_seg.datasets.toy import CLASSES

BRANCH = ('conv.weight', 'norm.weight', 'norm.bias', 'norm.running_mean', 'norm.running_var')  # Tensors of a 3x3 branch.


@pytest.fixture
def fused(fuse, config, checkpoint) -> Path:
    return fuse(config, checkpoint)


def metrics(work_dir: Path) -> dict:
    return {key: value for key, value in json.loads((work_dir / 'test.json').read_text()).items()
            if key in ('mIoU', 'mAcc', 'aAcc')}


def test_deploy_writes_a_plain_checkpoint_and_reports(run_tool, config, checkpoint, tmp_path):
    folder = tmp_path / 'fused'
    result = run_tool('deploy', config, checkpoint, '--out', folder)
    for pattern in (r'agreement on 3 real image\(s\): logits differ by \S+ of the largest, 0\.0000%',
                    r'parameters +[\d,]+ -> +[\d,]+', r'file \(MB\)', r'time \(ms\).*x faster',
                    r'Wrote config\.py, deploy\.json, model\.pth to '):
        assert re.search(pattern, result.out), result.out
    assert {path.name for path in folder.iterdir()} == {'model.pth', 'config.py', 'deploy.json'}
    assert not list(tmp_path.glob('.*'))
    loaded = torch.load(folder / 'model.pth', weights_only=True)
    assert not [key for key in loaded['state_dict'] if 'running_mean' in key or 'auxiliary_head' in key or 'branch' in key]
    assert loaded['meta']['dataset_meta']['classes'] == [name for name, _, _ in CLASSES]
    report = json.loads((folder / 'deploy.json').read_text())
    assert report['logit_difference'] < 1e-4 and report['parameters_after'] < report['parameters_before']


def test_fused_model_scores_as_the_trained_one(run_tool, config, checkpoint, fused, tmp_path):
    for name, model in (('trained', checkpoint), ('fused', fused)):
        result = run_tool('test', config, model, '--work-dir', tmp_path / name)
        assert result.code == 0 and re.search(r'mIoU \S+, mean accuracy \S+, pixel accuracy \S+;', result.out)
        assert all(class_name in result.out + result.err for class_name, _, _ in CLASSES)
    assert metrics(tmp_path / 'trained') == metrics(tmp_path / 'fused')
    assert metrics(tmp_path / 'trained')['aAcc'] > 0


def test_tta_averages_over_the_mirror(run_tool, config, checkpoint, tmp_path, monkeypatch):
    from mmseg.models import EncoderDecoder
    batches = []
    predict = EncoderDecoder.predict
    monkeypatch.setattr(EncoderDecoder, 'predict',
                        lambda self, inputs, samples=None: batches.append(inputs) or predict(self, inputs, samples))
    assert run_tool('test', config, checkpoint, '--tta', '--work-dir', tmp_path).code == 0
    assert len(batches) == 6
    torch.testing.assert_close(batches[1], batches[0].flip(3))


def test_out_writes_class_indices_and_submit_label_ids(run_tool, config, checkpoint, streets, tmp_path):
    assert run_tool('test', config, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / 'out').code == 0
    for label in streets.glob('gtFine/val/*/*'):
        label.rename(label.with_suffix('.hidden'))  # The server's test set has no labels.
    try:
        result = run_tool('test', config, checkpoint, '--work-dir', tmp_path, '--submit', tmp_path / 'ids')
    finally:
        for label in streets.glob('gtFine/val/*/*'):
            label.rename(label.with_suffix('.png'))
    assert result.code == 0 and 'Wrote label ids to' in result.out
    names = sorted(path.name for path in (tmp_path / 'out').iterdir())
    assert names == sorted(path.name for path in (streets / 'leftImg8bit/val/toytown').iterdir())
    label_ids = np.array([label_id for _, label_id, _ in CLASSES])
    for name in names:
        indices, ids = (np.array(Image.open(tmp_path / folder / name)) for folder in ('out', 'ids'))
        assert indices.shape == (48, 64) and indices.max() < len(CLASSES)
        np.testing.assert_array_equal(label_ids[indices], ids)


@pytest.mark.parametrize('kind', ['image', 'folder', 'glob'])
def test_predict_takes_images_folders_and_globs(run_tool, config, fused, streets, tmp_path, kind):
    folder = streets / 'leftImg8bit/val'
    source, count = {'image': (next(folder.glob('*/*')), 1), 'folder': (folder, 3),
                     'glob': (f'{folder}/*/toytown_00000[01]*', 2)}[kind]
    result = run_tool('predict', config, fused, source, '--out', tmp_path / 'pictures')
    overlays = sorted((tmp_path / 'pictures').glob('*_overlay.png'))
    assert result.code == 0 and result.out.splitlines()[-1] == f'Wrote {2 * count} file(s), e.g. {overlays[-1]}'
    labels = sorted(set((tmp_path / 'pictures').glob('*.png')) - set(overlays))
    assert len(overlays) == len(labels) == count
    with Image.open(labels[0]) as picture:
        assert picture.mode == 'P' and picture.size == (64, 48)
        assert picture.getpalette()[:36] == [value for _, _, color in CLASSES for value in color]
    with Image.open(overlays[0]) as picture:
        assert picture.mode == 'RGB' and picture.width == 64 and picture.height > 48


def test_predictions_are_those_of_the_test(run_tool, config, checkpoint, fused, streets, tmp_path):
    run_tool('test', config, checkpoint, '--work-dir', tmp_path, '--out', tmp_path / 'out')
    run_tool('predict', config, fused, streets / 'leftImg8bit/val/toytown', '--out', tmp_path / 'pictures')
    for path in (tmp_path / 'out').iterdir():
        np.testing.assert_array_equal(np.array(Image.open(path)), np.array(Image.open(tmp_path / 'pictures' / path.name)))


def test_deploy_refuses_a_model_that_differs(run_tool, config, checkpoint, tmp_path, monkeypatch):
    from repvgg_seg.deploy import deploying as folder
    fuse = folder.fuse_for_inference

    def wrong(model):
        fused = fuse(model)
        for module in fused.modules():
            if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
                module.bias.data.add_(0.1)
        return fused

    monkeypatch.setattr(folder, 'fuse_for_inference', wrong)
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused')
    assert_error_line(result, re.compile(
        r'error: the fused model differs from the trained one: logits by \d\.\de[+-]\d\d of the largest \(limit 1e-04\), '
        r'\d+\.\d{3}% of the pixels \(limit 0\.1%\); nothing was written'))
    assert not list(tmp_path.iterdir())


def test_deploy_replaces_its_own_folder_and_no_other(run_tool, config, checkpoint, fused, tmp_path):
    (fused / 'model.pth').write_bytes(b'old')
    assert run_tool('deploy', config, checkpoint, '--out', fused).code == 0
    assert (fused / 'model.pth').stat().st_size > 1000 and not (fused / 'replaced').exists()
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'precious').touch()
    assert_error_line(run_tool('deploy', config, checkpoint, '--out', other),
                      f'error: folder {other} is not empty and was not written by this tool; choose another one')
    assert (other / 'precious').exists()


def test_deploy_without_the_data_set_checks_on_a_random_image(run_tool, config, checkpoint, tmp_path):
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused', '--cfg-options',
                      'test_dataloader.dataset.data_root=nowhere')
    assert result.code == 0 and 'agreement on 1 random image(s)' in result.out


@pytest.mark.parametrize('tool', ['test', 'deploy', 'predict'])
@pytest.mark.parametrize(('change', 'reason', 'tensors'), [
    (['model.backbone.arch=A0', 'model.decode_head.in_channels=1280', 'model.auxiliary_head.in_channels=192'],
     'it holds a RepVGG of (1, 1, 5, 1) blocks, (16, 16, 32, 64) channels, 1 groups, the model is RepVGG-A0',
     '221 missing (' + ', '.join(f'backbone.stages.0.1.conv.branch_3x3.{name}' for name in BRANCH) + ' and 216 more), '
     '110 of another shape (' + ', '.join(
         f'backbone.stem.conv.branch_3x3.{name} {found} instead of {expected}' for name, found, expected in zip(
             BRANCH, ('(16, 3, 3, 3)', *['(16,)'] * 4), ('(48, 3, 3, 3)', *['(48,)'] * 4))) + ' and 105 more)'),
    (['model.decode_head.num_classes=19', 'model.auxiliary_head.num_classes=19'],
     'it was trained for another number of classes',
     '4 of another shape (' + ', '.join(
         f'{head}.conv_seg.{name}' for head in ('decode_head', 'auxiliary_head') for name in (
             'weight (12, 16, 1, 1) instead of (19, 16, 1, 1)', 'bias (12,) instead of (19,)')) + ')'),
], ids=['arch', 'classes'])
def test_checkpoint_of_another_model(run_tool, config, checkpoint, streets, tmp_path, tool, change, reason, tensors):
    assert_error_line(run_tool(tool, config, checkpoint, *rest(tool, streets, tmp_path), '--cfg-options', *change),
                      f'error: checkpoint {checkpoint} does not fit the model: {reason}; tensors {tensors}; use the config it '
                      'was trained with')


@pytest.mark.parametrize('tool', ['test', 'deploy', 'predict'])
@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('none.pth', None, 'does not exist'),
    ('text.pth', b'hello',
     "is a text file that begins with 'hello'; expected a checkpoint that torch.save or safetensors wrote"),
])
def test_unreadable_checkpoint(run_tool, config, streets, tmp_path, tool, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_error_line(run_tool(tool, config, tmp_path / name, *rest(tool, streets, tmp_path)),
                      f'error: checkpoint {tmp_path / name} {message}')
    assert not (tmp_path / 'fused').exists()


def test_classes_of_data_set_and_model_differ(run_tool, config, checkpoint, tmp_path):
    result = run_tool('test', config, checkpoint, '--work-dir', tmp_path, '--cfg-options',
                      'test_dataloader.dataset.type=repvgg_seg.CityscapesDataset')
    assert_error_line(result, 'error: FactorizedPSPHead has num_classes=12, but CityscapesDataset has 19 classes; set '
                      'num_classes of all heads in the config')


def test_folder_without_a_fused_model(run_tool, config, tmp_path):
    assert_error_line(run_tool('test', config, tmp_path, '--work-dir', tmp_path / 'run'),
                      f'error: folder {tmp_path} holds no config.py and model.pth; expected a training checkpoint (.pth) or a '
                      'folder that tools/deploy.py wrote')


@pytest.mark.parametrize('source', ['nowhere/*.png', Path(__file__).parent])
def test_predict_without_images(run_tool, config, checkpoint, tmp_path, source):
    assert_error_line(run_tool('predict', config, checkpoint, source, '--out', tmp_path),
                      f'error: no image or video at {source}; expected an image, a video, a folder with files that end in '
                      '.jpg, .jpeg, .jpe, .jfif, .png, .bmp, .tif, .tiff, .webp, .ppm, .pgm, .mp4, .avi, .mov, .mkv, .webm, '
                      '.m4v, .mpg, .mpeg, .wmv, .flv, a glob pattern, the number of a camera, a URL of http, https or rtsp, or '
                      '- for standard input')



def test_predict_names_two_images_that_would_share_an_output(run_tool, config, checkpoint, tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        Image.new('RGB', (64, 48)).save(tmp_path / folder / 'same.png')
    assert_error_line(run_tool('predict', config, checkpoint, f'{tmp_path}/*/same.png', '--out', tmp_path / 'out'),
                      f'error: {tmp_path}/a/same.png and {tmp_path}/b/same.png would both be written to '
                      f'{tmp_path}/out/same.png; give them different names, or write them in two calls to two folders')


def rest(tool: str, streets: Path, tmp_path: Path) -> list:
    return {'test': ['--work-dir', tmp_path / 'run'], 'deploy': ['--out', tmp_path / 'fused'],
            'predict': [streets / 'leftImg8bit/val', '--out', tmp_path / 'pictures']}[tool]
