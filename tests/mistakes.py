"""How a tool must end on a user's mistake."""
import re


def assert_mistake(result, message: str) -> None:
    """One line on stderr, the last thing said, that matches; exit code 2; no traceback."""
    assert result.code == 2, result.err
    line = result.err.rstrip().splitlines()[-1]
    assert line.startswith('error: ') and re.search(message, line), line
    assert 'Traceback' not in line


def assert_error_line(result, line: str) -> None:
    """The last line on stderr is exactly this one; exit code 2; no traceback."""
    assert result.code == 2, result.err
    assert result.err.rstrip().splitlines()[-1] == line
    assert 'Traceback' not in result.err
