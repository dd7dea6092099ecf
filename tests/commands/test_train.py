"""tools/train.py: what it leaves, what it logs, and how a user's mistakes end."""
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mistakes import assert_error_line
from PIL import Image

from repvgg_seg.core.reading import read_checkpoint


def test_trains_and_resumes_where_it_stopped(run_tool, config, tmp_path):
    work_dir = tmp_path / 'run'
    first = run_tool('train', config, '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1')
    assert first.code == 0 and re.search(r'best checkpoint is \S+best_mIoU_epoch_1\.pth', first.out)
    assert read_checkpoint(work_dir / 'epoch_1.pth')['meta']['iter'] == 2
    second = run_tool('train', config, '--work-dir', work_dir, '--resume')
    assert second.code == 0
    state = read_checkpoint(work_dir / 'epoch_2.pth')
    assert (state['meta']['epoch'], state['meta']['iter']) == (2, 4)
    log = ''.join(path.read_text() for path in sorted(work_dir.glob('*/*.log')))
    assert 'resumed epoch: 1, iter: 2' in log and 'Epoch(train) [2][1/2]' in log
    assert log.count('Epoch(train) [1][1/2]') == 1


def test_effective_batch_and_learning_rate_are_logged(run_tool, config, tmp_path):
    result = run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', 'train_cfg.max_epochs=1',
                      'auto_scale_lr.base_batch_size=8', 'optim_wrapper.optimizer.lr=0.04')
    text = result.out + result.err
    assert 'Effective batch: 2 images x 1 process(es) = 2 images a step; learning rate x 0.25' in text
    assert re.search(r'lr: 1\.0000e-02', text)


def test_amp_trains_in_bfloat16_on_a_cpu(run_tool, config, tmp_path, monkeypatch):
    from repvgg_seg.models.blocks import RepConv
    dtypes = set()
    forward = RepConv.forward

    def recorded(self, x):
        y = forward(self, x)
        dtypes.add((self.training, y.dtype))
        return y

    monkeypatch.setattr(RepConv, 'forward', recorded)
    assert run_tool('train', config, '--amp', '--work-dir', tmp_path).code == 0
    assert dtypes == {(True, torch.bfloat16), (False, torch.float32)}


def broken_copy(streets: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(streets, tmp_path / 'streets'))


def no_folder(data: Path) -> None:
    shutil.rmtree(data)
    data.mkdir()


def no_label(data: Path) -> None:
    next(data.glob('gtFine/train/*/*_000002_*')).unlink()


def no_validation_label(data: Path) -> None:
    next(data.glob('gtFine/val/*/*_000002_*')).unlink()


def wrong_value(data: Path) -> None:
    path = next(data.glob('gtFine/train/*/*_000001_*'))
    Image.fromarray(np.full((48, 64), 77, np.uint8)).save(path)


def cut_image(data: Path) -> None:
    path = next(data.glob('leftImg8bit/train/*/*_000001_*'))
    path.write_bytes(path.read_bytes()[:2000])


NO_LABEL = ('1 of {} images have no label: {{data}}/leftImg8bit/{split}/toytown/toytown_000002_000000_leftImg8bit.png needs '
            '{{data}}/gtFine/{split}/toytown/toytown_000002_000000_gtFine_labelIds.png; add the labels or remove the images')
SAMPLE = ' (found in a sample of the training set; tools/check_data.py looks at all of it)'
SINGLE = ('a training batch has one image, but the pyramid pools to 1x1, whose batch norm needs at least two values a channel; '
          'use train_dataloader.batch_size=2 or more, with train_dataloader.drop_last=True')


@pytest.mark.parametrize(('damage', 'message'), [
    (no_folder, 'no dataset: folder {data}/leftImg8bit/train does not exist; expected '
     'leftImg8bit/{{train,val}}/CITY/*_leftImg8bit.png and gtFine/{{train,val}}/CITY/*_gtFine_labelIds.png. Put it (or a link) '
     'there, or set data_root'),
    (no_label, NO_LABEL.format(4, split='train')),
    (no_validation_label, NO_LABEL.format(3, split='val')),
    (wrong_value, 'label {data}/gtFine/train/toytown/toytown_000001_000000_gtFine_labelIds.png has values outside the classes: '
     '77; expected 0 to 33, 255; 100% of its pixels have them; correct the label or the classes of the dataset' + SAMPLE),
    (cut_image, 'image {data}/leftImg8bit/train/toytown/toytown_000001_000000_leftImg8bit.png cannot be read (image file is '
     'truncated); replace or remove it' + SAMPLE),
])
@pytest.mark.parametrize('workers', [0, 1])
def test_broken_data_ends_in_one_line(run_tool, config, streets, tmp_path, damage, message, workers):
    data = broken_copy(streets, tmp_path)
    damage(data)
    options = [f'{loader}_dataloader.dataset.data_root={data}' for loader in ('train', 'val')]
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options,
                      f'train_dataloader.num_workers={workers}')
    assert_error_line(result, f'error: {message.format(data=data)}')
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize(('options', 'message'), [
    (['model.backbone.arch=B9'],
     "unknown arch 'B9', expected one of A0, A1, A2, B0, B1, B1g2, B1g4, B2, B2g2, B2g4, B3, B3g2, B3g4, D2se or a dict"),
    (['model.backbone.dilation=slow'], "dilation must be None or one of 'full', 'fast', got 'slow'"),
    (['train_dataloader.batch_size=1'], SINGLE),
    (['train_dataloader.batch_size=3', 'train_dataloader.drop_last=False'], SINGLE),
    (['train_dataloader.batch_size=9'],
     'the training set has 4 images a process, less than one batch of 9; add images or set train_dataloader.batch_size'),
    (['model.decode_head.num_classes=19'],
     'FactorizedPSPHead has num_classes=19, but ToyStreets has 12 classes; set num_classes of all heads in the config'),
    (['model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=missing.pth'],
     'no pretrained weights: missing.pth does not exist; give a file with --cfg-options '
     'model.backbone.init_cfg.checkpoint=PATH, or train from scratch with model.backbone.init_cfg=None'),
])
def test_wrong_settings_end_in_one_line(run_tool, config, tmp_path, options, message):
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    assert_error_line(result, f'error: {message}')
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_pretrained_weights_of_another_arch_stop_before_training(run_tool, config, checkpoint, tmp_path):
    options = ['model.backbone.arch=A0', 'model.decode_head.in_channels=1280', 'model.auxiliary_head.in_channels=192',
               'model.backbone.init_cfg.type=Pretrained', f'model.backbone.init_cfg.checkpoint={checkpoint}']
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', '--cfg-options', *options)
    assert_error_line(result, (
        f'error: checkpoint {checkpoint} holds a RepVGG of (1, 1, 5, 1) blocks, (16, 16, 32, 64) channels, 1 groups, but the '
        'backbone is RepVGG-A0; choose the checkpoint or the arch to fit'))


@pytest.mark.parametrize(('variables', 'options', 'message'), [
    (dict(TORCHELASTIC_RUN_ID='none', WORLD_SIZE='8'), [],
     'torchrun started 8 processes, each of which would do all the work; add --launcher pytorch'),
    ({}, ['--launcher', 'pytorch'], '--launcher pytorch is for processes that torchrun started; start it with torchrun, or '
     'leave --launcher out for one process'),
    ({}, ['--launcher', 'slurm'], '--launcher slurm is for processes that srun started; start it with srun, or leave '
     '--launcher out for one process'),
])
def test_launcher_that_does_not_fit(run_tool, config, tmp_path, monkeypatch, variables, options, message):
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_error_line(run_tool('train', config, '--work-dir', tmp_path, *options), f'error: {message}')


def test_no_worker_processes_need_no_other_change(run_tool, config, tmp_path):
    options = ['train_dataloader.persistent_workers=True', 'train_dataloader.num_workers=0', 'train_cfg.max_epochs=1']
    assert run_tool('train', config, '--work-dir', tmp_path, '--cfg-options', *options).code == 0


def test_missing_config_and_unwritable_folder(run_tool, config, tmp_path):
    assert_error_line(run_tool('train', tmp_path / 'none.py'), f'error: config {tmp_path}/none.py does not exist; expected a '
                      'file, or a name that tools/configs.py lists')
    (tmp_path / 'file').touch()
    assert_error_line(run_tool('train', config, '--work-dir', tmp_path / 'file' / 'run'),
                      f'error: folder {tmp_path}/file/run cannot be written (Not a directory); choose another one')


@pytest.mark.parametrize('written', [True, False])
def test_dry_run(run_tool, config, tmp_path, written):
    from mmengine.config import Config
    options = ['--out', tmp_path / 'all.py'] if written else []
    result = run_tool('train', config, '--amp', '--work-dir', tmp_path / 'run', '--dry-run', *options)
    assert result.code == 0, result.err
    last = result.out.splitlines()[-1]
    assert re.fullmatch(rf'Nothing in {tmp_path}/run was changed\. The training would take about \d+ seconds: 4 iterations '
                        r'\(\S+ s each\) and 2 validations of 3 batches \(\S+ s each\); and \d+\.\d GiB of memory in this '
                        'process, besides its data loader workers', last)
    assert [path.name for path in tmp_path.iterdir()] == ['all.py'] * written
    assert ('\noptim_wrapper' in result.out) != written
    if written:
        assert f'Wrote the config to {tmp_path}/all.py' in result.out
        assert Config.fromfile(tmp_path / 'all.py').optim_wrapper.type == 'repvgg_seg.BFloat16OptimWrapper'


@pytest.mark.parametrize(('options', 'line'), [
    (['--out', 'all.py'], '--out is the file for the config of a dry run; add --dry-run'),
    (['--dry-run', '--out', '{config}'], '{config} is read, but {config} would be written over it; write to another place'),
    (['--dry-run', '--cfg-options', 'train_dataloader.batch_size=9'],
     'the training set has 4 images a process, less than one batch of 9; add images or set train_dataloader.batch_size')])
def test_refused_dry_runs(run_tool, config, tmp_path, options, line):
    before = config.read_bytes()
    result = run_tool('train', config, '--work-dir', tmp_path / 'run', *(option.format(config=config) for option in options))
    assert_error_line(result, f'error: {line.format(config=config)}')
    assert config.read_bytes() == before and not [*tmp_path.iterdir()]
