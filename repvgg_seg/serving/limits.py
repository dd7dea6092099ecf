"""What one request, and all requests together, may cost the server."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server. Its memory is bounded by ``queue`` times what one picture of ``pixels`` needs.

    Args:
        bytes: largest body of a request.
        pixels: largest height times width of a picture, which is checked before the picture is decoded.
        queue: largest number of requests in progress; further ones are refused at once.
        seconds: longest time to receive a picture, and longest time from then to its answer.
    """
    bytes: int = 16_000_000
    pixels: int = 4_194_304
    queue: int = 32
    seconds: float = 30


DEFAULT_LIMITS = Limits()


class RequestError(Exception):
    """A request that cannot be answered.

    Args:
        status: status code of the response.
        message: what was found, what was expected, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
