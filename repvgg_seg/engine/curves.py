"""Plot training runs from the logs of MMEngine."""
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from mmengine.dist import master_only

from ..core.destinations import Output, check_outputs
from ..core.errors import UserError
from ..core.files import write_atomically

CURVES = 'curves.png'  # Name in a work dir.
LOGS = '*/vis_data/scalars.json'  # Path in a work dir.
METRICS = ('mIoU', 'accuracy/top1')
COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00')  # For color-blind readers too (Okabe, Ito).
STYLES = ('-', '--', ':')


def draw_curves(work_dirs: Sequence[Path], out: Path, labels: Sequence[str] | None = None) -> None:
    """Plot training losses and validation metrics of runs in one picture.

    Args:
        work_dirs: work dirs of the runs.
        out: picture to write, in the format given by its suffix.
        labels: names of the runs; by default their work dirs, relative to the folder that all of them share.

    Raises:
        UserError: a run has no log, there are more runs than line styles, the suffix is unknown, or the picture would
            overwrite a log.
    """
    looks = [dict(color=color, linestyle=style) for style in STYLES for color in COLORS]
    if len(work_dirs) > len(looks):
        raise UserError(f'got {len(work_dirs)} runs, can draw at most {len(looks)} in one picture')
    if not out.suffix:
        raise UserError(f'cannot write {out}: it has no suffix; expected one such as .png or .pdf')
    check_outputs([Output(out, '--out')], [log for work_dir in work_dirs for log in work_dir.glob(LOGS)])
    figure = Figure(figsize=(10, 4 + 0.12 * len(work_dirs)), layout='constrained')
    left, right = figure.subplots(1, 2)
    drawn = []
    unit = 'epoch'
    folders = [work_dir.absolute() for work_dir in work_dirs]
    shared = os.path.commonpath([folder.parent for folder in folders])
    for look, folder, label in zip(looks, folders, labels or [str(folder.relative_to(shared)) for folder in folders]):
        records = read_log(folder)
        style = dict(look, label=label)
        losses = {record['step']: record['loss'] for record in records if 'loss' in record}
        left.plot(losses.keys(), losses.values(), **style)
        metric = next((name for name in METRICS if any(name in record for record in records)), None)
        if metric:
            values = {record['step']: record[metric] for record in records if metric in record}
            right.plot(values.keys(), values.values(), marker='o', **style)
            drawn.append(metric)
        if not any('epoch' in record for record in records):
            unit = 'iteration'
    left.set(xlabel='iteration', ylabel='training loss')
    right.set(xlabel=unit, ylabel=f'validation {" and ".join(dict.fromkeys(drawn))} (%)')
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    if left.lines:
        figure.legend(handles=left.lines, loc='outside lower center', ncols=2)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=out.suffix[1:], dpi=120)
    except ValueError as error:
        raise UserError(f'cannot write {out}: {error}') from None
    write_atomically(picture.getbuffer(), out)


@master_only
def leave_curves(work_dir: Path) -> Path | None:
    """Draw the curves of the last run in a work dir into it, by the main process.

    Returns:
        Path of the picture; None in other processes, and if the config logs nothing that can be drawn.
    """
    if not any(work_dir.glob(LOGS)):
        return None
    draw_curves([work_dir], work_dir / CURVES)
    return work_dir / CURVES


def read_log(work_dir: Path) -> list[dict]:
    """Read the records of the last run in a work dir in chronological order, including those after it was resumed.

    Raises:
        UserError: there is no log.
    """
    logs = sorted(work_dir.glob(LOGS))
    if not logs:
        raise UserError(f'{work_dir} has no {LOGS}; expected the work dir of a training run')
    run: list[dict] = []
    for log in logs:
        records = [json.loads(line) for line in log.read_text().splitlines()]
        if records and run:
            # The step of a loss is an iteration, and that of a metric is an epoch; a log can begin with either.
            validated = 'loss' not in records[0]
            before = next((record for record in run if ('loss' not in record) == validated), None)
            if before and records[0]['step'] <= before['step']:
                run = []  # The later run started from scratch.
        run += records
    return run
