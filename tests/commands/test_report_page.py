"""The page of a report in a browser: sorting, cells of the matrix, the strip, and the slider between the pictures."""
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import Browser, browser
from PIL import Image

from repvgg_seg.core.visualization import colorize
from repvgg_seg.datasets.toy import CLASSES
from repvgg_seg.engine.report.against import compare, read_earlier
from repvgg_seg.engine.report.boundaries import boundary_areas
from repvgg_seg.engine.report.calibration import calibration_counts
from repvgg_seg.engine.report.counts import confusion_of
from repvgg_seg.engine.report.page import render
from repvgg_seg.engine.report.pictures import write_pictures
from repvgg_seg.engine.report.summary import summarize

NAMES, PALETTE = [name for name, _, _ in CLASSES], [list(color) for _, _, color in CLASSES]
NAMES[3] = '</script><b>fence & "co"</b>'  # Names are text, whatever is in them.
IMAGES = 14


def write_report(folder: Path, noise: float, earlier: Path | None = None) -> dict:
    """A report on random squares, of which more are wrong from image to image."""
    (folder / 'images').mkdir(parents=True)
    random, images = np.random.default_rng(0), []
    for number in range(IMAGES):
        label = random.integers(0, 9, (6, 8), np.uint8).repeat(10, axis=0).repeat(10, axis=1)
        wrong = random.random(label.shape) < noise * (1 + number % 7)
        predicted = np.where(wrong, (label + 1) % 9, label)
        image = colorize(label, PALETTE) // 2 + 60
        write_pictures(folder, number, image, label, predicted, PALETTE)
        confidence = np.where(wrong, 0.6, 0.9).ravel()
        images.append(dict(confusion=confusion_of(label, predicted, len(NAMES)),
                           boundary=boundary_areas(label, predicted, len(NAMES)),
                           calibration=calibration_counts(confidence, ~wrong.ravel())))
    report = dict(summarize(images, [f'city/{number:02d}_x.png' for number in range(IMAGES)], NAMES, PALETTE), against=None,
                  checkpoint='a.pth', config='c.py', tta=False, created='today', repvgg_seg_version='0', calibration_note=None)
    if earlier:
        report['against'] = dict(compare(report, read_earlier(earlier)), pictures='../earlier')
    (folder / 'report.json').write_text(json.dumps(report))
    (folder / 'index.html').write_text(render(report))
    return report


@pytest.fixture(scope='module')
def reports(tmp_path_factory) -> Path:
    """A report, and a better one that is compared with it."""
    folder = tmp_path_factory.mktemp('reports')
    write_report(folder / 'earlier', 0.06)
    write_report(folder / 'later', 0.04, folder / 'earlier/report.json')
    return folder


@pytest.fixture(scope='module')
def one_browser(tmp_path_factory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp('profile')) as started:
        yield started


@pytest.fixture
def page(one_browser, reports) -> Iterator[Browser]:
    """The later report, opened; its script must make no mistake, and all its pictures must be there."""
    one_browser.open(reports / 'later/index.html')
    yield one_browser
    assert one_browser.mistakes == []


@pytest.fixture
def report(reports) -> dict:
    return json.loads((reports / 'later/report.json').read_text())


def test_tables_are_sorted_by_a_click(page, report):
    ious = {entry['name']: entry['IoU'] for entry in report['classes']}
    shown = [name for name in NAMES if ious[name] is not None]
    rows = '#class-table tbody th'
    assert page.texts(rows) == NAMES
    page.click('#class-table [data-key="IoU"]')
    falling = page.texts(rows)
    assert falling[:len(shown)] == sorted(shown, key=ious.get, reverse=True)
    page.click('#class-table [data-key="IoU"]')
    assert page.texts(rows)[:len(shown)] == sorted(shown, key=ious.get)
    assert set(page.texts(rows)[len(shown):]) == set(NAMES) - set(shown)  # Without a value: at the end both times.
    assert page.run('document.querySelector("#class-table [data-key=IoU]").parentElement.ariaSort') == 'ascending'
    page.click('#class-table [data-key="name"]')
    assert page.texts(rows) == sorted(NAMES, key=str.lower)


def test_a_cell_shows_the_images_with_most_of_its_pixels(page, report):
    pixels = {number: count for number, image in enumerate(report['images'])
              for label, predicted, count in image['confusion'] if (label, predicted) == (4, 5)}
    expected = sorted(pixels, key=pixels.get, reverse=True)[:6]
    page.click('[data-cell="4,5"]')
    assert page.texts('#cell h3') == [f'{NAMES[4]} predicted as {NAMES[5]}']
    shown = page.run('[...document.querySelectorAll("#cell .card")].map(card => Number(card.dataset.image))')
    assert [pixels[number] for number in shown] == [pixels[number] for number in expected]
    assert f'{sum(pixels.values()):,} pixels' in page.texts('#cell .note')[0]
    assert page.run('document.querySelector("#matrix [aria-pressed=true]").dataset.cell') == '4,5'


def test_the_matrix_says_what_the_report_says(page, report):
    confusion = np.array(report['confusion'])
    for label, predicted in ((0, 0), (4, 5)):
        share = 100 * confusion[label, predicted] / confusion[label].sum()
        assert page.texts(f'[data-cell="{label},{predicted}"]') == [f'{share:.0f}']
    assert page.run('document.querySelectorAll("#matrix button").length') == (confusion > 0).sum()


def test_the_slider_moves_between_two_pictures(page, report):
    worst = report['worst'][0]
    page.click('[data-gallery="worst"] .card')
    assert page.run('document.getElementById("viewer").open')
    assert page.texts('#viewer-title')[0].startswith(f'city/{worst:02d}_x.png · IoU {report["images"][worst]["IoU"]:.1f}')
    for x in (0.25, 0.75):
        page.click('#slider', x)
        at = float(page.run('getComputedStyle(document.getElementById("left")).clipPath').split()[1].rstrip('%)'))
        assert at == pytest.approx(100 * (1 - x), abs=2.5)
        assert page.run('document.getElementById("handle").offsetLeft / document.getElementById("stage").clientWidth'
                        ) == pytest.approx(x, abs=0.025)
    page.press('Escape')
    assert not page.run('document.getElementById("viewer").open')


def test_what_is_seen_left_and_right_of_the_slider(page, report, reports, tmp_path):
    """Pixel by pixel, on the screen: label and errors, as they are in the files."""
    number = report['worst'][0]
    page.click('[data-gallery="worst"] .card')
    page.click('[data-side="left"] button:nth-child(2)')
    page.click('[data-side="right"] button:nth-child(3)')
    page.click('#slider', 0.5)
    page.run('Promise.all([...document.querySelectorAll("#stage img")].map(image => image.decode()))')
    stage = 'document.getElementById("stage").getBoundingClientRect()'
    box = page.run(f'(({{x, y, width, height}}) => [x, y, width, height])({stage})')
    page.screenshot(tmp_path / 'seen.png')
    seen = np.array(Image.open(tmp_path / 'seen.png').convert('RGB'))
    maps = {layer: colorize(np.array(Image.open(reports / f'later/images/{number:05}_{layer}.png')), PALETTE)
            for layer in ('label', 'prediction')}
    assert (maps['label'] != maps['prediction']).any(2).mean() > 0.1
    agreed = []
    for row in range(3, 60, 4):
        for column in [*range(3, 34, 2), *range(46, 77, 2)]:  # Not near the handle.
            x, y = box[0] + (column + 0.5) / 80 * box[2], box[1] + (row + 0.5) / 60 * box[3]
            expected = maps['label' if column < 40 else 'prediction'][row, column]
            agreed.append((seen[int(y), int(x)] == expected).all())
    assert np.mean(agreed) > 0.97


def test_arrows_go_through_the_images(page, report):
    page.click('[data-gallery="worst"] .card')
    page.press('ArrowRight')
    second = report['images'][report['worst'][1]]['name']
    assert page.texts('#viewer-title')[0].startswith(second)
    for _ in range(2):
        page.press('ArrowLeft')
    assert page.texts('#viewer-title')[0].startswith(report['images'][report['worst'][-1]]['name'])


def test_the_strip_is_sorted(page, report):
    order = '[...document.querySelectorAll("#strip button")].map(bar => Number(bar.dataset.image))'
    ious = [image['IoU'] for image in report['images']]
    assert [ious[number] for number in page.run(order)] == sorted(ious)
    page.click('[data-order="best"]')
    assert [ious[number] for number in page.run(order)] == sorted(ious, reverse=True)
    page.click('[data-order="name"]')
    assert page.run(order) == [*range(IMAGES)]
    page.click('[data-order="change"]')
    changes = [report['against']['images'][number]['change'] for number in page.run(order)]
    assert changes == sorted(changes)
    page.click(f'#strip [data-image="{IMAGES - 1}"]')
    assert page.texts('#viewer-title')[0].startswith(report['images'][-1]['name'])


def test_comparison(page, report):
    assert report['against']['metrics']['mIoU']['verdict'] == 'better'
    assert page.texts('.verdict strong') == ['mIoU is higher.']
    changed = {name: entry['change'] for name, entry in zip(NAMES, report['against']['classes']) if entry['change'] is not None}
    page.click('#changes [data-key="change"]')
    assert page.texts('#changes tbody th')[:len(changed)] == sorted(changed, key=changed.get, reverse=True)
    assert page.texts('[data-gallery="lost"]') == ['None.']
    page.click('[data-gallery="gained"] .card')
    page.click('[data-side="right"] button:nth-child(5)')
    assert page.run('document.getElementById("right").decode().then(() => document.getElementById("right").src)'
                    ).endswith('_prediction.png')
    assert 'earlier/images' in page.run('document.getElementById("right").src')


@pytest.mark.parametrize('dark', [False, True], ids=['light', 'dark'])
@pytest.mark.parametrize('width', [360, 1300])
def test_every_width_and_scheme(one_browser, reports, dark, width):
    """Nothing but tables is wider than the screen, and text stands out from its ground."""
    one_browser.open(reports / 'later/index.html', width, 800, dark)
    assert one_browser.run('document.documentElement.scrollWidth') <= width
    colors = one_browser.run('["color", "backgroundColor"].map(name => getComputedStyle(document.body)[name])')
    text, ground = (np.mean([int(part) for part in re.findall(r'\d+', color)[:3]]) for color in colors)
    assert (text > ground) == dark and abs(text - ground) > 150
    assert one_browser.mistakes == []
