"""What the server answers to good requests, and how it batches them; without a network."""
import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image
from served import CLASSES, PALETTE, decoded, encoded, labels_of, noise, stand_in

pytest.importorskip('fastapi', reason='needs the extra [serve]')
pytest.importorskip('httpx')
from fastapi.testclient import TestClient  # noqa: E402

from repvgg_seg.serving.app import create_app  # noqa: E402
from repvgg_seg.serving.batching import Batcher  # noqa: E402
from repvgg_seg.serving.limits import Limits  # noqa: E402
from repvgg_seg.serving.pictures import read_picture  # noqa: E402


@pytest.fixture(scope='module')
def client():
    with TestClient(create_app(stand_in())) as client:
        yield client


def post(client, body: bytes, kind: str = 'image/png', **parameters):
    return client.post('/segment', content=body, headers={'Content-Type': kind}, params=parameters)


def test_json(client):
    image = noise()
    labels = labels_of(image[None])[0]
    response = post(client, encoded(image))
    answer = response.json()
    assert (response.status_code, answer['height'], answer['width'], answer['batch']) == (200, 40, 60, 1)
    np.testing.assert_array_equal(decoded(base64.b64decode(answer['labels'])), labels)
    expected = {name: int((labels == index).sum()) for index, name in [*enumerate(CLASSES), (255, 'unknown')]}
    assert {entry['name']: entry['pixels'] for entry in answer['classes']} == expected
    assert sum(entry['share'] for entry in answer['classes']) == pytest.approx(1)
    assert [entry['color'] for entry in answer['classes']] == [*PALETTE, [0, 0, 0]]
    assert set(answer['milliseconds']) == {'waited', 'computed'} and 'compute;dur=' in response.headers['server-timing']


@pytest.mark.parametrize('kind', ['PNG', 'JPEG'])
def test_labels(client, kind):
    body = encoded(noise(), kind)
    response = post(client, body, f'image/{kind.lower()}', output='labels')
    assert response.headers['content-type'] == 'image/png'
    np.testing.assert_array_equal(decoded(response.content), labels_of(decoded(body)[None])[0])


@pytest.mark.parametrize('opacity', [0, 0.25, 1])
def test_overlay(client, opacity):
    image = noise()
    found = decoded(post(client, encoded(image), output='overlay', opacity=opacity).content)
    colors = np.zeros((256, 3))
    colors[:len(PALETTE)] = PALETTE
    expected = (1 - opacity) * image + opacity * colors[labels_of(image[None])[0]]
    np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'L', 'P', '1', 'CMYK'])
def test_other_modes_are_converted(client, mode):
    picture = Image.fromarray(noise()).convert(mode)
    body = encoded(picture, 'JPEG' if mode == 'CMYK' else 'PNG')
    expected = labels_of(np.asarray(Image.open(io.BytesIO(body)).convert('RGB'))[None])[0]
    kind = 'image/jpeg' if mode == 'CMYK' else 'image/png'
    np.testing.assert_array_equal(decoded(post(client, body, kind, output='labels').content), expected)


def test_pictures_of_phones_are_turned_upright(client):
    image, exif = noise(), Image.Exif()
    exif[0x0112] = 6  # To be turned clockwise.
    response = post(client, encoded(image, exif=exif), output='labels')
    np.testing.assert_array_equal(decoded(response.content), labels_of(np.rot90(image, -1)[None])[0])


def test_order_and_number_of_channels():
    image = noise()
    bgr = read_picture(encoded(image), stand_in(channels='BGR'), Limits())
    np.testing.assert_array_equal(bgr, image[..., ::-1])
    gray = noise(channels=1)
    np.testing.assert_array_equal(read_picture(encoded(gray), stand_in(channels=None, in_channels=1), Limits()), gray)
    for changes, given in ((dict(channels='BGR'), image), (dict(channels=None, in_channels=1), gray)):
        with TestClient(create_app(stand_in(lambda images: images[..., 0] * 0, **changes))) as client:
            overlay = decoded(post(client, encoded(given), output='overlay', opacity=0).content)
            np.testing.assert_array_equal(overlay, np.broadcast_to(given, (40, 60, 3)))


def test_pictures_are_split_into_the_windows_of_a_fixed_size():
    sizes = []

    def run(images):
        sizes.append(images.shape)
        return labels_of(images)

    image = noise(50, 90)
    for options in (dict(predictor=stand_in(run, size=[32, 48])), dict(predictor=stand_in(run), tile=(32, 48))):
        with TestClient(create_app(**options)) as client:
            found = decoded(post(client, encoded(image), output='labels').content)
        np.testing.assert_array_equal(found, labels_of(image[None])[0])
    assert set(sizes) == {(1, 32, 48, 3)}


class Gate:
    """A stand-in for a network that waits until it may run, and notes its batches."""

    def __init__(self) -> None:
        self.begun, self.free, self.batches = threading.Event(), threading.Event(), []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.begun.set()
        assert self.free.wait(30)
        self.batches.append(images.shape[:3])
        return labels_of(images)


def test_images_of_one_size_that_wait_share_a_run():
    gate = Gate()
    batcher = Batcher(stand_in(gate), 3)
    images = [noise(seed=0)]
    tickets = [batcher.submit(images[0])]
    assert gate.begun.wait(30)
    for seed in range(1, 6):
        images += [noise(seed=seed), noise(20, 30, seed)]
        tickets += map(batcher.submit, images[-2:])
    tickets[3].drop()  # Its client has gone.
    gate.free.set()
    batcher.close()
    assert gate.batches == [(1, 40, 60), (2, 40, 60), (3, 20, 30), (2, 40, 60), (2, 20, 30)]
    assert (batcher.runs, batcher.images) == (5, 10) and not batcher.open
    for index, (image, ticket) in enumerate(zip(images, tickets)):
        answers = ticket.batch.answers.result()
        assert (ticket.place in answers) == (index != 3)
        if index != 3:
            np.testing.assert_array_equal(answers[ticket.place].labels, labels_of(image[None])[0])
            assert answers[ticket.place].batch == len(answers)


def test_several_callers_run_the_network_at_the_same_time():
    together = threading.Barrier(2)

    def run(images):
        together.wait(30)  # Passes only if two threads are here.
        return labels_of(images)

    batcher = Batcher(stand_in(run), 1, callers=2)
    images = [noise(seed=seed) for seed in range(6)]
    tickets = [batcher.submit(image) for image in images]
    for image, ticket in zip(images, tickets):
        np.testing.assert_array_equal(ticket.batch.answers.result(30)[0].labels, labels_of(image[None])[0])
    batcher.close()
    assert (batcher.runs, batcher.images) == (6, 6)


def test_images_that_are_split_do_not_share_a_run():
    gate = Gate()
    batcher = Batcher(stand_in(gate, size=[32, 48]), 3)
    for image in (noise(), noise(32, 48), noise(32, 48), noise(), noise()):
        batcher.submit(image)
    gate.free.set()
    batcher.close()
    assert batcher.runs >= 4 and (2, 40, 60) not in gate.batches


def test_a_failure_of_the_network_is_no_end():
    def run(images):
        if images[0, 0, 0, 0] == 7:
            raise RuntimeError('out of memory')
        return labels_of(images)

    image = noise()
    image[0, 0, 0] = 7
    with TestClient(create_app(stand_in(run)), raise_server_exceptions=False) as client:
        assert post(client, encoded(image)).status_code == 500
        assert post(client, encoded(noise(seed=1))).status_code == 200
        assert client.get('/health').json() == dict(status='ok', in_progress=0)


def test_counts(client):
    before = client.get('/metrics').text
    post(client, encoded(noise()))
    after = client.get('/metrics').text
    values = [dict(line.rsplit(' ', 1) for line in text.splitlines() if not line.startswith('#')) for text in (before, after)]
    for name in ('repvgg_seg_requests_total{status="200"}', 'repvgg_seg_request_seconds_bucket{le="+Inf"}',
                 'repvgg_seg_request_seconds_count', 'repvgg_seg_runs_total', 'repvgg_seg_images_total'):
        assert float(values[1][name]) == float(values[0][name]) + 1
    assert float(values[1]['process_resident_memory_bytes']) > 1e7 and values[1]['repvgg_seg_in_progress'] == '0'


def test_schema_and_its_page_have_every_status(client):
    operation = client.get('/openapi.json').json()['paths']['/segment']['post']
    assert set(operation['responses']) == {'200', '408', '413', '415', '422', '503', '504'}
    assert set(operation['requestBody']['content']) == {'image/png', 'image/jpeg'}
    page = client.get('/docs').text
    assert all(status in page for status in operation['responses']) and 'http://testserver/segment?output=labels' in page


@pytest.mark.parametrize('path', ['/', '/docs'])
def test_pages_load_from_their_own_host_only(client, path):
    response = client.get(path)
    assert response.headers['content-security-policy'].startswith("default-src 'self';")
    assert 'http' not in response.text.replace('http://testserver/segment', '')
