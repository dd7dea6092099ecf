"""The name of a command as the reader of a message started it, so that what a message says to run can be copied."""
import sys
from pathlib import Path


def command(verb: str) -> str:
    """What to type for a verb of ``repvgg-seg``: ``tools/VERB.py`` for someone who runs the scripts of a clone."""
    if Path(sys.argv[0]).absolute().parent.name == 'tools':
        return f'tools/{verb.replace("-", "_")}.py'
    return f'repvgg-seg {verb}'
