"""The page of the server in a browser: pictures chosen, dropped, too large or none, the webcam, and the legend."""
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browser
from PIL import Image
from served import CLASSES, PALETTE, Served, encoded, labels_of, noise, served

MAX_PIXELS = 40_000


@pytest.fixture(scope='module')
def server() -> Iterator[Served]:
    with served('--max-pixels', str(MAX_PIXELS)) as started:
        yield started


@pytest.fixture(scope='module')
def one_browser(tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp('profile')) as started:
        yield started


@pytest.fixture
def page(server, one_browser) -> Iterator[Browser]:
    """The page, opened; neither its script nor a request of it must fail."""
    one_browser.open(f'http://127.0.0.1:{server.port}/')
    one_browser.wait('document.body.dataset.ready')
    yield one_browser
    assert one_browser.mistakes == []


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """Two pictures."""
    paths = [tmp_path / 'first.png', tmp_path / 'second.png']
    for seed, path in enumerate(paths):
        path.write_bytes(encoded(noise(seed=seed)))
    return paths


def shown_colors(page: Browser) -> np.ndarray:
    """Colors and opacity, 0 to 255, of the labels that are shown: (H, W, 4)."""
    picture = base64.b64decode(page.run('document.getElementById("labels").toDataURL()').partition(',')[2])
    return np.asarray(Image.open(io.BytesIO(picture)))


def colors_of(image: np.ndarray) -> np.ndarray:
    """The colors of the labels of an image."""
    table = np.zeros((256, 3), np.uint8)
    table[:len(PALETTE)] = PALETTE
    return table[labels_of(image[None])[0]]


def drop(page: Browser, content: bytes, name: str, kind: str) -> None:
    """Drop a file on the page."""
    page.run(f"""(() => {{
        const bytes = Uint8Array.from(atob({json.dumps(base64.b64encode(content).decode())}), each => each.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], {json.dumps(name)}, {{type: {json.dumps(kind)}}}));
        dispatchEvent(new DragEvent('drop', {{dataTransfer: transfer, bubbles: true, cancelable: true}}));
    }})()""")


def test_chosen_pictures(page, files):
    page.choose('#files', *files)
    page.wait('document.querySelectorAll("#strip button").length === 2 && document.getElementById("busy").hidden')
    for number, button in ((2, None), (1, '#strip button:nth-child(1)')):  # The last one is shown first.
        if button:
            page.click(button)
        image = noise(seed=number - 1)
        found = shown_colors(page)
        np.testing.assert_array_equal(found[..., :3], colors_of(image))
        assert (found[..., 3] == 255).all()
    labels = labels_of(image[None])[0]
    shares = {name: f'{100 * (labels == index).mean():.1f}%' for index, name in [*enumerate(CLASSES), (255, 'unknown')]}
    assert dict(zip(page.texts('#legend .name'), page.texts('#legend .share'))) == shares
    facts = dict(zip(page.texts('#facts dt'), page.texts('#facts dd')))
    assert facts['Size'] == '60 × 40' and all(facts[name].endswith(' ms') for name in ('Network', 'Waiting', 'In all'))
    assert page.texts('#message') == ['']


def test_a_click_hides_a_class(page, files):
    drop(page, files[0].read_bytes(), 'first.png', 'image/png')
    page.wait('!document.getElementById("panel").hidden')
    labels = labels_of(noise()[None])[0]
    page.click('#legend [data-class="1"]')
    np.testing.assert_array_equal(shown_colors(page)[..., 3] == 0, labels == 1)
    page.click('#legend [data-class="1"]')
    assert (shown_colors(page)[..., 3] == 255).all()


def test_opacity_and_the_class_under_the_pointer(page, files):
    drop(page, files[0].read_bytes(), 'first.png', 'image/png')
    page.wait('!document.getElementById("panel").hidden')
    page.run('(() => { const range = document.getElementById("opacity"); range.value = 20; '
             'range.dispatchEvent(new Event("input")); })()')
    assert page.run('getComputedStyle(document.getElementById("labels")).opacity') == '0.2'
    assert page.texts('#percent') == ['20%']
    labels, box = labels_of(noise()[None])[0], page.run('pictureCanvas.getBoundingClientRect().toJSON()')
    zoom = min(box['width'] / 60, box['height'] / 40)
    for row, column in ((0, 0), (11, 17), (39, 59)):
        x = box['x'] + (box['width'] - 60 * zoom) / 2 + (column + 0.5) * zoom
        y = box['y'] + (box['height'] - 40 * zoom) / 2 + (row + 0.5) * zoom
        page.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)
        index = int(labels[row, column])
        assert page.texts('#under') == ['unknown' if index == 255 else CLASSES[index]]


def test_a_large_picture_of_another_format_is_made_smaller(page):
    drop(page, encoded(noise(300, 400), 'WEBP', lossless=True), 'large.webp', 'image/webp')
    page.wait('!document.getElementById("panel").hidden')
    size = page.texts('#facts dd')[0]
    width, height = map(int, size.removesuffix(', made smaller').split(' × '))
    assert size.endswith(', made smaller') and 0.98 * MAX_PIXELS < width * height <= MAX_PIXELS


def test_what_is_no_picture(page):
    drop(page, b'hello', 'notes.txt', 'text/plain')
    page.wait('!document.getElementById("message").hidden')
    assert page.texts('#message') == ['notes.txt is no picture that this browser can read; choose a PNG or JPEG file']


def test_what_the_server_refuses(page, one_browser):
    drop(page, encoded(noise(10, 10)), 'small.png', 'image/png')
    page.wait('!document.getElementById("message").hidden')
    assert page.texts('#message') == ['the picture has 10x10 pixels, this model takes 16x16 or more; enlarge it']
    refused = one_browser.mistakes.pop()
    assert 'status of 422' in refused and not one_browser.mistakes


def test_webcam(page):
    page.run('globalThis.frames_shown = 0; '
             'new MutationObserver(() => frames_shown++).observe(document.getElementById("facts"), {childList: true})')
    page.click('#webcam')
    page.wait('frames_shown > 2')
    assert page.texts('#webcam') == ['Stop the webcam']
    facts = dict(zip(page.texts('#facts dt'), page.texts('#facts dd')))
    assert facts['Frames'].endswith(' a second') and page.texts('#message') == ['']
    page.click('#webcam')
    assert page.texts('#webcam') == ['Use the webcam'] and page.run('stream') is None


def test_the_description_opens(page, server):
    page.open(f'http://127.0.0.1:{server.port}/docs')
    assert page.texts('h1') == ['Interface for programs']
    assert page.texts('h2') == ['POST /segment', 'GET /model', 'GET /health', 'GET /metrics']
