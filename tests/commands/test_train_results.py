"""What a finished training leaves besides checkpoints: curves and a report of the best checkpoint, completely or not at all."""
import gc
import json
import logging
import signal
from pathlib import Path

import pytest
import tiny
from mmengine.config import Config
from PIL import Image
from processes import start_ranks

from repvgg_seg.engine import segmentation
from repvgg_seg.engine.report import writing
from repvgg_seg.engine.runner import Runner
from repvgg_seg.engine.segmentation import leave_report


@pytest.fixture
def nothing_after_training() -> None:
    """Here, curves and a report are what is tested."""


@pytest.fixture
def train(run_tool, config, tmp_path):
    """Train for one epoch; the lines on stdout that are not in the log, and the warnings."""

    def run(*options: str, code: int = 0, name: str = 'run') -> tuple[list[str], str]:
        result = run_tool('train', config, '--work-dir', tmp_path / name, *options, '--cfg-options', 'train_cfg.max_epochs=1')
        assert result.code == code, result.err
        return [line for line in result.out.splitlines() if line.startswith(('Wrote', 'Trained'))], result.out
    return run


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def test_curves_and_report(train, tmp_path, monkeypatch):
    work_dir, in_memory = tmp_path / 'run', []

    def test(*arguments, test_segmentor=segmentation.test_segmentor, **options):
        in_memory.append(sum(type(each) is Runner for each in gc.get_objects()))
        return test_segmentor(*arguments, **options)

    monkeypatch.setattr(segmentation, 'test_segmentor', test)
    (work_dir / 'report/images').mkdir(parents=True)
    (work_dir / 'report/images/00009_label.png').touch()  # Of an earlier report.
    (work_dir / '.unfinished-1').mkdir()  # Of a process that was killed.
    dumped = []
    monkeypatch.setattr(Config, 'dump', lambda config, file=None: dumped.append(Path(file)))
    lines, out = train()
    assert dumped.count(work_dir / 'tiny.py') == 1  # By the training alone: the report leaves its config as it is.
    assert lines == [f'Wrote {work_dir}/curves.png and {work_dir}/report/index.html',
                     f'Trained; the best checkpoint is {work_dir}/best_mIoU_epoch_1.pth'] == out.splitlines()[-2:]
    report = json.loads((work_dir / 'report/report.json').read_text())
    assert report['checkpoint'] == f'{work_dir}/best_mIoU_epoch_1.pth' and len(report['images']) == 3
    assert f'{report["metrics"]["mIoU"]:.2f}' == f'{json.loads((work_dir / "test.json").read_text())["mIoU"]:.2f}'
    assert not (work_dir / 'report/images/00009_label.png').exists()
    assert Image.open(work_dir / 'curves.png').size > (600, 300)
    assert not [*work_dir.glob('.unfinished*')]
    assert in_memory == [0]  # The training's model needs no memory any more.


def test_no_report(train, tmp_path):
    lines, _ = train('--no-report')
    assert lines[0] == f'Wrote {tmp_path}/run/curves.png'
    assert not (tmp_path / 'run/report').exists() and not (tmp_path / 'run/test.json').exists()


@pytest.mark.parametrize('earlier', [True, False])
def test_an_interrupted_report_leaves_the_earlier_one(train, config, tmp_path, monkeypatch, earlier):
    train(*([] if earlier else ['--no-report']))

    def interrupt(*_):
        raise KeyboardInterrupt

    before = read(tmp_path / 'run/report')
    assert bool(before) == earlier
    monkeypatch.setattr(writing, 'render', interrupt)
    _, out = train('--resume', code=128 + signal.SIGINT)
    assert out.endswith('stopped by SIGINT; continue with --resume\n')
    assert read(tmp_path / 'run/report') == before and (tmp_path / 'run/report').exists() == earlier
    assert not [*(tmp_path / 'run').glob('.unfinished*')]


REASONS = {
    'test set': (dict(test_dataloader=None), 'the config has no test_dataloader'),
    'labels': ({'test_dataloader.dataset.data_prefix.seg_map_path': 'nowhere'},
               '3 of 3 images have no label: {data}/leftImg8bit/val/toytown/toytown_000000_000000_leftImg8bit.png needs '
               '{data}/nowhere/toytown/toytown_000000_000000_gtFine_labelIds.png; add the labels or remove the images'),
    'file': ({}, '{work_dir}/report has {work_dir}/report/mine.txt, which a report would replace'),
    'checkpoint': ({}, 'not every process has access to the best checkpoint')}


@pytest.mark.parametrize('case', REASONS)
def test_why_there_is_no_report(config, checkpoint, streets, tmp_path, caplog, monkeypatch, case):
    """Training has succeeded, so this is a warning."""
    changes, reason = REASONS[case]
    loaded = Config.fromfile(config)
    loaded.merge_from_dict(changes)
    loaded.work_dir, loaded.log_level = str(tmp_path), 'WARNING'
    if case == 'file':
        (tmp_path / 'report').mkdir()
        (tmp_path / 'report/mine.txt').touch()
    said = []
    monkeypatch.setattr('repvgg_seg.engine.segmentation.print_log', lambda text, logger, level=0: said.append((level, text)))
    before = loaded.to_dict()
    assert leave_report(loaded, None if case == 'checkpoint' else checkpoint) is None
    assert said[-1] == (logging.WARNING, 'There is no report of the checkpoint: '
                        + reason.format(data=streets, work_dir=tmp_path))
    assert loaded.to_dict() == before
    assert [path.name for path in tmp_path.glob('report*')] == (['report'] if case == 'file' else [])


@pytest.mark.slow
def test_two_processes_leave_the_same_report(train, config, tmp_path):
    train(name='alone')
    ranks = start_ranks(tiny.ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'two', '--launcher', 'pytorch',
                        '--cfg-options', 'train_cfg.max_epochs=1')
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], outputs
    assert sum('Wrote ' in output for output in outputs) == 1
    one, two = (json.loads((tmp_path / name / 'report/report.json').read_text()) for name in ('alone', 'two'))
    assert [image['name'] for image in one['images']] == [image['name'] for image in two['images']]
    assert read(tmp_path / 'alone/report').keys() == read(tmp_path / 'two/report').keys()
    assert not [*(tmp_path / 'two').glob('.unfinished*')]
