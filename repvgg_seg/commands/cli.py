"""Shared parts of the commands: arguments, loading of configs, and handling of user mistakes."""
import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.error import URLError

from ..core.command_names import command
from ..core.configs import CONFIGS, existing_config, files_of_config
from ..core.destinations import Output, check_outputs, ensure_writable, ensure_writable_file
from ..core.environment import require_mm
from ..core.errors import Interruption, UserError, some
from ..core.files import FULL, write_atomically
from ..core.images import allow_large_images
from ..core.noise import import_quietly, mute_warnings
from ..core.output import outlive_readers
from ..core.signals import number_of, stopping_on_signals
from ..core.telemetry import switch_off
from . import numeric

if TYPE_CHECKING:
    from mmengine.config import Config

# Exit code of a command that ends because of a user's mistake.
USER_MISTAKE = 2
# Exceptions that are raised if a config, which is Python, cannot be read, or options cannot be merged into it.
BROKEN_CONFIG = (SyntaxError, OSError, NameError, TypeError, KeyError, AttributeError, ImportError, IndexError, ValueError,
                 AssertionError)
# Default scope of a config, which is the import name of its package -> kind of model, and commands for it.
SCOPES = {'mmseg': ('a segmentor', ('train', 'test')), 'mmpretrain': ('a classifier', ('classify-train', 'classify-test'))}

# Config of the command that runs, and the name of its file.
LOADED: ContextVar[tuple['Config', str] | None] = ContextVar('LOADED', default=None)

AMP_HELP = 'use mixed precision: bfloat16 on CPUs and newer GPUs, otherwise float16'


def run(main: Callable[[], None], needs: Sequence[str] = ('mmengine', 'mmcv'), go_on: str = 'give the command again') -> None:
    """Run a command. A user's mistake, a failed download or a full disk ends it with one line on stderr and exit code 2.

    A command that was stopped by Ctrl-C, SIGTERM or SIGHUP also ends with one line, and with the exit code of that signal. If a
    reader of the output, such as ``head``, closes the pipe, the command continues. No package sends usage data.

    Args:
        main: function of the command.
        needs: import names of the OpenMMLab packages without which the command cannot start.
        go_on: how the user continues after the command was stopped, as the end of a sentence.
    """
    outlive_readers()
    switch_off()
    mute_warnings()
    try:
        require_mm(*needs)
        allow_large_images()
        with stopping_on_signals():
            # Context variables that it sets, such as trust in checkpoints, are discarded afterwards.
            copy_context().run(explaining_faults_of_the_config, main)
    except KeyboardInterrupt as interrupt:
        number = number_of(interrupt)
        write(f'stopped by {signal.Signals(number).name}; {go_on}')
        sys.exit(128 + number)
    except Interruption as interruption:
        say(f'{interruption}; {go_on}' if interruption.resumable else str(interruption))
        sys.exit(128 + interruption.signal)  # The exit code that a shell reports for a process ended by the signal.
    except UserError as error:
        # For an error in a data loader worker, the message contains the whole traceback.
        message = str(error).rsplit(f'{type(error).__name__}: ', 1)[-1]
        stop(message)
    except URLError as error:
        stop(f'a download failed ({error.reason}); give the file instead, e.g. with --cfg-options '
             'model.backbone.init_cfg.checkpoint=PATH')
    except OSError as error:
        if error.errno not in FULL:
            raise
        stop(f'{error.filename or "a file"} cannot be written: the disk is full or the quota spent; what was '
             f'there before is unharmed. Make room, then {go_on}')
    except RuntimeError as error:
        if type(error).__name__ != 'OutOfMemoryError':  # PyTorch's class, which is not imported here.
            raise
        stop(f'the memory of the GPU is full ({str(error).split(". ")[0]}); use smaller images or batches. In training, '
             'optim_wrapper.accumulative_counts makes up for a lower train_dataloader.batch_size')


def explaining_faults_of_the_config(main: Callable[[], None]) -> None:
    """Run a command, and raise UserError in place of exceptions that are due to the config that :func:`load_config` loaded."""
    try:
        main()
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        from .config_faults import explain
        if (loaded := LOADED.get()) is None or (line := explain(error, *loaded)) is None:
            raise
        raise UserError(line) from error


def stop(message: str) -> NoReturn:
    """End a command with one line on stderr."""
    sys.stderr.write(f'error: {" ".join(message.split())}\n')
    sys.exit(USER_MISTAKE)


class Parser(argparse.ArgumentParser):
    """Argument parser that ends the command with one line if an argument is wrong, like any other user mistake."""

    def error(self, message: str) -> NoReturn:
        """End the command with one line."""
        stop(f'{message}; see --help')


def plain_parser(verb: str, description: str) -> Parser:
    """A parser without arguments, with the command's name as the user typed it."""
    return Parser(prog=command(verb), description=description)


def config_parser(verb: str, description: str, default_config: str | None = None) -> Parser:
    """A parser with the arguments of every command that reads a config; for :func:`load_config`.

    Args:
        verb: verb of the command.
        description: description of the command.
        default_config: name of the default config, a file in ``configs/``.
    """
    parser = plain_parser(verb, description)
    if default_config:
        parser.add_argument('config', nargs='?', default=str(CONFIGS / default_config),
                            help=f'config file (default: {default_config})')
    else:
        parser.add_argument('config', help='config file')
    add_options(parser)
    return parser


def model_parser(verb: str, description: str, checkpoint: bool = True, default_config: str | None = None) -> Parser:
    """A parser with the arguments of every command that builds the model of a config; for :func:`load_model_config`.

    Args:
        verb, description, default_config: see :func:`config_parser`.
        checkpoint: whether the command takes a checkpoint after the config.
    """
    parser = config_parser(verb, description, default_config)
    if checkpoint:
        parser.add_argument('checkpoint', type=os.path.expanduser,
                            help=f'training checkpoint, or output of {command("deploy")}')
    add_trust(parser)
    return parser


def run_parser(verb: str, description: str, checkpoint: bool = True, default_config: str | None = None) -> Parser:
    """A parser with the arguments of the commands that train or test; for :func:`load_run_config`.

    Args:
        verb, description, checkpoint, default_config: see :func:`model_parser`.
    """
    parser = model_parser(verb, description, checkpoint, default_config)
    parser.add_argument('--work-dir', help='folder for logs and results (default: work_dirs/CONFIG_NAME)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes were started')
    parser.add_argument('--local_rank', '--local-rank', type=numeric.whole, default=0, help='set by some launchers')
    return parser


def training_parser(verb: str, description: str, default_config: str | None = None) -> Parser:
    """A parser with the arguments of the commands that train; for :func:`load_run_config` and :func:`prepare_training`."""
    parser = run_parser(verb, description, checkpoint=False, default_config=default_config)
    parser.add_argument('--resume', action='store_true', help='continue from the last checkpoint in the work dir')
    parser.add_argument('--amp', action='store_true', help=AMP_HELP)
    parser.add_argument('--dry-run', action='store_true', help='run two iterations and one validation batch, change nothing in '
                        'the work dir, and print the whole config and the time and memory that training would take')
    parser.add_argument('--out', metavar='FILE', help='with --dry-run, write the config to a file instead of printing it')
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the argument that changes settings of the config."""
    from mmengine.config import DictAction
    parser.add_argument('--cfg-options', nargs='+', type=assignment, action=DictAction, default={}, metavar='KEY=VALUE',
                        help='change settings of the config, e.g. train_dataloader.batch_size=4')


def add_device(parser: argparse.ArgumentParser, default: str | None, where: str) -> None:
    """Add the argument that chooses a device.

    Args:
        parser: parser of a command.
        default: default device; None if it depends on the checkpoint.
        where: the default in words.
    """
    from ..runtime.devices import known_devices
    parser.add_argument('--device', choices=known_devices(), default=default,
                        help=f'device; auto takes the first that is here and works ({where})')


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the argument that trusts checkpoints."""
    parser.add_argument('--trust-checkpoint', action='store_true',
                        help='also read checkpoints that contain more than tensors and .pt2 files, both of which can run '
                        'any code, and files that differ from the record in their deploy.json')


def prepare_training(config: 'Config', args: argparse.Namespace) -> None:
    """Apply the arguments of :func:`training_parser` to a config.

    Raises:
        UserError: the work dir or ``--out`` cannot be written, ``--out`` is a file of the config or is given without
            ``--dry-run``, or ``--amp`` is incompatible with the config.
    """
    from ..engine.hardware import enable_amp
    if args.out and not args.dry_run:
        raise UserError('--out is the file for the config of a dry run; add --dry-run')
    if args.out:
        check_outputs([Output(ensure_writable_file(args.out), '--out')], files_of_config(config))
    if not args.dry_run:
        ensure_writable(config.work_dir)
    config.resume = args.resume
    if args.amp:
        enable_amp(config)


def say_expectation(config: 'Config', expectation: object, out: str | None) -> None:
    """Write the config of a dry run to a file or the terminal, and then what to expect.

    Args:
        config: config that the training would use.
        expectation: what to expect of the training.
        out: file for the config; None for the terminal.
    """
    if not out:
        say(config.pretty_text)
    else:
        write_atomically(config.pretty_text.encode(), Path(out))
        say(f'Wrote the config to {out}')
    say(f'Nothing in {config.work_dir} was changed. {expectation}')


def load_config(args: argparse.Namespace, *scopes: str) -> 'Config':
    """Load the config that a command's arguments specify.

    Args:
        args: parsed arguments of :func:`config_parser`.
        scopes: keys of ``SCOPES`` that the command supports.

    Raises:
        UserError: the file does not exist, is not the config of a model, or is for a model that the command does not support.
        InstallationError: the package of the config's scope is missing.
    """
    from mmengine.config import Config
    path = existing_config(args.config)
    try:
        config = Config.fromfile(path)
    except BROKEN_CONFIG as error:
        raise UserError(f'config {args.config} cannot be read: {error}') from None
    for key in ('model', 'train_dataloader', 'val_dataloader'):
        if key not in config:
            raise UserError(f'config {args.config} has no {key}; expected a file such as those in configs/')
    scope = config.get('default_scope', 'mmseg')
    if scope not in scopes:
        found, hint = f'default_scope={scope!r}', ''
        if scope in SCOPES:
            found, verbs = SCOPES[scope]
            hint = f'; use {" and ".join(map(command, verbs))}'
        raise UserError(f'config {args.config} is for {found}, this tool needs one for {SCOPES[scopes[0]][0]}{hint}')
    require_mm(scope)
    import_quietly(('mmseg', scope))
    from .options import check_options, likely_misspelled
    if args.cfg_options:
        check_options(config, args.cfg_options)
        try:
            config.merge_from_dict(args.cfg_options)
        except BROKEN_CONFIG as error:
            raise UserError(f'--cfg-options ({some(args.cfg_options)}) cannot be merged into {args.config}: {error}') from None
    for line in likely_misspelled(config):
        warn(f'config {args.config}: {line}')
    LOADED.set((config, args.config))
    return config


def load_model_config(args: argparse.Namespace, *scopes: str) -> 'Config':
    """Like :func:`load_config`, for the arguments of :func:`model_parser`, including ``--trust-checkpoint``; a checkpoint on
    the hub is downloaded.

    Raises:
        UserError: as :func:`load_config`; or an option is for the config's model, which the checkpoint's own replaces.
    """
    from ..core.hub import download, is_hub
    from ..core.reading import trust_checkpoints
    trust_checkpoints(args.trust_checkpoint)
    config = load_config(args, *scopes)
    checkpoint = getattr(args, 'checkpoint', '')
    if is_hub(checkpoint):
        checkpoint = args.checkpoint = str(download(checkpoint))
    if checkpoint and args.cfg_options:
        from .options import check_model_options
        check_model_options(checkpoint, args.cfg_options)
    return config


def load_run_config(args: argparse.Namespace, *scopes: str) -> 'Config':
    """Like :func:`load_model_config`, for the arguments of :func:`run_parser`; sets ``launcher`` and ``work_dir``."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    config = load_model_config(args, *scopes)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return config


def assignment(text: str) -> str:
    """Parse KEY=VALUE, for argparse."""
    key, equals, value = text.partition('=')
    if not (equals and all(key.split('.'))) or any(value.count(first) != value.count(last) for first, last in ('()', '[]')):
        raise argparse.ArgumentTypeError(f'expected KEY=VALUE with every bracket closed, got {text}')
    return text


def say(line: str) -> None:
    """Write the closing line of a command, once for all processes."""
    from mmengine.dist import is_main_process
    if is_main_process():
        write(line)


def warn(line: str) -> None:
    """Write a warning to stderr, once for all processes."""
    from mmengine.dist import is_main_process
    if is_main_process():
        sys.stderr.write(f'warning: {line}\n')


def write(text: str) -> None:
    """Write to the terminal."""
    sys.stdout.write(f'{text}\n')
