"""tools/classify_train.py, tools/classify_test.py, and what deploying a classifier and starting a segmentor from it give."""
import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from mistakes import assert_error_line
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from tiny import write_noise

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.engine.trained_model import build_trained

ROOT = Path(__file__).parents[2]


def log_of(work_dir: Path) -> str:
    return ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))


def test_trains_with_classes_from_the_folders(classifier_checkpoint):
    checkpoint = read_checkpoint(classifier_checkpoint)
    assert classifier_checkpoint.name.startswith('best_accuracy_top1_epoch_')
    assert checkpoint['state_dict']['head.fc.weight'].shape == (3, 64)
    assert tuple(checkpoint['meta']['dataset_meta']['classes']) == ('blue', 'green', 'red')


def test_resumes_with_iteration_and_learning_rate(run_tool, classifier_config, tmp_path):
    assert run_tool('classify_train', classifier_config, '--work-dir', tmp_path / 'whole').code == 0
    assert run_tool('classify_train', classifier_config, '--work-dir', tmp_path / 'parts', '--cfg-options',
                    'train_cfg.max_epochs=1').code == 0
    assert run_tool('classify_train', classifier_config, '--work-dir', tmp_path / 'parts', '--resume').code == 0
    rates = [re.findall(r'\[(\d)\]\[(\d)/3\].* lr: (\S+)', log_of(tmp_path / name)) for name in ('whole', 'parts')]
    assert rates[0] == rates[1] and len(rates[0]) == 6
    assert 'resumed epoch: 1, iter: 3' in log_of(tmp_path / 'parts')


@pytest.mark.parametrize(('options', 'batch', 'message'), [
    ([], 4, r'4 images x 1 process\(es\) = 4 images a step; learning rate x 1 \(the config is for 4\)'),
    (['train_dataloader.batch_size=3'], 3, r'3 images x 1 process\(es\) = 3 images a step; learning rate x 0.75'),
    (['optim_wrapper.accumulative_counts=2'], 2,
     r'2 images x 1 process\(es\) x 2 passes = 4 images a step; learning rate x 1 \(the config is for 4\)'),
    (['optim_wrapper.accumulative_counts=2', 'train_dataloader.batch_size=4'], 4,
     r'4 images x 1 process\(es\) x 2 passes = 8 images a step; learning rate x 2 '),
], ids=['open', 'given', 'accumulated', 'accumulated and given'])
def test_batch_and_learning_rate(run_tool, classifier_config, tmp_path, options, batch, message):
    result = run_tool('classify_train', classifier_config, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1',
                      'param_scheduler=[]', *options)
    log = log_of(tmp_path)
    assert result.code == 0 and re.search(message, log)
    images = batch * (2 if 'optim_wrapper.accumulative_counts=2' in options else 1)
    assert re.search(rf' lr: {0.1 * images / 4:.4e} ', log)


def test_the_dumped_config_trains_the_same(run_tool, classifier_config, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=2']
    assert run_tool('classify_train', classifier_config, '--work-dir', tmp_path / 'first', *options).code == 0
    dumped = next((tmp_path / 'first').glob('*.py'))
    assert run_tool('classify_train', dumped, '--work-dir', tmp_path / 'second').code == 0
    message = r'2 images x 1 process\(es\) x 2 passes = 4 images a step; learning rate x 1 \(the config is for 4\)'
    assert all(re.search(message, log_of(tmp_path / name)) for name in ('first', 'second'))


def test_resuming_with_another_batch_is_refused(run_tool, classifier_config, tmp_path):
    options = ['--cfg-options', 'train_cfg.max_epochs=1']
    assert run_tool('classify_train', classifier_config, '--work-dir', tmp_path, *options).code == 0
    result = run_tool('classify_train', classifier_config, '--work-dir', tmp_path, '--resume', '--cfg-options',
                      'train_dataloader.batch_size=2')
    assert_error_line(
        result, f'error: {tmp_path}/epoch_1.pth was trained with 3 iterations per epoch (12 images, 4 per iteration), resuming '
        'it would take 6 iterations per epoch (12 images, 2 per iteration); resume with the same training set and as many '
        'images per iteration as before (train_dataloader.batch_size times the number of processes), or start from its weights '
        f'in another --work-dir, without --resume (--cfg-options load_from={tmp_path}/epoch_1.pth)')


def test_equivalent_kernel_decay_is_one_option(run_tool, classifier_config, tmp_path):
    for name, options in (('plain', []), ('equivalent', ['optim_wrapper.constructor=repvgg_seg.EquivalentKernelDecay'])):
        result = run_tool('classify_train', classifier_config, '--work-dir', tmp_path / name, '--amp', '--cfg-options',
                          'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.weight_decay=0.1',
                          'optim_wrapper.clip_grad.max_norm=1', *options)
        assert result.code == 0, result.err
    states = [read_checkpoint(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('plain', 'equivalent')]
    kernel = 'backbone.stages.0.0.conv.branch_1x1.conv.weight'
    assert torch.isfinite(states[1][kernel]).all() and not torch.allclose(states[0][kernel], states[1][kernel])


def test_default_config_is_the_companion_of_b2(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run_tool('classify_train', '--cfg-options', 'model.backbone.arch=A0', 'model.head.in_channels=1280')
    assert_error_line(result, 'error: no dataset: folder data/imagenet/train does not exist; expected 1000 class folders '
                      'n01440764/ ... with their images. Put it (or a link) there, or set data_root')
    assert list(tmp_path.glob('work_dirs/repvgg_b2_imagenet/*/*.log'))


@pytest.fixture
def fused(fuse, classifier_config, classifier_checkpoint) -> Path:
    return fuse(classifier_config, classifier_checkpoint)


def test_fused_classifier_predicts_as_the_trained_one(run_tool, classifier_config, classifier_checkpoint, fused, tmp_path):
    tables = []
    for name, model in (('trained', classifier_checkpoint), ('fused', fused)):
        result = run_tool('classify_test', classifier_config, model, '--work-dir', tmp_path / name, '--out',
                          tmp_path / f'{name}.csv')
        assert result.code == 0 and re.search(r'top-1 \d+\.\d\d; written to \S+test.json, predictions to ', result.out)
        tables.append(list(csv.DictReader((tmp_path / f'{name}.csv').read_text().splitlines())))
    assert [row['image'] for row in tables[0]] == sorted(row['image'] for row in tables[0]) and len(tables[0]) == 6
    assert [row['label'] for row in tables[0]] == ['blue'] * 2 + ['green'] * 2 + ['red'] * 2
    assert [row['prediction'] for row in tables[0]] == [row['prediction'] for row in tables[1]]
    top1 = [json.loads((tmp_path / name / 'test.json').read_text())['accuracy/top1'] for name in ('trained', 'fused')]
    right = sum(row['label'] == row['prediction'] for row in tables[0])
    assert top1[0] == top1[1] == pytest.approx(100 * right / 6)


def test_deploy_reports_on_images_and_keeps_the_classes(fused):
    report = json.loads((fused / 'deploy.json').read_text())
    assert (report['unit'], report['images'], report['real_images'], report['changed']) == ('images', 3, True, 0)
    loaded = torch.load(fused / 'model.pth', weights_only=True)
    assert not [key for key in loaded['state_dict'] if 'branch' in key or 'running_mean' in key]
    assert tuple(loaded['meta']['dataset_meta']['classes']) == ('blue', 'green', 'red')


def test_any_size(run_tool, classifier_config, classifier_checkpoint, tmp_path, monkeypatch):
    from mmpretrain.models import ImageClassifier
    shapes = []
    predict = ImageClassifier.predict
    monkeypatch.setattr(ImageClassifier, 'predict', lambda self, inputs, *rest, **more: shapes.append(tuple(
        inputs.shape[2:])) or predict(self, inputs, *rest, **more))
    for options in ([], ['--size', '64']):
        assert run_tool('classify_test', classifier_config, classifier_checkpoint, '--work-dir', tmp_path, *options).code == 0
    assert shapes == [(32, 32)] * 2 + [(64, 64)] * 2


def test_a_segmentor_starts_from_it(run_tool, config, classifier_checkpoint, tmp_path):
    options = ['model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={classifier_checkpoint.parent}']
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', *options, 'train_cfg.max_epochs=1')
    assert result.code == 0
    loaded, wanted = map(int, re.search(r'Loaded (\d+) of (\d+) backbone tensors', log_of(tmp_path)).groups())
    own = [key for key in read_checkpoint(classifier_checkpoint)['state_dict'] if key.startswith('backbone.')]
    assert loaded == wanted == len(own)


def test_top5(run_tool, classifier_config, tmp_path):
    write_noise(tmp_path, 'abcdefg', train=4, val=4)
    options = ['--cfg-options', *(f'{loader}_dataloader.dataset.data_root={tmp_path}' for loader in ('train', 'val', 'test'))]
    work_dir = tmp_path / 'run'
    gentle = ['train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.001']  # No score becomes 0, of which there are ties.
    assert run_tool('classify_train', classifier_config, '--work-dir', work_dir, *options, *gentle).code == 0
    checkpoint = work_dir / 'epoch_1.pth'
    result = run_tool('classify_test', classifier_config, checkpoint, '--work-dir', work_dir, '--out',
                      tmp_path / 'a.csv', *options)
    rows = list(csv.DictReader((tmp_path / 'a.csv').read_text().splitlines()))
    assert [row['label'] for row in rows] == [Path(row['image']).parent.name for row in rows] == sorted('abcdefg' * 4)
    assert [row['prediction'] for row in rows] != [row['label'] for row in rows]
    metrics = json.loads((work_dir / 'test.json').read_text())
    assert f'top-1 {metrics["accuracy/top1"]:.2f}, top-5 {metrics["accuracy/top5"]:.2f}; written to' in result.out

    config = Config.fromfile(classifier_config)
    model, _ = build_trained(config, str(checkpoint))
    pipeline = Compose(config.test_dataloader.dataset.pipeline)
    hits = []
    for label, name in enumerate('abcdefg'):
        for path in (tmp_path / 'val' / name).iterdir():
            data = pipeline(dict(img_path=str(path), gt_label=label))
            scores = model.test_step(pseudo_collate([data]))[0].pred_score
            hits.append(label in scores.topk(5).indices)
    assert metrics['accuracy/top5'] == pytest.approx(100 * sum(hits) / 28)


def test_a_fused_segmentor_is_refused(run_tool, classifier_config, classifier_checkpoint, config, checkpoint, fused, tmp_path):
    assert run_tool('deploy', config, checkpoint, '--out', tmp_path / 'segmentor').code == 0
    for tool, path, folder, kinds in (('classify_test', classifier_config, tmp_path / 'segmentor', ('segmentor', 'classifier')),
                                      ('test', config, fused, ('classifier', 'segmentor'))):
        assert_error_line(run_tool(tool, path, folder, '--work-dir', tmp_path / 'run'),
                          f'error: folder {folder} holds a fused {kinds[0]}, the config is for a {kinds[1]}; give the config '
                          'that it was trained with')


def test_deploy_does_not_mind_images_of_one_name(run_tool, classifier_config, classifier_checkpoint, folders, tmp_path):
    data = Path(shutil.copytree(folders, tmp_path / 'folders'))
    shutil.copy(data / 'val/red/0.png', data / 'val/red/0.bmp')
    result = run_tool('deploy', classifier_config, classifier_checkpoint, '--out', tmp_path / 'out', '--cfg-options',
                      f'test_dataloader.dataset.data_root={data}')
    assert result.code == 0, result.err


def without_training_class(data: Path) -> None:
    shutil.rmtree(data / 'train/green')


def without_validation(data: Path) -> None:
    shutil.rmtree(data / 'val')


def empty_class(data: Path) -> None:
    for image in (data / 'train/green').iterdir():
        image.unlink()


def cut_image(data: Path) -> None:
    path = data / 'train/green/1.png'
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(('damage', 'message'), [
    (without_training_class, "the training set and the validation set have different classes: 'green' only in the "
     'second; both need the same class folders'),
    (without_validation, 'no dataset: folder {data}/val does not exist; expected one folder per class with its images. Put it '
     '(or a link) there, or set data_root'),
    (empty_class, '1 of 3 class folders in {data}/train have no image (green); add files that end in .jpg, .jpeg, .jpe, .jfif, '
     '.png, .bmp, .tif, .tiff, .webp, .ppm, .pgm, or remove the folders'),
    (cut_image, 'image {data}/train/green/1.png cannot be read (image file is truncated); replace or remove it'),
])
def test_broken_data_ends_in_one_line(run_tool, classifier_config, folders, tmp_path, damage, message):
    data = Path(shutil.copytree(folders, tmp_path / 'folders'))
    damage(data)
    roots = [f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val')]
    result = run_tool('classify_train', classifier_config, '--work-dir', tmp_path / 'run', '--cfg-options', *roots)
    assert_error_line(result, f'error: {message.format(data=data)}')
    assert not list((tmp_path / 'run').glob('*.pth'))


WIDER_CLASSIFIER = ('checkpoint {checkpoint} does not fit the model: tensors 1 of another shape (head.fc.weight (3, 64) '
                    'instead of (3, 32)); use the config it was trained with')


@pytest.mark.parametrize(('tool', 'options', 'message'), [
    ('classify_train', ['model.head.num_classes=10'],
     'the head has num_classes=10, but ImageFolder has 3 classes; set model.head.num_classes'),
    ('classify_train', ['train_dataloader.batch_size=13'],
     'the training set has 12 images a process, less than one batch of 13; add images or set train_dataloader.batch_size'),
    ('classify_train', ['train_dataloader.batch_size.0=1'], '--cfg-options train_dataloader.batch_size.0: '
     'train_dataloader.batch_size is None, which has no keys; set train_dataloader.batch_size itself'),
    ('classify_test', ['model.head.in_channels=32'], WIDER_CLASSIFIER),
])
def test_wrong_settings_end_in_one_line(run_tool, classifier_config, classifier_checkpoint, tmp_path, tool, options, message):
    arguments = [classifier_config, classifier_checkpoint][:1 + (tool == 'classify_test')]
    assert_error_line(run_tool(tool, *arguments, '--work-dir', tmp_path, '--cfg-options', *options),
                      f'error: {message.format(checkpoint=classifier_checkpoint)}')


def test_other_classes_than_in_training(run_tool, classifier_config, classifier_checkpoint, folders, tmp_path):
    data = Path(shutil.copytree(folders, tmp_path / 'folders'))
    (data / 'val/red').rename(data / 'val/pink')
    result = run_tool('classify_test', classifier_config, classifier_checkpoint, '--work-dir', tmp_path, '--cfg-options',
                      f'test_dataloader.dataset.data_root={data}')
    assert_error_line(result, f"error: checkpoint {classifier_checkpoint} and the test set have different classes: 'red' only "
                      "in the first, 'pink' only in the second; give the config that it was trained with")


@pytest.mark.parametrize(('option', 'value', 'message'), [
    ('--size', '0', 'argument --size: expected a whole number, 1 or more, got 0'), ('--size', '-5', 'got -5; see --help'),
    ('--out', '.', r'error: \. is a folder; expected the name of a file to write')])
def test_wrong_arguments(run_tool, classifier_config, classifier_checkpoint, tmp_path, option, value, message):
    result = run_tool('classify_test', classifier_config, classifier_checkpoint, '--work-dir', tmp_path, option, value)
    assert result.code == 2 and re.search(message, result.err)


@pytest.mark.parametrize(('tool', 'name', 'message'), [
    ('train', 'repvgg_a0_imagenet', 'is for a classifier, this tool needs one for a segmentor; use tools/classify_train.py and '
     'tools/classify_test.py'),
    ('classify_train', 'pspnet_r50_cityscapes', 'is for a segmentor, this tool needs one for a classifier; use tools/train.py '
     'and tools/test.py'),
])
def test_config_of_the_other_kind(run_tool, tool, name, message):
    assert_error_line(run_tool(tool, ROOT / 'configs' / f'{name}.py'), f'error: config {ROOT}/configs/{name}.py {message}')
