"""The name of a command in the form in which the reader started it, so that commands in messages can be copied."""
import sys
from pathlib import Path


def command(verb: str) -> str:
    """Spell out a verb of ``repvgg-seg``: ``tools/VERB.py`` for users who run the scripts of a clone."""
    if Path(sys.argv[0]).absolute().parent.name == 'tools':
        return f'tools/{verb.replace("-", "_")}.py'
    return f'repvgg-seg {verb}'
