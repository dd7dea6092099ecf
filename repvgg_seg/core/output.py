"""Output whose reader may go away, as that of ``| head``."""
import io
import os
import sys
from typing import Any, TextIO


class _Descriptor(io.FileIO):
    """A file descriptor that becomes the null device when nobody reads it any more."""

    def write(self, data: Any, /) -> int:
        """Write, or discard where the pipe is closed."""
        try:
            return super().write(data)
        except BrokenPipeError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)


def outlive_readers() -> None:
    """Let a closed stdout or stderr stop nothing: the work goes on, and what it says is discarded."""
    sys.stdout, sys.stderr = _discarding(sys.stdout), _discarding(sys.stderr)


def _discarding(stream: TextIO | None) -> TextIO:
    if stream is None:  # Closed when the process started.
        return open(os.devnull, 'w')
    if type(stream) is not io.TextIOWrapper or isinstance(getattr(stream.buffer, 'raw', None), _Descriptor):
        return stream  # Of a test, a notebook or another program; or done before.
    stream.flush()
    raw = _Descriptor(stream.fileno(), 'w', closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, stream.errors,
                            line_buffering=stream.line_buffering or stream.write_through)
