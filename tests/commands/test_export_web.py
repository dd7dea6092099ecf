"""The page beside an exported network, in Chromium: its label maps are those of Python."""
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser import Browser, browser
from exports import skip_without
from in_browser import SCENE, segmented, static_server
from mmengine.config import Config
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from served import CLASSES, noise, stand_in

from repvgg_seg.core.errors import UserError
from repvgg_seg.core.labels import IGNORE
from repvgg_seg.core.visualization import IGNORED_COLOR, UNKNOWN
from repvgg_seg.datasets.toy import draw_scene
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest, web
from repvgg_seg.deploy.quick_demo import MODEL, NAMES, PALETTE
from repvgg_seg.runtime.predictor import OVERLAP, load, windows

pytestmark = pytest.mark.whole
NEEDS = 'put all files of the folder on the server'


class Site(NamedTuple):
    """A deployed folder on a server of static files."""
    folder: Path
    address: str


@pytest.fixture(scope='module')
def onnxruntime_web(tmp_path_factory) -> Path:
    """The folder of the package, as npm downloads it."""
    try:
        files = web.downloaded()
    except UserError as error:
        pytest.skip(f'needs onnxruntime-web: {error}')
    folder = tmp_path_factory.mktemp('onnxruntime-web')
    (folder / 'dist').mkdir()
    for name, content in files.items():
        (folder / 'dist' / name).write_bytes(content)
    return folder


@pytest.fixture(scope='module')
def one_browser(tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp('profile')) as started:
        yield started


@pytest.fixture(scope='module')
def site(one_browser, onnxruntime_web, tmp_path_factory) -> Iterator[Site]:
    """The model of the quick demo."""
    skip_without('onnx', 'onnxscript', 'onnxruntime')
    folder = tmp_path_factory.mktemp('web')
    Image.fromarray(draw_scene(SCENE)[0]).save(folder / 'street.png')
    deploy(Config.fromfile(MODEL / 'config.py'), str(MODEL / 'model.pth'), folder / 'out', ExportRequest(
        ('web', ), images=str(folder / 'street.png'), onnxruntime_web=str(onnxruntime_web)))
    with static_server(folder / 'out') as address:
        yield Site(folder / 'out', address)


@pytest.fixture
def page(site, one_browser) -> Iterator[Browser]:
    """The page, opened; neither its script nor a request of it may fail, and it asks only its own server."""
    one_browser.requests.clear()
    one_browser.mistakes.clear()
    one_browser.open(site.address)
    one_browser.wait('document.body.dataset.ready')
    yield one_browser
    assert one_browser.mistakes == []
    assert all(request.startswith((site.address, f'blob:{site.address}', 'data:')) for request in one_browser.requests)


def test_a_street(page, site, tmp_path):
    image, _ = draw_scene(SCENE)
    linear = PngInfo()
    linear.add(b'gAMA', (100_000).to_bytes(4, 'big'))  # Which browsers take into account for what they show.
    Image.fromarray(image).save(tmp_path / 'street.png', pnginfo=linear)
    labels = segmented(page, tmp_path / 'street.png')
    expected = load(site.folder, threads=1)(image)
    assert len(np.unique(expected)) > 8, 'a picture of few classes shows little'
    np.testing.assert_array_equal(labels, expected)
    shares = {name: f'{100 * (expected == index).mean():.1f}%' for index, name in enumerate(NAMES) if (expected == index).any()}
    assert dict(zip(page.texts('#legend .name'), page.texts('#legend .share'))) == shares
    facts = dict(zip(page.texts('#facts dt'), page.texts('#facts dd')))
    assert facts['Size'] == '256 × 128' and facts['Network'].endswith(' ms')
    assert page.run('model.classes') == [
        *(dict(index=index, name=name, color=list(color)) for index, (name, color) in enumerate(zip(NAMES, PALETTE))),
        dict(index=IGNORE, name=UNKNOWN, color=list(IGNORED_COLOR))]
    saved = page.run('shown.png().then(async file => [...new Uint8Array(await file.arrayBuffer())])')
    (tmp_path / 'labels.png').write_bytes(bytes(saved))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / 'labels.png').convert('L')), labels)
    asked = {request.rpartition('/')[2] for request in page.requests if request.startswith(site.address)}
    assert {'model.fp32.web.onnx', *web.RUNTIME} <= asked


@pytest.mark.parametrize('channels', ['RGB', 'BGR'])
def test_windows_of_a_fixed_size(page, tmp_path, channels):
    """The network is replaced by one whose labels depend on the place in the window; one of them is unknown."""
    image, size = noise(100, 150), (48, 64)
    Image.fromarray(image).save(tmp_path / 'noise.png')
    page.run(f'Object.assign(model, {{size: {list(size)}, channels: "{channels}"}})')
    page.run("""session = {run: async ({images}) => {
        const labels = new Uint8Array(images.data.length / 3), width = images.dims[2];
        for (let index = 0; index < labels.length; index++) {
            const first = images.data[3 * index], row = Math.floor(index / width);
            labels[index] = first === 255 ? 255 : (first + row + index % width) % 3;
        }
        return {labels: {data: labels}};
    }}, 0""")

    def run(images: np.ndarray) -> np.ndarray:
        first, rows, columns = images[..., 0].astype(int), *np.ogrid[:size[0], :size[1]]
        return np.where(first == 255, 255, (first + rows + columns) % len(CLASSES)).astype(np.uint8)

    expected = stand_in(run, size, channels=channels)(image if channels == 'RGB' else np.ascontiguousarray(image[..., ::-1]))
    np.testing.assert_array_equal(segmented(page, tmp_path / 'noise.png'), expected)
    assert ('unknown' in page.texts('#legend .name')) == (channels == 'RGB')  # Only the red of the noise is 255.
    Image.fromarray(image[:40]).save(tmp_path / 'flat.png')
    page.choose('#files', tmp_path / 'flat.png')
    page.wait('!document.getElementById("message").hidden')
    assert page.texts('#message') == ['The picture has 150 × 40 pixels, this network takes 64 × 48 or more; enlarge it']


def test_windows_are_those_of_python(page):
    for size, length in ((10, 10), (11, 10), (100, 48), (48 * 3, 48), (1000, 513), (705, 129), (67, 1)):
        expected = [dict(start=each.start, first=each.first, end=each.end)
                    for each in windows(size, length, min(OVERLAP, length // 2))]
        assert page.run(f'windowsOf({size}, {length})') == expected


def test_webcam(page):
    page.run('globalThis.frames_shown = 0; '
             'new MutationObserver(() => frames_shown++).observe(document.getElementById("facts"), {childList: true})')
    page.click('#webcam')
    page.wait('frames_shown > 1')
    assert dict(zip(page.texts('#facts dt'), page.texts('#facts dd')))['Frames'].endswith(' a second')
    page.click('#webcam')
    assert page.texts('#webcam') == ['Use the webcam'] and page.texts('#message') == ['']


def test_no_webcam_and_no_picture(page, tmp_path):
    page.run('navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("Requested device not found")), 0')
    page.click('#webcam')
    page.wait('!document.getElementById("message").hidden')
    assert page.texts('#message') == ['The webcam cannot be used: Requested device not found']
    (tmp_path / 'notes.txt').write_text('hello')
    page.choose('#files', tmp_path / 'notes.txt')
    page.wait('document.getElementById("message").textContent.startsWith("notes.txt")')
    assert page.texts('#message') == ['notes.txt is no picture that this browser can read; choose a PNG or JPEG file']


@pytest.mark.parametrize(('name', 'start'), [
    ('deploy.json', 'deploy.json cannot be loaded (status 404)'),
    ('model.fp32.web.onnx', 'model.fp32.web.onnx cannot be loaded (status 404)'),
    *((name, 'onnxruntime-web cannot run model.fp32.web.onnx (') for name in web.RUNTIME)])
def test_a_file_is_missing(site, one_browser, tmp_path, name, start):
    shutil.move(site.folder / name, tmp_path)
    try:
        one_browser.open(site.address)
        one_browser.wait('document.body.dataset.ready')
    finally:
        shutil.move(tmp_path / name, site.folder)
    message, = one_browser.texts('#message')
    assert message.startswith(start) and message.endswith(f'; {NEEDS}')
    assert one_browser.run('find("choose").disabled && find("webcam").disabled')


def test_a_link_for_each_precision(page, site):
    record = json.loads((site.folder / 'deploy.json').read_text())
    entry = record['artefacts']['model.fp32.web.onnx']
    others = {'model.int8.web.onnx': dict(entry, precision='int8'), 'model.fp32.xml': dict(entry, format='openvino')}
    shutil.copy(site.folder / 'deploy.json', site.folder / 'before.json')
    shutil.copy(site.folder / 'model.fp32.web.onnx', site.folder / 'model.int8.web.onnx')
    try:
        (site.folder / 'deploy.json').write_text(json.dumps({**record, 'artefacts': {**record['artefacts'], **others}}))
        assert page.texts('nav a') == []
        page.requests.clear()
        for name, query in (('fp32', ''), ('int8', '?precision=int8'), ('fp32', '?precision=fp32')):
            page.open(f'{site.address}{query}')
            page.wait('document.body.dataset.ready')
            assert page.texts('nav a') == ['fp32', 'int8'] and page.texts('nav a[aria-current]') == [name]
            assert f'ONNX in {name}' in page.texts('#model')[0]
            assert [each for each in page.requests if each.endswith('.onnx')] == [f'{site.address}model.{name}.web.onnx']
            page.requests.clear()
    finally:
        shutil.move(site.folder / 'before.json', site.folder / 'deploy.json')
        (site.folder / 'model.int8.web.onnx').unlink()


def test_opened_as_a_file(site, one_browser):
    one_browser.open(site.folder / 'index.html')
    one_browser.wait('document.body.dataset.ready')
    assert one_browser.texts('#message') == [
        'Browsers run no network in a page that is opened as a file; run "python -m http.server" in its folder and open '
        'http://localhost:8000']
