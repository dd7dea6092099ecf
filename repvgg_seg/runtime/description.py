"""The description that an exported file carries, so that it can be used without the ``deploy.json`` of its folder.

It is a part of the content of ``deploy.json``: :data:`FIELDS` of the model and, as ``artefact``, the entry of the file, except
what a file cannot know of itself (:data:`OUTSIDE`). Each format has its own place for it, which is read and written without the
runtime; the default is a second file.
"""
import json
from collections.abc import Mapping
from pathlib import Path

KEY = 'repvgg_seg'  # Name of the description in a file.
FIELDS = ('repvgg_seg_version', 'torch_version', 'source', 'source_sha256', 'task', 'classes', 'palette', 'channels',
          'in_channels', 'dtype', 'min_size', 'mean', 'std', 'threshold', 'backbone', 'arch', 'dilation', 'align_corners',
          'steps_left_out', 'unit', 'images', 'real_images', 'evaluated_images', 'miou_before', 'miou_after', 'accuracy_before',
          'accuracy_after')
OUTSIDE = ('bytes', 'sha256')
SIDECAR = '.json'  # What is appended to the name of a file whose format has no place for a description.


def description_of(record: Mapping, name: str) -> str:
    """Describe a file in JSON.

    Args:
        record: content of the ``deploy.json`` of its folder.
        name: name of the file.
    """
    artefact = {key: value for key, value in record['artefacts'][name].items() if key not in OUTSIDE}
    return json.dumps({**{field: record[field] for field in FIELDS}, 'artefact': artefact})


def sidecar_of(path: Path) -> Path:
    """The file beside a file that describes it, if its format has no place for that."""
    return path.with_name(path.name + SIDECAR)


def write_sidecar(path: Path, description: str) -> None:
    """Describe a file in a second file."""
    sidecar_of(path).write_text(description)


def read_sidecar(path: Path) -> str | None:
    """Read the description of a file from a second file; None if there is none."""
    sidecar = sidecar_of(path)
    return sidecar.read_text(encoding='utf-8') if sidecar.is_file() else None
