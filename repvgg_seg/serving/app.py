"""The web application: what each address of the server answers."""
import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from .. import __version__
from ..core.labels import IGNORE
from ..core.segmentation_page import PAGE, page_html
from ..runtime.predictor import Predictor
from .batching import Answer, Batcher
from .limits import DEFAULT_LIMITS, Limits, RequestError
from .metrics import CONTENT_TYPE, Metrics
from .pictures import TYPES, describe, entries, label_png, overlay_png, read_picture

OWN = Path(__file__).parent / 'page'  # What the server adds to the page.
# The page loads nothing from other hosts, whatever a picture or the name of a class contains.
POLICY = "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none'"
GONE = 499  # As nginx counts a client that went away before its answer.
BINARY = dict(schema=dict(type='string', format='binary'))
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: dict(description=what, content={'application/json': {'schema': {
        'type': 'object', 'properties': {'detail': {'type': 'string'}}, 'required': ['detail']}}})
    for status, what in {
        408: 'The picture was not received in time.', 413: 'The body or the picture is too large.',
        415: 'The body is not a PNG or JPEG file of 8 bits per channel.', 422: 'The picture is damaged or too small, or a '
        'parameter is wrong.', 503: 'Too many requests are in progress.', 504: 'The answer took too long.'}.items()}
DESCRIPTION = 'Segment pictures with an exported model. The answer to a wrong request has a detail that says what to do.'


class Server:
    """What the requests of a server share.

    Args:
        predictor: predictor of a segmentor that returns class indices.
        limits: limits of the server.
        batch: largest number of images of one size in a run of the network.
        tile: height and width of the windows into which larger pictures are split; None for the predictor's default.
        callers: number of runs of the network at the same time.
    """

    def __init__(self, predictor: Predictor, limits: Limits, batch: int, tile: tuple[int, int] | None, callers: int) -> None:
        self.predictor, self.limits = predictor, limits
        self.batcher, self.metrics = Batcher(predictor, batch, tile, callers), Metrics()

    async def segment(self, request: Request, encode: Callable[[np.ndarray, Answer], Any]) -> tuple[Any, Answer]:
        """Answer a request whose body is a picture.

        Args:
            request: request to answer.
            encode: function of the image and its answer that makes the content of the response.

        Returns:
            What ``encode`` returns, and the answer.

        Raises:
            RequestError: the request cannot be answered.
            ClientDisconnect: the client has gone.
        """
        start = time.perf_counter()
        if self.metrics.in_progress >= self.limits.queue:
            raise RequestError(503, f'{self.limits.queue} requests are in progress, which is the limit here; try again in a '
                                    'moment')
        self.metrics.in_progress += 1
        try:
            body = await self.receive(request)
            image = await run_in_threadpool(read_picture, body, self.predictor, self.limits)
            answer = await self.answer(request, image)
            content = await run_in_threadpool(encode, image, answer)
        finally:
            self.metrics.in_progress -= 1
        self.metrics.answered(time.perf_counter() - start)
        return content, answer

    async def receive(self, request: Request) -> bytes:
        """Read the body of a request, but no more than the limit.

        Raises:
            RequestError: the type of the body is not that of a picture, it is too large, empty, or too slow.
            ClientDisconnect: the client has gone.
        """
        limit, given = self.limits.bytes, request.headers.get('content-type', 'nothing')
        if given.partition(';')[0].strip().lower() not in TYPES:
            raise RequestError(415, f'the Content-Type is {given}; expected {" or ".join(TYPES)} and the file as the body, '
                                    'as by curl --data-binary @street.png -H "Content-Type: image/png"')
        too_large = RequestError(413, f'the body has more than {limit:,} bytes, which is the limit here; send a smaller file')
        if int(request.headers.get('content-length', 0)) > limit:
            raise too_large

        async def read() -> bytes:
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise too_large
            return bytes(body)

        try:
            body = await asyncio.wait_for(read(), self.limits.seconds)
        except asyncio.TimeoutError:
            raise RequestError(408, f'the picture was not received within {self.limits.seconds:g} s; send a smaller file, or '
                                    'use a faster connection') from None
        if not body:
            raise RequestError(422, 'the body is empty; expected a PNG or JPEG file')
        return body

    async def answer(self, request: Request, image: np.ndarray) -> Answer:
        """Wait for the labels of an image, but not if its client has gone or the time is up.

        Raises:
            RequestError: the time is up.
            ClientDisconnect: the client has gone.
        """
        ticket = self.batcher.submit(image)
        answers = asyncio.wrap_future(ticket.batch.answers)
        gone = asyncio.ensure_future(request.receive())  # After the body, only the end of the connection can come.
        awaited: set[asyncio.Future] = {answers, gone}
        await asyncio.wait(awaited, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        if answers.done():
            gone.cancel()
            return answers.result()[ticket.place]
        ticket.drop()
        if gone.done():
            raise ClientDisconnect
        gone.cancel()
        raise RequestError(504, f'the answer took longer than {self.limits.seconds:g} s; try again later, or send a smaller '
                                'picture')

    def about(self) -> dict:
        """Describe the model and the limits as JSON."""
        predictor = self.predictor
        return dict(
            format=predictor.artifact.get('format'), precision=predictor.artifact['precision'],
            classes=entries(predictor.classes, predictor.palette), unknown=IGNORE, min_size=predictor.min_size,
            size=predictor.size, limits=vars(self.limits), repvgg_seg_version=__version__)


def create_app(predictor: Predictor, limits: Limits = DEFAULT_LIMITS, batch: int = 4,
               tile: tuple[int, int] | None = None, callers: int = 1) -> FastAPI:
    """Create the application for a predictor; for the arguments, see :class:`Server`."""
    server = Server(predictor, limits, batch, tile, callers)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        server.batcher.close()

    app = FastAPI(title='repvgg-seg serve', version=__version__, description=DESCRIPTION, lifespan=lifespan, docs_url=None,
                  redoc_url=None)

    @app.post('/segment', summary='Segment a picture', responses={
        200: dict(description='The labels. The header Server-Timing has the milliseconds.', content={
            'application/json': {}, 'image/png': BINARY}), **REFUSALS},
        openapi_extra=dict(requestBody=dict(required=True, content=dict.fromkeys(TYPES, BINARY))))
    async def segment(
            request: Request,
            output: Annotated[Literal['json', 'labels', 'overlay'], Query(
                description='json: share of each class, milliseconds, and the labels as a PNG in base64; labels: gray PNG of '
                            'class indices, 255 is unknown; overlay: PNG of the picture with colored labels')] = 'json',
            opacity: Annotated[float, Query(ge=0, le=1, description='of the labels in an overlay')] = 0.55) -> Response:
        def encode(image: np.ndarray, answer: Answer) -> Any:
            if output == 'json':
                return describe(answer.labels, predictor)
            return label_png(answer.labels) if output == 'labels' else overlay_png(image, answer.labels, predictor, opacity)

        content, answer = await server.segment(request, encode)
        waited, computed = (round(1000 * seconds, 2) for seconds in (answer.waited, answer.computed))
        timing = {'Server-Timing': f'wait;dur={waited}, compute;dur={computed}'}
        if output == 'json':
            return JSONResponse(dict(content, milliseconds=dict(waited=waited, computed=computed), batch=answer.batch),
                                headers=timing)
        return Response(content, media_type='image/png', headers=timing)

    @app.get('/model', summary='Classes, colors, sizes and limits')
    async def model() -> dict:
        return server.about()

    @app.get('/health', summary='Whether the server takes requests')
    async def health() -> dict:
        return dict(status='ok', in_progress=server.metrics.in_progress)

    @app.get('/metrics', summary='Counts for Prometheus', response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(server.metrics.text(server.batcher.runs, server.batcher.images), media_type=CONTENT_TYPE)

    @app.get('/docs', include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(OWN), autoescape=True,
                                         undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        return HTMLResponse(environment.get_template('docs.html').render(schema=app.openapi(), root=request.base_url),
                            headers={'Content-Security-Policy': POLICY})

    @app.get('/', include_in_schema=False)
    async def page() -> HTMLResponse:
        html = page_html('page/', ['own/server.js'], {'docs': 'Interface for programs'}, 'They are sent to this server only.')
        return HTMLResponse(html, headers={'Content-Security-Policy': POLICY})

    for name, folder in (('page', PAGE), ('own', OWN)):
        app.mount(f'/{name}', StaticFiles(directory=folder))

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> JSONResponse:
        headers = {'Retry-After': '1'} if error.status == 503 else {}
        return JSONResponse(dict(detail=str(error)), error.status, headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [f'{each["loc"][-1]}={each.get("input")!r}: {each["msg"]}' for each in error.errors()]
        return JSONResponse(dict(detail='; '.join(found)), 422)

    @app.exception_handler(ClientDisconnect)
    async def note_gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)

    app.add_middleware(CountStatuses, counts=server.metrics.statuses)
    return app


class CountStatuses:
    """Middleware that counts the status codes of the responses to requests for a segmentation.

    Args:
        app: application to wrap.
        counts: counter by status code.
    """

    def __init__(self, app: Any, counts: dict[int, int]) -> None:
        self.app, self.counts = app, counts

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """Answer a request; see https://asgi.readthedocs.io."""
        async def count(message: dict) -> None:
            if message['type'] == 'http.response.start' and scope['path'] == '/segment':
                self.counts[message['status']] += 1
            await send(message)

        await self.app(scope, receive, count)
