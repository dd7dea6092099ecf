"""Reading ``deploy.json``, which describes the files of a deployed folder. Its content is always validated, never trusted."""
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ..core.command_names import command
from ..core.errors import UserError
from ..core.tasks import MODEL_KINDS, SEGMENTATION
from .backends import BACKENDS, backend_of, holds_files

REPORT = 'deploy.json'
PRECISIONS = ('fp32', 'fp16', 'bf16', 'int8')
PIXELS = ('uint8', 'uint16')  # Possible dtypes of images.


def read_report(folder: Path) -> dict:
    """Read the ``deploy.json`` of a folder.

    Returns:
        Its content, including ``artefacts`` (file name -> entry), which is empty if only fused weights were written.

    Raises:
        UserError: there is no ``deploy.json``, or ``repvgg-seg deploy`` did not write it.
    """
    path = folder / REPORT
    if not path.is_file():
        raise UserError(f'{folder} has no {REPORT}; expected a folder that {command("deploy")} wrote, or a file in it')
    try:
        info = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f'{path} cannot be read ({error}); expected what {command("deploy")} writes: export again') from None
    if problem := problem_of(info):
        raise UserError(f'{path} is broken: {problem}; expected what {command("deploy")} writes: export again')
    return {**info, 'artefacts': info.get('artefacts') or {}}


def read_record(source: Path) -> dict:
    """Read what is known about the files of a folder, or about one file: from the ``deploy.json`` of the folder or, if there is
    none or it does not list the file, from the description in the file.

    Args:
        source: folder, or file.

    Returns:
        Content of a ``deploy.json``, as :func:`read_report` returns it. For a file it lists only that file, unless there is no
        such exported file.

    Raises:
        UserError: there is neither a ``deploy.json`` nor a description, or it is broken.
    """
    if holds_files(source) or not (source.exists() or source.name.endswith(tuple(BACKENDS))):
        return read_report(source)
    report = read_report(source.parent) if (source.parent / REPORT).is_file() or not source.exists() else None
    if report is not None and source.name in report['artefacts']:
        return {**report, 'artefacts': {source.name: report['artefacts'][source.name]}}
    if source.exists() and source.name.endswith(tuple(BACKENDS)):
        return read_description(source)
    return report or read_report(source.parent)


def read_description(path: Path) -> dict:
    """Read the description that an exported file carries.

    Returns:
        Content of a ``deploy.json`` that lists only this file.

    Raises:
        UserError: the file has no description, or it is broken.
    """
    expected = f'expected a file that {command("deploy")} wrote: export it again, or copy its {REPORT} beside it'
    try:
        text = backend_of(path).description(path)
        info = None if text is None else json.loads(text)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{path} has no description that can be read ({reason}); {expected}') from None
    if text is None:
        raise UserError(f'{path} has no description; {expected}')
    if not isinstance(info, Mapping) or not isinstance(info.get('artefact'), Mapping):
        raise UserError(f'{path} has a broken description: artefact is missing; {expected}')
    record = {**info, 'artefacts': {path.name: info['artefact']}, 'files': {}}
    if problem := problem_of(record):
        raise UserError(f'{path} has a broken description: {problem}; {expected}')
    return record


def problem_of(info: object) -> str | None:
    """Describe what is wrong with the content of a ``deploy.json``; None if it is valid."""
    if not isinstance(info, Mapping):
        return f'it holds {"null" if info is None else f"a {type(info).__name__}"}, not an object'
    artefacts, files = info.get('artefacts', {}), info.get('files', {})
    if not isinstance(files, Mapping) or not all(isinstance(value, str) for value in files.values()):
        return 'files is not an object of names and their sha256'
    if not isinstance(artefacts, Mapping):
        return f'artefacts is {_kind(artefacts)}, not an object'
    for name, entry in artefacts.items():
        if name != Path(name).name or set(name) & set('\\/:\0') or not name.endswith(tuple(BACKENDS)):
            return f'{name!r} is not a plain file name ending in {", ".join(BACKENDS)}'
        if not isinstance(entry, Mapping):
            return f'the entry of {name} is {_kind(entry)}, not an object'
        if entry.get('precision') not in PRECISIONS:
            return f'the precision of {name} is {entry.get("precision")!r}, none of {", ".join(PRECISIONS)}'
        if entry.get('output') not in ('labels', 'logits'):
            return f'the output of {name} is {entry.get("output")!r}, neither labels nor logits'
        size = entry.get('size')
        if size is not None and not (isinstance(size, list) and len(size) == 2 and all(map(_is_positive, size))):
            return f'the size of {name} is {size!r}, neither null nor height and width'
        if (batch := entry.get('batch')) is not None and not _is_positive(batch):
            return f'the batch of {name} is {batch!r}, neither null nor a number of images'
        if not isinstance(entry.get('sha256', ''), str):
            return f'the sha256 of {name} is {_kind(entry["sha256"])}, not text'
    return _problem_of_model(info) if artefacts else None


def _problem_of_model(info: Mapping) -> str | None:
    classes, palette = info.get('classes'), info.get('palette')
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        return f'classes is {_kind(classes)}, not a list of names'
    if (task := info.get('task', SEGMENTATION)) not in tuple(MODEL_KINDS):
        return f'task is {task!r}, neither {" nor ".join(MODEL_KINDS)}'
    has_colors = isinstance(palette, list) and len(palette) == len(classes) and all(map(_is_color, palette))
    if task == SEGMENTATION and not has_colors:
        return f'palette is not a list of {len(classes)} colors, [red, green, blue] each from 0 to 255'
    count = info.get('in_channels', 3)
    if not _is_positive(count):
        return f'in_channels is {count!r}, not a positive integer'
    if info.get('dtype', PIXELS[0]) not in PIXELS:
        return f'dtype is {info["dtype"]!r}, neither {" nor ".join(PIXELS)}'
    if info.get('channels') not in (('RGB', 'BGR') if count == 3 else (None, )):
        expected = 'neither RGB nor BGR' if count == 3 else f'not null, which images of {count} channel(s) have'
        return f'channels is {info.get("channels")!r}, {expected}'
    if not _is_positive(info.get('min_size')):
        return f'min_size is {info.get("min_size")!r}, not a positive integer'
    return None


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_color(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= 255 for each in value)


def _kind(value: object) -> str:
    return 'missing' if value is None else f'of type {type(value).__name__}'
