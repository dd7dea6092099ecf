"""Finding the checkpoints that a run left in its work dir, based on the content of the files."""
from collections.abc import Mapping
from pathlib import Path

from .reading import outline

BEST = 'best_'  # Prefix of the names of best checkpoints; these have no optimizer state.


def find_checkpoint(folder: Path) -> Path | None:
    """Find the best checkpoint of the last run in a work dir, or else the last one; None if there is none.

    The files' content determines the order; modification times, which copying changes, count only if the content does not say.
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
    """Measure how far training was when it wrote a checkpoint; later checkpoints have larger values.

    Returns:
        The number of the run (among the runs in one work dir), of iterations and of epochs; empty if the checkpoint does not
        say, such as one that only has weights.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, Mapping) or not isinstance(meta.get('iter'), int):
        return ()
    return tuple(value if isinstance(value, int) else 0 for value in (meta.get(key) for key in ('run', 'iter', 'epoch')))


def _named_best(checkpoint: Mapping) -> list[str]:
    """Names of the files that MMEngine's message hub lists as the best; with several metrics, in the order of the metrics."""
    hub = checkpoint.get('message_hub')
    info = hub.get('runtime_info') if isinstance(hub, Mapping) else None
    return [Path(value).name for key, value in info.items() if str(key).startswith('best_ckpt') and isinstance(value, str)] \
        if isinstance(info, Mapping) else []
