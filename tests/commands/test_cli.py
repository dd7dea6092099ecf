"""How the tools treat what goes wrong outside the package."""
import errno
import multiprocessing
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from mistakes import assert_error_line
from torch import OutOfMemoryError

from repvgg_seg.commands import cli
from repvgg_seg.commands.main import VERBS, run
from repvgg_seg.core.errors import DataError, Interruption, UserError
from repvgg_seg.core.replacing import replacement

ROOT = Path(__file__).parents[2]


def failing(error: Exception):
    def main() -> None:
        raise error
    return main


@pytest.mark.parametrize(('error', 'line'), [
    (UserError('two\nlines'), 'error: two lines'),
    (DataError('Caught DataError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n'
               '  ...\nrepvgg_seg.core.errors.DataError: image a.png cannot be read'), 'error: image a.png cannot be read'),
    (OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has'),
     'error: the memory of the GPU is full (CUDA out of memory); use smaller images or batches. In training, '
     'optim_wrapper.accumulative_counts makes up for a lower train_dataloader.batch_size'),
    (OSError(errno.ENOSPC, 'No space left on device', 'run.log'),
     'error: run.log cannot be written: the disk is full or the quota spent; what was there before is unharmed. Make room, '
     'then give the command again'),
    (URLError('no network'), 'error: a download failed (no network); give the file instead, e.g. with --cfg-options '
     'model.backbone.init_cfg.checkpoint=PATH'),
])
def test_mistakes_end_in_one_line(capsys, error, line):
    with pytest.raises(SystemExit) as stop:
        cli.run(failing(error))
    assert stop.value.code == cli.USER_MISTAKE
    assert capsys.readouterr().err == f'{line}\n'


@pytest.mark.situation('Smaller', 'the advice to go on with `--resume`', before='from every tool, also those without it',
                       now='from those that have it; the others say to give the command again')
@pytest.mark.parametrize(('verb', 'go_on'), [
    ('train', 'continue with --resume'), ('classify-train', 'continue with --resume'),
    ('train-ablations', 'give the command again to continue'), ('predict', 'give the command again')])
def test_how_to_go_on(capsys, monkeypatch, verb, go_on):
    """As each command that is stopped by a full disk, or by a signal, says it."""
    module = import_module(f'repvgg_seg.commands.{verb.replace("-", "_")}')
    for error, told in ((OSError(errno.ENOSPC, 'No space', 'run.log'), f'Make room, then {go_on}\n'),
                        (Interruption('stopped', signal.SIGTERM), f'stopped; {go_on}\n'),
                        (Interruption('stopped', signal.SIGTERM, resumable=False), 'stopped\n')):
        monkeypatch.setattr(module, 'main', lambda _, error=error: failing(error)())
        with pytest.raises(SystemExit):
            run(verb)
        assert ''.join(capsys.readouterr()).endswith(told)


@pytest.mark.situation('Data loss', 'SIGTERM or SIGHUP in any command but training',
                       before='temporary files were left; after Ctrl-C a traceback',
                       now='one line, as after Ctrl-C, and nothing is left')
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_by_a_signal(capsys, tmp_path, number):
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def main() -> None:
        with replacement(tmp_path / 'out') as folder:
            (folder / 'model.onnx').touch()
            signal.raise_signal(number)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # Background shells ignore Ctrl-C.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)} == {
        signal.SIGTERM: handlers[signal.SIGTERM], signal.SIGHUP: signal.SIG_DFL}
    for each, handler in handlers.items():
        signal.signal(each, handler)
    assert stop.value.code == 128 + number
    assert capsys.readouterr().out == f'stopped by {number.name}; give the command again\n'
    assert not [*tmp_path.iterdir()]


def test_nohup_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        cli.run(lambda: signal.raise_signal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_ends_by_its_signal():
    def main() -> None:
        worker = multiprocessing.get_context('fork').Process(target=signal.raise_signal, args=[signal.SIGTERM])
        worker.start()
        worker.join()
        codes.append(worker.exitcode)

    codes = []
    cli.run(main)
    assert codes == [-signal.SIGTERM]


@pytest.mark.parametrize('bug', [ZeroDivisionError, RuntimeError, OSError])
def test_bugs_keep_their_traceback(bug):
    with pytest.raises(bug):
        cli.run(failing(bug()))


@pytest.mark.parametrize(('tool', 'config', 'missing'), [
    ('train', 'pspnet_repvgg_b2_cityscapes', 'mmengine'), ('train', 'pspnet_repvgg_b2_cityscapes', 'mmseg'),
    ('classify_train', 'repvgg_b2_imagenet', 'mmpretrain')])
def test_missing_packages_end_in_one_line(tool, config, missing, monkeypatch, run_tool):
    from repvgg_seg.core import environment
    present = {new for name, (new, _) in environment.MM_DISTRIBUTIONS.items() if name != missing}
    monkeypatch.setattr(environment, 'installed_distributions', lambda: present)
    assert_error_line(run_tool(tool, ROOT / 'configs' / f'{config}.py'),
                      f"error: {missing} not installed, but needed here; run: pip install 'repvgg_seg[mm]'")


def test_segmentation_needs_no_mmpretrain(monkeypatch, run_tool):
    from repvgg_seg.core import environment
    present = {new for name, (new, _) in environment.MM_DISTRIBUTIONS.items() if name != 'mmpretrain'}
    monkeypatch.setattr(environment, 'installed_distributions', lambda: present)
    result = run_tool('train', ROOT / 'configs/pspnet_r50_cityscapes.py', '--work-dir', '/dev/null')
    assert_error_line(result, 'error: folder /dev/null cannot be written (File exists); choose another one')


@pytest.fixture
def closed(monkeypatch) -> Iterator[None]:
    """Make stdout and stderr pipes that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, 'w') as out, open(os.dup(writer), 'w') as err:
        monkeypatch.setattr(sys, 'stdout', out)
        monkeypatch.setattr(sys, 'stderr', err)
        yield


@pytest.mark.situation('Tracebacks', 'stdout is closed by a pipe, as with `head`, in every tool',
                       before='a traceback of BrokenPipeError, in training one for each line of the log',
                       now='the work is done, what is said after that is discarded')
@pytest.mark.parametrize(('error', 'code'), [(None, 0), (UserError('a mistake'), cli.USER_MISTAKE)])
def test_a_closed_pipe_changes_nothing(closed, error, code):
    done = []

    def main() -> None:
        for _ in range(2):
            sys.stdout.write('x' * 2**17)
            sys.stdout.flush()
            sys.stderr.write('y\n')
        done.append(True)
        if error:
            raise error

    if code:
        with pytest.raises(SystemExit) as stop:
            cli.run(main)
        assert stop.value.code == code
    else:
        cli.run(main)
    assert done == [True]


def test_training_into_a_closed_pipe(closed, monkeypatch, config, tmp_path):
    monkeypatch.setattr(sys, 'argv', ['train.py', str(config), '--work-dir', str(tmp_path), '--cfg-options',
                                      'train_cfg.max_epochs=1'])
    runpy.run_path(str(ROOT / 'tools/train.py'), run_name='__main__')
    assert (tmp_path / 'epoch_1.pth').is_file()


@pytest.mark.whole
@pytest.mark.parametrize('arguments', [('plot_curves', '--help'), ('predict', '--help')], ids=' '.join)
def test_a_process_with_closed_output(arguments):
    """With stdout closed by the reader, and with none from the start."""
    command = [sys.executable, ROOT / f'tools/{arguments[0]}.py', *arguments[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ('', 0)
    without = subprocess.run(['sh', '-c', '"$@" >&-', 'sh', *map(str, command)], stderr=subprocess.PIPE, text=True, timeout=600)
    assert (without.stderr, without.returncode) == ('', 0)


@pytest.mark.parametrize('verb', VERBS)
def test_every_tool_is_run_by_the_same_function(verb):
    lines = (ROOT / 'tools' / f'{verb.replace("-", "_")}.py').read_text().splitlines()
    assert lines == [f'"""The same as repvgg-seg {verb}."""', 'from repvgg_seg.commands.main import run', '',
                     "if __name__ == '__main__':", f"    run('{verb}')"]


@pytest.mark.situation('Smaller', 'what a training says before its first iteration',
                       before='548 lines, the first of them about packages that nobody needs',
                       now='at most 30 lines; config, environment and hooks are in the log file')
@pytest.mark.parametrize('tool', ['train', 'classify_train'])
def test_what_training_says_first(run_tool, config, classifier_config, tmp_path, tool):
    result = run_tool(tool, config if tool == 'train' else classifier_config, '--work-dir', tmp_path, '--cfg-options',
                      'train_cfg.max_epochs=1')
    assert result.code == 0 and result.err == ''
    lines = result.out.splitlines()
    log = min(tmp_path.glob('*/*.log'))  # A segmentor is tested afterwards, with a log of its own.
    name = 'tiny.py' if tool == 'train' else 'tiny_classifier.py'
    assert re.sub(r'^[\d/]+ [\d:]+ - ', '', lines[0]) == (
        f'mmengine - INFO - {name} with PyTorch {torch.__version__} on cpu, {torch.get_num_threads()} threads; environment, '
        f'config and hooks: {log}')
    first = next(number for number, line in enumerate(lines) if 'Epoch(train)' in line)
    assert first <= 30 and not [line for line in lines[:first] if 'WARNING' in line or 'mmengine' not in line]
    text = log.read_text()
    assert 'System environment:' in text and 'Config:\n' in text and 'Hooks will be executed' in text


@pytest.mark.whole
def test_a_process_says_nothing_of_packages(config, tmp_path):
    """Of the two classes of a model, of crops that are not 8k+1, of losses and of packages that nobody needs."""
    options = [f'{key}=2' for key in ('model.decode_head.num_classes', 'model.auxiliary_head.num_classes')]
    run = subprocess.run([sys.executable, ROOT / 'tools/train.py', config, '--work-dir', tmp_path, '--cfg-options', *options],
                         text=True, capture_output=True, timeout=600)
    assert run.stdout.splitlines()[0].partition(' - INFO - ')[2].startswith('tiny.py with PyTorch')
    assert run.stderr == ('error: FactorizedPSPHead has num_classes=2, but ToyStreets has 12 classes; set num_classes of all '
                          'heads in the config\n')


@pytest.mark.whole
def test_nothing_is_said_of_operators_that_nobody_needs():
    run = subprocess.run([sys.executable, ROOT / 'tools/benchmark.py', 'complexity', 'RepVGG-A0'], text=True,
                         capture_output=True, timeout=600)
    assert run.returncode == 0 and run.stderr == ''
