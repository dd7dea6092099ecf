"""Finding the checkpoint from which a run can go on."""
import logging
import zipfile
import zlib
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from ..checkpoints import read_checkpoint
from ..errors import CheckpointError

INTERRUPTED = 'interrupted.pth'  # Written where a run was asked to stop.
BEST = 'best_'  # These have no optimizer state.


def find_resumable(folder: Path) -> Path | None:
    """The newest checkpoint in a work dir that is whole; the same in all processes, None where there is none.

    Newer ones that are damaged are warned of.

    Raises:
        CheckpointError: there are some, but all are damaged.
    """
    found = [None]
    damaged = []
    if is_main_process():
        for path in candidates(folder):
            reason = damage(path)
            if reason is None:
                found = [path]
                break
            damaged.append(path)
            print_log(f'{reason}; trying the one before it', logger='current', level=logging.WARNING)
        else:
            found = [CheckpointError(f'none of the {len(damaged)} checkpoints in {folder} is whole; restore one, or train '
                                     'without --resume') if damaged else None]
    broadcast_object_list(found)
    if isinstance(found[0], CheckpointError):
        raise found[0]
    return found[0]


def candidates(folder: Path) -> list[Path]:
    """Checkpoints in a work dir that a run wrote to go on from, newest first."""
    return sorted((path for path in folder.glob('*.pth') if not path.name.startswith(BEST)),
                  key=lambda path: path.stat().st_mtime_ns, reverse=True)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint to resume from; None if nothing.

    PyTorch writes check sums into its archives, but does not compare them when it reads.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if broken := archive.testzip():
                return f'checkpoint {path} is damaged: the check sum of {broken} in it is wrong'
        checkpoint = read_checkpoint(path)
    except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError) as error:
        return f'checkpoint {path} is damaged: {error or type(error).__name__}'
    except CheckpointError as error:
        return str(error)
    absent = [key for key in ('meta', 'state_dict', 'optimizer', 'message_hub') if key not in checkpoint]
    return f'checkpoint {path} holds no {", ".join(absent)} to resume from' if absent else None


def advice(folder: Path) -> str:
    """How to go on after a run has failed."""
    path = next((path for path in candidates(folder) if damage(path) is None), None)
    if path is None:
        return 'There is no checkpoint of this run yet'
    return f'The last good checkpoint is {path}'
