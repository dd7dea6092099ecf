"""What the tools share: their arguments, their config, and how a user's mistake ends."""
import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.error import URLError

from .environment import require_mm
from .errors import UserError

# Exit code of a tool that ends on a user's mistake.
USER_MISTAKE = 2


def run(main: Callable[[], None]) -> None:
    """Run a tool; a user's mistake or a failed download ends it with one line on stderr and exit code 2."""
    try:
        require_mm('mmengine', 'mmcv', 'mmseg')
        main()
    except UserError as error:
        # A data loader's worker passes its whole traceback on as the message.
        message = str(error).rsplit(f'{type(error).__name__}: ', 1)[-1]
        stop(message)
    except URLError as error:
        stop(f'a download failed ({error.reason}); give the file instead, e.g. with --cfg-options '
             'model.backbone.init_cfg.checkpoint=PATH')


def stop(message: str) -> NoReturn:
    """End a tool with one line on stderr."""
    sys.stderr.write(f'error: {" ".join(message.split())}\n')
    sys.exit(USER_MISTAKE)


def tool_parser(description: str, checkpoint: bool) -> argparse.ArgumentParser:
    """The arguments that all tools have, as in MMSegmentation.

    Args:
        description: what the tool does.
        checkpoint: whether it takes a checkpoint after the config.
    """
    from mmengine.config import DictAction
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    if checkpoint:
        parser.add_argument('checkpoint', help='training checkpoint, or the folder that tools/deploy.py wrote')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints (default: work_dirs/NAME-OF-CONFIG)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
                        help='change settings of the config, e.g. train_dataloader.batch_size=4')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none',
                        help='how the processes were started')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by some launchers')
    return parser


def load_config(args: argparse.Namespace) -> 'mmengine.config.Config':  # noqa: F821
    """The ``mmengine.Config`` of a tool's arguments.

    Raises:
        UserError: no such file, or a file that is not the config of a segmentor.
    """
    from mmengine.config import Config
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if not Path(args.config).is_file():
        raise UserError(f'config {args.config} does not exist; expected a file such as those in configs/')
    try:
        config = Config.fromfile(args.config)
    except (SyntaxError, OSError, NameError) as error:
        raise UserError(f'config {args.config} cannot be read: {error}') from None
    for key in ('model', 'train_dataloader', 'val_dataloader'):
        if key not in config:
            raise UserError(f'config {args.config} has no {key}; expected the config of a segmentor')
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    return config


def ensure_writable(folder: str | Path) -> Path:
    """Make a folder and check that files can be written into it.

    Raises:
        UserError: they cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f'folder {folder} cannot be written ({error.strerror}); choose another one') from None
    return folder


def say(line: str) -> None:
    """Write the closing line of a tool, once for all processes."""
    from mmengine.dist import is_main_process
    if is_main_process():
        sys.stdout.write(line + '\n')
