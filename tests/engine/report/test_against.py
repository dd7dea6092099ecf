"""Two reports compared: intervals that tell chance from progress, and reports that cannot be compared."""
import json

import numpy as np
import pytest
from test_counts import PALETTE, blobs, image_counts

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.report.against import check_comparable, compare, read_earlier
from repvgg_seg.engine.report.bootstrap import RESAMPLES, interval, resample
from repvgg_seg.engine.report.summary import summarize

CLASSES = 4
NAMES = [f'class {index}' for index in range(CLASSES)]


def report_on(maps: list, images: list[str], names: list[str] = NAMES) -> dict:
    report = summarize([image_counts(*each, len(names)) for each in maps], images, names, PALETTE[:len(names)])
    return dict(report, checkpoint='older.pth')


def improved(maps: list, share: float, seed: int = 0) -> list:
    """With a share of the wrong pixels made right, or of the right ones made wrong."""
    random = np.random.default_rng(seed)
    changed = []
    for label, predicted in maps:
        wrong = label != predicted
        chosen = (wrong if share > 0 else ~wrong) & (random.random(label.shape) < abs(share)) & (label < CLASSES)
        changed.append((label, np.where(chosen, label if share > 0 else (predicted + 1) % CLASSES, predicted)))
    return changed


@pytest.fixture
def maps() -> list:
    return [blobs(seed, CLASSES) for seed in range(20)]


@pytest.fixture
def earlier(maps, tmp_path):
    """A report whose images are in another order."""
    path = tmp_path / 'report.json'
    path.write_text(json.dumps(report_on(maps[::-1], [f'{index:02d}.png' for index in range(20)][::-1])))
    return read_earlier(path)


@pytest.mark.parametrize(('share', 'verdict'), [(0.3, 'better'), (-0.1, 'worse')])
def test_progress_and_regress(maps, earlier, share, verdict):
    report = report_on(improved(maps, share), [f'{index:02d}.png' for index in range(20)])
    check_comparable(earlier, NAMES, [image['name'] for image in report['images']])
    found = compare(report, earlier)
    miou = found['metrics']['mIoU']
    assert miou['verdict'] == verdict and miou['interval'][0] <= miou['change'] <= miou['interval'][1]
    assert miou['change'] == pytest.approx(report['metrics']['mIoU'] - earlier.metrics['mIoU'])
    assert [each['verdict'] for each in found['classes'][:-1]] == [verdict] * (CLASSES - 1)
    assert [each['number'] for each in found['images']] == [*range(20)][::-1]
    assert all(np.sign(each['change']) == np.sign(share) for each in found['images'])


def test_the_same_model_has_not_changed(maps, earlier):
    found = compare(report_on(maps, [f'{index:02d}.png' for index in range(20)]), earlier)
    assert found['metrics']['mIoU'] == dict(before=earlier.metrics['mIoU'], change=0, interval=[0, 0], verdict='undecided')
    assert {each['change'] for each in found['images']} == {0}


def test_one_image_that_improves_is_no_progress(maps, earlier):
    """As many images get better as worse, and one much better: a change, but none that other images would show."""
    changed = [*improved(maps[:9], 0.1), *improved(maps[9:19], -0.005), *improved(maps[19:], 1)]
    miou = compare(report_on(changed, [f'{index:02d}.png' for index in range(20)]), earlier)['metrics']['mIoU']
    assert miou['change'] > 0.3 and miou['interval'][0] < 0.9 * miou['change']


def test_intervals_hold_the_truth_as_often_as_they_say():
    """In 200 draws of 40 images of a known kind, the 95% interval misses the IoU of all of them in about 10."""
    random = np.random.default_rng(1)
    population = np.stack([random.integers(20, 60, 2000), np.full(2000, 80), np.full(2000, 70)], axis=1)[..., None]
    common, label, predicted = population.sum(axis=0)[:, 0]
    truth = common / (label + predicted - common)
    hits = 0
    for _ in range(200):
        totals = resample(population[random.integers(0, 2000, 40)])[..., 0]
        lower, upper = interval(totals[:, 0] / (totals[:, 1] + totals[:, 2] - totals[:, 0]))
        hits += lower <= truth <= upper
    assert 180 <= hits <= 199


def test_resampling_is_paired_and_seeded():
    areas = np.random.default_rng(0).integers(0, 100, (7, 3, 2))
    one, two = resample(areas), resample(3 * areas)
    assert one.shape == (RESAMPLES, 3, 2)
    np.testing.assert_array_equal(3 * one, two)
    np.testing.assert_array_equal(resample(np.ones((7, 3, 2), np.int64)), np.full((RESAMPLES, 3, 2), 7))
    assert interval(np.array([np.nan])) is None


@pytest.mark.parametrize(('content', 'message'), [
    (None, 'cannot be read (No such file or directory)'),
    ('{', 'cannot be read (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))'),
    ('[]', 'is not a report of version 1'),
    ('{"version": 2}', 'is not a report of version 1'),
    ('{"version": 1}', 'is invalid'),
    ('{"version": 1, "checkpoint": "", "metrics": {}, "classes": [{"name": "a"}], '
     '"images": [{"name": "b", "confusion": [[0, 1, 5]]}]}', 'is invalid'),
], ids=['absent', 'no JSON', 'list', 'other version', 'empty', 'class out of range'])
def test_a_file_that_is_no_report(tmp_path, content, message):
    path = tmp_path / 'report.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        read_earlier(path)
    assert str(error.value) == f'--against {path} {message}; expected the report.json that repvgg-seg test --report writes'


def test_other_classes_images_and_labels(maps, earlier):
    images = [f'{index:02d}.png' for index in range(20)]
    with pytest.raises(UserError) as error:
        check_comparable(earlier, ['a', 'b'], images)
    assert str(error.value) == (f'--against {earlier.path} has the classes class 0, class 1, class 2, class 3, the test set '
                                'has a, b; compare reports on the same classes')
    with pytest.raises(UserError) as error:
        check_comparable(earlier, NAMES, [*images[1:], 'new.png', 'more.png'])
    assert str(error.value) == (f'--against {earlier.path} has 20 images, the test set has 21: 00.png only in the first, '
                                'more.png, new.png only in the second; compare reports on the same images')
    label, predicted = maps[3]
    label = label.copy()
    label[-1, -1] = (label[-1, -1] + 1) % (CLASSES - 1)
    with pytest.raises(UserError) as error:
        compare(report_on([*maps[:3], (label, predicted), *maps[4:]], images), earlier)
    assert str(error.value) == (f'the label of 03.png differs from that in --against {earlier.path}; compare reports on the '
                                'same labels')
