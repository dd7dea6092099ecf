"""Find the checkpoint from which a run can be resumed."""
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process

from ..core.errors import CheckpointError, UserError, some
from ..core.reading import outline, read_checkpoint
from ..core.run_checkpoints import BEST, progress

INTERRUPTED = 'interrupted.pth'  # Written when a run is asked to stop.
NEEDED = ('meta', 'state_dict', 'optimizer', 'message_hub')


def fresh_start(checkpoint: object) -> str:
    """Advice for a run that cannot be resumed: its work dir holds the checkpoint, so the new run needs another one."""
    return f'start from its weights in another --work-dir, without --resume (--cfg-options load_from={checkpoint})'


def checkpoint_folder(config: Config) -> Path:
    """Folder for the checkpoints of a run: its work dir or, if MMEngine's hook has ``out_dir``, a folder of that name in it.

    Raises:
        UserError: the folder is not on a local disk, and the run is to be resumed from there.
    """
    work_dir = Path(config.work_dir).absolute()
    out_dir = (config.get('default_hooks', {}).get('checkpoint') or {}).get('out_dir')
    if out_dir in (None, str(work_dir)):
        return Path(config.work_dir)
    if '://' not in str(out_dir):
        return Path(out_dir, work_dir.name)
    if config.get('resume') and not config.get('load_from'):
        raise UserError(f'the checkpoints of this config are in {out_dir}, where --resume does not look; name one with '
                        '--cfg-options load_from=PATH')
    return Path(config.work_dir)


def find_what_to_resume(config: Config) -> tuple[Mapping, int, list[str]]:
    """Choose the checkpoint to resume from, and set the config's seed to the one that it was trained with.

    Returns:
        The ``meta`` of the checkpoint, empty if training starts from scratch; the number of the run, which distinguishes
        its checkpoints from those of earlier runs in the same folder; and notes for the user about the choice.

    Raises:
        CheckpointError: there are checkpoints, but none that a run can be resumed from.
        UserError: the checkpoints are not on a local disk.
    """
    folder, path, notes = checkpoint_folder(config), None, []
    if config.get('resume') and (not config.get('load_from') or is_start_of_run(config.load_from, folder)):
        path, damaged = find_resumable(folder)
        notes = [f'{reason}; trying the one before it' for reason in damaged]
        config.load_from = path and str(path)
        # MMEngine would follow the path in last_checkpoint, which points to the original if the work dir was copied.
        config.resume = path is not None
        if path is None:
            notes.append(f'There is no checkpoint in {folder} to resume from; training starts from scratch')
    elif not config.get('resume') and (earlier := candidates(folder)):
        notes.append(f'{folder} holds {some(path.name for path in earlier)} of an earlier run; files of the same name will be '
                     'replaced (--resume goes on with that run)')
    if not config.get('resume'):
        return {}, number_of_run(folder), notes
    checkpoint = read_checkpoint(config.load_from)
    if reason := lacking(checkpoint, config.load_from):
        raise CheckpointError(f'{reason}; without --resume, load_from starts from its weights')
    meta = checkpoint['meta']
    if meta.get('seed') is not None:
        config.randomness = dict(config.get('randomness') or {}, seed=int(meta['seed']))
    return meta, meta.get('run', 0) if path else number_of_run(folder), notes


def is_start_of_run(source: str, folder: Path) -> bool:
    """Whether a checkpoint that a config names has only weights, and a folder holds a run that can be resumed."""
    return lacking(read_checkpoint(source), source) is not None and any(damage(path) is None for path in candidates(folder))


def find_resumable(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the most advanced intact checkpoint in a work dir. All processes get the same result.

    Returns:
        The path of the checkpoint, or None if the folder has no checkpoints; and the reasons for rejecting others.

    Raises:
        CheckpointError: the folder has checkpoints, but all are damaged, or only best checkpoints are left.
    """
    found: Path | None = None
    damaged: list[str] = []
    best: list[str] = []
    if is_main_process():
        for path in candidates(folder):
            reason = damage(path)
            if reason is None:
                found = path
                break
            damaged.append(reason)
        best = sorted(path.name for path in folder.glob(f'{BEST}*.pth'))
    answer = [(found, damaged, best)]
    broadcast_object_list(answer)
    found, damaged, best = answer[0]
    if damaged and found is None:
        raise CheckpointError(f'none of the {len(damaged)} checkpoints in {folder} is intact; restore one, or train without '
                              f'--resume: {damaged[0]}')
    if best and found is None:
        raise CheckpointError(f'{folder} holds only {some(best)}, which has weights but no optimizer to resume from; restore a '
                              f'regular checkpoint, or {fresh_start(folder / best[0])}')
    return found, damaged


def candidates(folder: Path) -> list[Path]:
    """Checkpoints in a work dir that a run may be resumed from, most advanced first; those of unknown progress come before."""
    def rank(path: Path) -> tuple:
        reached = progress(outline(path))
        return not reached, reached, path.stat().st_mtime_ns

    return sorted((path for path in sorted(folder.glob('*.pth')) if path.is_file() and not path.name.startswith(BEST)),
                  key=rank, reverse=True)


def number_of_run(folder: Path) -> int:
    """Number of the next run in a work dir: one more than the highest number recorded in its checkpoints, or 0."""
    return 1 + max((reached[0] for path in folder.glob('*.pth') if (reached := progress(outline(path)))), default=-1)


def damage(path: Path) -> str | None:
    """Describe why a checkpoint cannot be resumed from; None if it can.

    PyTorch writes checksums into its archives, but does not verify them when reading.
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
    return lacking(checkpoint, path)


def lacking(checkpoint: Mapping, source: str | Path) -> str | None:
    """Describe what a checkpoint lacks for resuming; None if it is complete."""
    absent = [key for key in NEEDED if key not in checkpoint]
    if not absent and not progress(checkpoint):
        absent = ['meta.iter']
    return f'checkpoint {source} holds no {", ".join(absent)} to resume from' if absent else None


def advice(folder: Path) -> str:
    """Advice on where to resume after a run has failed."""
    path = next((path for path in candidates(folder) if damage(path) is None), None)
    if path is None:
        return 'There is no checkpoint of this run yet'
    return f'The last good checkpoint is {path}'
