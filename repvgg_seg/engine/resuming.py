"""Finding the checkpoint from which a run can go on."""
import zipfile
import zlib
from pathlib import Path

from mmengine.dist import broadcast_object_list, is_main_process

from ..checkpoints import read_checkpoint
from ..errors import CheckpointError

INTERRUPTED = 'interrupted.pth'  # Written where a run was asked to stop.
BEST = 'best_'  # These have no optimizer state.


def find_resumable(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in a work dir that is whole; the same in all processes.

    Returns:
        Its path, None where there is none; and what is wrong with the newer ones that were passed over.

    Raises:
        CheckpointError: there are some, but all are damaged.
    """
    found, damaged = None, []
    if is_main_process():
        for path in candidates(folder):
            reason = damage(path)
            if reason is None:
                found = path
                break
            damaged.append(reason)
    answer = [found, damaged]
    broadcast_object_list(answer)
    found, damaged = answer
    if damaged and found is None:
        raise CheckpointError(f'none of the {len(damaged)} checkpoints in {folder} is whole; restore one, or train without '
                              f'--resume: {damaged[0]}')
    return found, damaged


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
