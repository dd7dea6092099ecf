"""Downloading an image."""
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from ...core.errors import UserError
from ...core.reading import without_secrets

TIMEOUT = 30  # Seconds without an answer.
CHUNK, LIMIT = 2**20, 2**30  # Bytes.


def download(url: str, path: Path) -> None:
    """Download a file of at most 1 GiB.

    Raises:
        UserError: it cannot be downloaded, is larger, or needs a password.
    """
    shown = without_secrets(url)
    if '@' in urlsplit(url).netloc:
        raise UserError(f'{shown} has a name and a password, which only streams and videos can have; download '
                        'the image yourself and give the file')
    size = 0
    try:
        with urlopen(url, timeout=TIMEOUT) as response, path.open('wb') as file:
            for chunk in iter(partial(response.read, CHUNK), b''):
                size += file.write(chunk)
                if size > LIMIT:
                    raise UserError(f'{shown} has more than {LIMIT // 2**20} MB; download it yourself and give the file')
    except UserError:
        raise
    except (OSError, HTTPException, ValueError) as error:  # URLError is an OSError; an impossible port is a ValueError.
        raise UserError(f'{shown} cannot be downloaded ({error}); check the address, or give a file') from None
