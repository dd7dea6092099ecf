"""How a tool must end on a user's mistake, and a checkpoint that carries code."""
import os
import re
from pathlib import Path

REFUSED = ('checkpoint {} is refused: it holds more than tensors and plain values (posix.mkdir), which could run code; save '
           'its state_dict alone. If you know who made it, add --trust-checkpoint')


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


def assert_error_line(result, line: str | re.Pattern[str]) -> None:
    """The last line on stderr is exactly this one, or one that the whole pattern fits; exit code 2; no traceback."""
    assert result.code == 2, result.err
    last = result.err.rstrip().splitlines()[-1]
    if isinstance(line, re.Pattern):
        assert line.fullmatch(last), f'{last!r} is not {line.pattern!r}'
    else:
        assert last == line
    assert 'Traceback' not in result.err
