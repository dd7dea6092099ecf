"""Writing into a checked file what it is, so that it can be used alone."""
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..runtime.backends import backend_of, parts_of
from ..runtime.description import description_of
from ..runtime.predictor import Predictor, sha256_of
from ..runtime.report import read_record
from .artifacts import Artifact
from .formats import FORMATS


def seal(path: Path, artifact: Artifact, record: Mapping) -> Artifact:
    """Write the description of a file into it, and check that the file describes itself and still gives the same output.

    Args:
        path: file that was checked, in a folder without ``deploy.json``.
        artifact: its record.
        record: content of the future ``deploy.json`` of the folder, including the entry of the file.

    Returns:
        The record with the size and the hash of the described file.

    Raises:
        UserError: the described file gives another output.
    """
    entry = FORMATS[artifact.format]
    before = entry.load(path, artifact.precision)
    backend_of(path).describe(path, description_of(record, path.name))
    info = read_record(path)
    predictor = Predictor(entry.load(path, artifact.precision), info, info['artefacts'][path.name])
    shape = (artifact.batch or 1, *(artifact.size or (predictor.min_size, predictor.min_size)), predictor.in_channels)
    images = np.random.default_rng(0).integers(0, np.iinfo(predictor.dtype).max + 1, shape, predictor.dtype)
    expected = before(images)
    # Logits of two runs may differ in their last bits; class indices are integers.
    if not np.allclose(predictor.run(images), expected, rtol=0, atol=1e-4 * np.abs(expected.astype(float)).max()):
        raise UserError(f'{path.name} gives another output with its description than without; nothing was written')
    return replace(artifact, bytes=sum(part.stat().st_size for part in parts_of(path)), sha256=sha256_of(path))
