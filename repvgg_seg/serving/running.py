"""Running the server: loading the model, binding the address, and stopping."""
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..core.errors import InstallationError, UserError
from ..core.tasks import MODEL_KINDS, SEGMENTATION
from ..runtime.predictor import PROGRAM, Predictor, load
from .limits import DEFAULT_LIMITS, Limits
from .pictures import MODES

BACKLOG = 128  # Connections that wait for the server to accept them.
IDLE_CONNECTIONS = 128  # Connections beyond those of the requests in progress.
GRACE = 30  # Seconds that requests in progress get when the server stops.
WARM_UP = (64, 64)  # Height and width, if the model takes any size.


def serve(source: str | Path, host: str = '127.0.0.1', port: int = 8000, limits: Limits = DEFAULT_LIMITS, batch: int = 4,
          tile: tuple[int, int] | None = None, threads: int | None = None, callers: int = 1, trust: bool = False,
          ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve an exported segmentor until a signal (SIGINT or SIGTERM) comes; requests in progress are then finished.

    Args:
        source: exported file or its folder.
        host: address to bind; by default only this machine can connect.
        port: port to bind; 0 for any free one.
        limits: what requests may cost.
        batch: largest number of images of one size in a run of the network.
        tile: height and width of the windows into which larger pictures are split; None for the predictor's default.
        threads: number of CPU threads of the network; by default the backend decides.
        callers: number of runs of the network at the same time; with more than one, OpenVINO divides the threads between them.
        trust: whether to load a program, and a file that differs from what was exported.
        ready: function that is called with the URL when the server accepts connections.

    Raises:
        UserError: the model cannot be served, or the address cannot be bound.
        InstallationError: FastAPI, uvicorn or the backend is not installed.
    """
    try:
        import uvicorn

        from .app import create_app
    except ModuleNotFoundError as error:
        if error.name not in ('fastapi', 'uvicorn'):
            raise
        raise InstallationError(f"{error.name} is not installed; run: pip install 'repvgg_seg[serve]'") from None
    predictor = load_segmentor(Path(source), threads, trust, callers)
    warm_up(predictor, tile)
    with bind(host, port) as listener:
        app = create_app(predictor, limits, batch, tile, callers)
        server = uvicorn.Server(uvicorn.Config(
            app, log_level='error', access_log=False, limit_concurrency=limits.queue + IDLE_CONNECTIONS,
            timeout_graceful_shutdown=GRACE, server_header=False))
        # While it runs, uvicorn handles signals itself; then it raises them again, for these.
        before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ready(f'http://{f"[{host}]" if ":" in host else host}:{listener.getsockname()[1]}')
            server.run([listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def load_segmentor(source: Path, threads: int | None, trust: bool, callers: int = 1) -> Predictor:
    """Load an exported segmentor; for the arguments, see :func:`serve`.

    Raises:
        UserError: it cannot be loaded, or is not a segmentor that returns class indices for pictures.
    """
    if source.suffix == PROGRAM and not trust:
        raise UserError(f'{source} is a program, which can run any code; if you know who made it, add --trust-checkpoint, else '
                        'use another format')
    predictor = load(source, threads, verify=not trust, throughput=None if callers > 1 else False)
    if predictor.task != SEGMENTATION:
        raise UserError(f'{source} is a {MODEL_KINDS[predictor.task]}; only segmentors can be served')
    if predictor.artifact['output'] != 'labels':
        raise UserError(f'{source} returns {predictor.artifact["output"]}; expected class indices, so export it without '
                        '--logits')
    if predictor.in_channels not in MODES:
        raise UserError(f'{source} takes images of {predictor.in_channels} channels, but PNG and JPEG files have '
                        f'{" or ".join(map(str, MODES))} of them')
    if predictor.dtype != np.uint8:
        raise UserError(f'{source} takes images of {predictor.dtype}, but only pictures of 8 bits can be served')
    return predictor


def warm_up(predictor: Predictor, tile: tuple[int, int] | None) -> None:
    """Segment a black image, so that the first request is not the slowest one.

    Raises:
        UserError: the model does not take the tile.
    """
    height, width = predictor.size or tile or np.maximum(WARM_UP, predictor.min_size)
    predictor(np.zeros((height, width, predictor.in_channels), np.uint8), tile=tile)


def bind(host: str, port: int) -> socket.socket:
    """Bind an address, and let connections wait there.

    Raises:
        UserError: it cannot be bound.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = str(error.strerror).partition(' (while')[0]  # Python adds the address to the reason.
        raise UserError(f'port {port} of {host} cannot be bound ({reason}); choose another one with --port or --host') from None
