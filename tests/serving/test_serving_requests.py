"""Bad requests to a running server: what each gets is in a table of docs/serving.md, and the server goes on."""
import http.client
import io
import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import SLOW, Served, encoded, noise, served

TABLE = Path(__file__).parents[2] / 'docs/serving.md'
GOOD = encoded(noise())
BYTES = 20_000
OPTIONS = ('--max-bytes', str(BYTES), '--max-pixels', '10000', '--queue', '2', '--timeout', '1')


@pytest.fixture(scope='module')
def server() -> Iterator[Served]:
    with served(*OPTIONS) as started:
        yield started


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', zlib.crc32(kind + content))


def png_of(height: int, width: int, content: bytes = b'', *more: bytes) -> bytes:
    """A PNG with any header."""
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0))
    return b''.join([b'\x89PNG\r\n\x1a\n', header, *more, chunk(b'IDAT', zlib.compress(content)), chunk(b'IEND', b'')])


def flipped(body: bytes) -> bytes:
    """A file with a wrong bit in its middle."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 64]) + body[middle + 1:]


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, 'GIF')
    return buffer.getvalue()


def slow_picture() -> bytes:
    image = noise()
    image[0, 0] = SLOW
    return encoded(image)


def detail(answer: tuple[int, bytes]) -> tuple[int, str]:
    """Status, and what the answer says."""
    status, body = answer
    return status, json.loads(body)['detail'] if body[:1] == b'{' else body.decode()


def send(body, kind: str | None = 'image/png', query: str = '', method: str = 'POST', path: str = '/segment'):
    """A request of a well-behaved client."""
    headers = {} if kind is None else {'Content-Type': kind}
    return lambda server: detail(server.ask(method, path + query, body, headers))


def raw(*parts: bytes, pause: float = 0):
    """Bytes as they are, with a pause before each but the first; status and rest of the answer."""
    def ask(server: Served) -> tuple[int, str]:
        with socket.create_connection(('127.0.0.1', server.port), timeout=30) as connection:
            connection.sendall(parts[0])
            for part in parts[1:]:
                time.sleep(pause)
                connection.sendall(part)
            response = http.client.HTTPResponse(connection)
            response.begin()
            return detail((response.status, response.read()))
    return ask


def head(*lines: str) -> bytes:
    """The beginning of a request."""
    return '\r\n'.join(['POST /segment HTTP/1.1', 'Host: a', 'Content-Type: image/png', *lines, '', '']).encode()


def aborted(server: Served) -> tuple[int, str]:
    """A client that goes away in the middle of its picture; the status is that of the counts."""
    name = 'repvgg_seg_requests_total{status="499"}'
    before = server.metric(name)
    with socket.create_connection(('127.0.0.1', server.port)) as connection:
        connection.sendall(head(f'Content-Length: {len(GOOD)}') + GOOD[:100])
    return _counted(server, name, before)


def impatient(server: Served) -> tuple[int, str]:
    """A client that goes away while its picture waits."""
    name, body = 'repvgg_seg_requests_total{status="499"}', slow_picture()
    before = server.metric(name)
    with socket.create_connection(('127.0.0.1', server.port)) as connection:
        connection.sendall(head(f'Content-Length: {len(body)}') + body)
        while not server.metric('repvgg_seg_in_progress'):
            pass
    return _counted(server, name, before)


def _counted(server: Served, name: str, before: float) -> tuple[int, str]:
    deadline = time.monotonic() + 10
    while server.metric(name) == before:
        assert time.monotonic() < deadline
    return 499, ''


def crowded(server: Served) -> tuple[int, str]:
    """One request more than the queue takes; those before it take too long."""
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(send(slow_picture()), server) for _ in range(2)]
        while server.metric('repvgg_seg_in_progress') < 2:
            pass
        answer = send(GOOD)(server)
        assert [other.result() for other in others] == [(504, TOO_LONG)] * 2
    return answer


TOO_LONG = 'the answer took longer than 1 s; try again later, or send a smaller picture'
DAMAGED = 'the picture is damaged (cut short?): '
AGAIN = '; send it again'
CONTENT_TYPE = ('the Content-Type is {}; expected image/png or image/jpeg and the file as the body, as by curl --data-binary '
                '@street.png -H "Content-Type: image/png"')
NOT_PNG = 'the body is not a PNG or JPEG file; it begins with {}'
BODY = 'the body has more than 20,000 bytes, which is the limit here; send a smaller file'
PIXELS = 'the picture has {} pixels, 10,000 is the limit here; send a smaller one'
FAR = 'the picture has far more than 10,000 pixels, which is the limit here; send a smaller one'
RECEIVED = 'the picture was not received within 1 s; send a smaller file, or use a faster connection'
HUGE = bytes(10 * BYTES)
KINDS = {
    'empty body': (send(b''), 422, 'the body is empty; expected a PNG or JPEG file'),
    'text that claims to be a PNG': (send(b'hello, world'), 415, NOT_PNG.format(b'hello, w')),
    'random bytes': (send(np.random.default_rng(0).bytes(500)), 415, re.compile(NOT_PNG.format('b.*'))),
    'a GIF': (send(gif()), 415, NOT_PNG.format(b'GIF87a<\x00')),
    'Content-Type text/plain': (send(GOOD, 'text/plain'), 415, CONTENT_TYPE.format('text/plain')),
    'no Content-Type': (send(GOOD, None), 415, CONTENT_TYPE.format('nothing')),
    'an HTML form': (send(b'--a\r\n', 'multipart/form-data; boundary=a'), 415,
                     CONTENT_TYPE.format('multipart/form-data; boundary=a')),
    'a PNG that is cut short': (send(GOOD[:len(GOOD) // 2]), 422, re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'a JPEG that is cut short': (send(encoded(noise(), 'JPEG')[:900], 'image/jpeg'), 422,
                                 re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'a PNG with a wrong bit': (send(flipped(GOOD)), 422, re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'a PNG with too few pixels inside': (send(png_of(40, 60, bytes(50))), 422, re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'a PNG whose header is all': (send(b'\x89PNG\r\n\x1a\n'), 422, re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'a bomb: 20,000x20,000 pixels in a few bytes': (send(png_of(20_000, 20_000, bytes(10_000))), 413, FAR),
    'a bomb: a text of 10 MB in a few bytes': (
        send(png_of(40, 60, bytes(9000), chunk(b'zTXt', b'a\0\0' + zlib.compress(bytes(10**7))))), 422,
        re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'the largest size that a PNG can have': (send(png_of(2**31 - 1, 2**31 - 1)), 413, FAR),
    'a size of 0': (send(png_of(0, 60)), 422, re.compile(re.escape(DAMAGED) + '.*' + AGAIN)),
    'more pixels than --max-pixels': (send(encoded(np.zeros((101, 100, 3), np.uint8))), 413, PIXELS.format('101x100')),
    'fewer pixels than the model takes': (send(encoded(noise(15, 60))), 422,
                                          'the picture has 15x60 pixels, this model takes 16x16 or more; enlarge it'),
    '16 bits per channel': (send(encoded(np.zeros((40, 60), np.uint16))), 415,
                            'the picture has more than 8 bits per channel (mode I;16); convert it to 8 bits'),
    'a body larger than --max-bytes': (send(HUGE), 413, BODY),
    'the same in chunks, without a length': (send([bytes(BYTES)] * 2), 413, BODY),
    'an unknown output': (send(GOOD, query='?output=mask'), 422,
                          "output='mask': Input should be 'json', 'labels' or 'overlay'"),
    'an opacity of 2': (send(GOOD, query='?opacity=2'), 422, "opacity='2': Input should be less than or equal to 1"),
    'an opacity that is not a number': (send(GOOD, query='?opacity=nan'), 422, re.compile("opacity='nan': Input should be .*")),
    'GET instead of POST': (send(None, None, method='GET'), 405, 'Method Not Allowed'),
    'an unknown address': (send(GOOD, path='/segments'), 404, 'Not Found'),
    'a path out of the folder of the page': (send(None, None, method='GET', path='/page/..%2fapp.py'), 404, 'Not Found'),
    'not HTTP': (raw(b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'), 400, 'Invalid HTTP request received.'),
    'a header without an end': (raw(head()[:-2] + b'A: ' + bytes(40_000)), 400, 'Invalid HTTP request received.'),
    'a length that is not a number': (raw(head('Content-Length: -5')), 400, 'Invalid HTTP request received.'),
    'a slow upload': (raw(head('Content-Length: 10'), b'a', pause=0.1), 408, RECEIVED),
    'an aborted upload': (aborted, 499, ''),
    'a client that does not wait for its answer': (impatient, 499, ''),
    'more requests than --queue': (crowded, 503, '2 requests are in progress, which is the limit here; try again in a moment'),
    'an answer that takes longer than --timeout': (send(slow_picture()), 504, TOO_LONG),
}


@pytest.mark.parametrize('kind', KINDS)
def test_bad_requests_are_refused_and_the_server_goes_on(server, kind):
    ask, status, message = KINDS[kind]
    found = ask(server)
    assert found[0] == status, found
    if isinstance(message, re.Pattern):
        assert message.fullmatch(found[1]), found
    else:
        assert found[1] == message
    deadline = time.monotonic() + 10
    while server.metric('repvgg_seg_in_progress'):
        assert time.monotonic() < deadline
    assert server.process.poll() is None and server.ask('GET', '/health')[0] == 200


def test_the_table_in_the_docs_is_this_one():
    rows = re.findall(r'^\| (.*?) \| (\d{3}) \|$', TABLE.read_text(encoding='utf-8'), re.MULTILINE)
    assert rows == [(kind, str(status)) for kind, (_, status, _) in KINDS.items()]


def test_after_all_that_pictures_are_still_segmented(server):
    memory = server.metric('process_resident_memory_bytes')
    ask = partial(server.segment, GOOD)
    deadline = time.monotonic() + 10  # The network may still be busy with a picture whose client has gone.
    while ask()[0] != 200:
        assert time.monotonic() < deadline
    for _ in range(100):
        status, answer = ask()
        assert status == 200 and answer['height'] == 40
    assert server.metric('process_resident_memory_bytes') < memory + 20e6


def test_requests_in_progress_are_answered_before_the_server_stops():
    with served() as server, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.segment, slow_picture())
        while not server.metric('repvgg_seg_in_progress'):
            pass
        server.process.terminate()
        assert answer.result()[0] == 200
