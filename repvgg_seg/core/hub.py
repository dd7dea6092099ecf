"""Checkpoints and deployed folders on the Hugging Face hub, as ``hf://OWNER/NAME[@REVISION][/FILE]``."""
import os
import re
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from .errors import CheckpointError, InstallationError, some

PREFIX = 'hf://'
SOURCE = re.compile(r'hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?')
DEPLOYED = 'deploy.json'  # A repository that has it holds a folder that was deployed.
WEIGHTS = ('.safetensors', '.pth')


def is_hub(source: object) -> bool:
    """Whether a checkpoint is on the hub."""
    return str(source).startswith(PREFIX)


def download(source: str) -> Path:
    """Download a checkpoint to the cache of huggingface_hub, once for each version.

    Args:
        source: ``hf://OWNER/NAME`` of a repository with a deployed folder or a single file of weights, or
            ``hf://OWNER/NAME/FILE``; a branch, tag or commit can follow the name after ``@``. The environment variable
            ``HF_ENDPOINT`` replaces the address of the hub.

    Returns:
        Path of the file, or of the deployed folder.

    Raises:
        CheckpointError: the name is malformed, nothing can be downloaded, or the repository does not tell which file is meant.
        InstallationError: huggingface_hub is not installed.
    """
    match = SOURCE.fullmatch(source)
    if not match:
        raise CheckpointError(f'checkpoint {source} is not a name on the hub; expected hf://OWNER/NAME or hf://OWNER/NAME/FILE')
    repository = dict(repo_id=match['repo'], revision=match['revision'])
    hub, failures = hub_and_failures()
    try:
        if match['file']:
            return Path(hub.hf_hub_download(filename=match['file'], **repository))
        names = [file.rfilename for file in hub.repo_info(**repository).siblings]
        if DEPLOYED in names:
            return Path(hub.snapshot_download(allow_patterns=[name for name in names if '/' not in name], **repository))
        weights = [name for name in names if PurePosixPath(name).suffix in WEIGHTS]
        if len(weights) == 1:
            return Path(hub.hf_hub_download(filename=weights[0], **repository))
    except failures as error:
        raise CheckpointError(f'checkpoint {source} cannot be downloaded ({first_line(error)})') from None
    raise CheckpointError(f'checkpoint {source} has {some(weights) or "no weights"}; expected {DEPLOYED}, or one file that '
                          f'ends in {" or ".join(WEIGHTS)}: name it as in {PREFIX}{match["repo"]}/FILE')


def hub_and_failures() -> tuple[Any, tuple[type[Exception], ...]]:
    """The hub's API at the address in ``HF_ENDPOINT``, and the exceptions that it raises if a request fails.

    Raises:
        InstallationError: huggingface_hub is not installed.
    """
    hub, errors = required('huggingface_hub'), required('huggingface_hub.errors')
    # The bases of HfHubHTTPError include the class of all errors of the HTTP library, which depends on the version.
    return hub.HfApi(endpoint=os.environ.get('HF_ENDPOINT')), (*errors.HfHubHTTPError.__bases__, ValueError)


def required(name: str) -> ModuleType:
    """Import a package of the extra [hub].

    Raises:
        InstallationError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise InstallationError(f"names that begin with {PREFIX} need {name}, which is not installed; run: pip install "
                                "'repvgg_seg[hub]'") from None


def first_line(error: Exception) -> str:
    """The first line of a message that has some text."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
