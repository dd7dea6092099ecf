"""Finding the checkpoints that a run left in its work dir, by what the files say."""
from collections.abc import Mapping
from pathlib import Path

from .reading import outline

BEST = 'best_'  # How the names of checkpoints begin that were the best; these have no optimizer state.


def find_checkpoint(folder: Path) -> Path | None:
    """The best checkpoint of the last run in a work dir, else the last one; None where there is none.

    The files themselves tell which they are; their times, which copying changes, count only where they do not.
    """
    outlines = {path: outline(path) for path in sorted(folder.glob('*.pth')) if path.is_file()}
    last_first = sorted(outlines, key=lambda path: (progress(outlines[path]), path.stat().st_mtime_ns), reverse=True)
    resumable = next((path for path in last_first if not path.name.startswith(BEST)), None)
    if resumable is not None:
        for name in _named_best(outlines[resumable]):
            if folder / name in outlines:
                return folder / name
    newest_run = [path for path in last_first if progress(outlines[path])[:1] == progress(outlines[last_first[0]])[:1]]
    return next((path for path in newest_run if path.name.startswith(BEST)), next(iter(newest_run), None))


def progress(checkpoint: Mapping) -> tuple[int, ...]:
    """How far a training was when it wrote a checkpoint; what was written later has a larger value.

    Returns:
        The number of the run (of those that were started in one work dir), iterations and epochs; empty where the checkpoint,
        such as weights alone, does not say.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or not isinstance(meta.get('iter'), int):
        return ()
    return tuple(value if isinstance(value, int) else 0 for value in (meta.get(key) for key in ('run', 'iter', 'epoch')))


def _named_best(checkpoint: Mapping) -> list[str]:
    """Names of the files that MMEngine's message hub says are the best; if by several metrics, in the order of these."""
    hub = checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, Mapping) else None
    return [Path(value).name for key, value in info.items() if str(key).startswith('best_ckpt') and isinstance(value, str)] \
        if isinstance(info, Mapping) else []
