"""Output streams whose reader may disappear, as with ``| head``."""
import io
import os
import sys
from typing import Any, TextIO


class _Descriptor(io.FileIO):
    """A file descriptor that redirects to the null device once nobody reads it anymore."""

    def write(self, data: Any, /) -> int:
        """Write the data, or discard it if the pipe is closed."""
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


def outlive_readers() -> None:
    """Continue working when stdout or stderr is closed, discarding further output."""
    sys.stdout, sys.stderr = _discarding(sys.stdout), _discarding(sys.stderr)


def _discarding(stream: TextIO | None) -> TextIO:
    if stream is None:  # Closed when the process started.
        return open(os.devnull, 'w')
    if type(stream) is not io.TextIOWrapper or isinstance(getattr(stream.buffer, 'raw', None), _Descriptor):
        return stream  # Belongs to a test, a notebook or another program, or was already replaced.
    stream.flush()
    raw = _Descriptor(stream.fileno(), 'w', closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors,
                            line_buffering=stream.line_buffering or stream.write_through)
