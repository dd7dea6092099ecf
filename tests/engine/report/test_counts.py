"""Values of classes are those of MMSegmentation's metric, and boundaries and confidences those of their definitions."""
import cv2
import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric

from repvgg_seg.core.labels import IGNORE
from repvgg_seg.engine.report import counts
from repvgg_seg.engine.report.boundaries import boundary_areas
from repvgg_seg.engine.report.calibration import BINS, calibration_counts, calibration_of, confidence_of
from repvgg_seg.engine.report.summary import class_values, summarize

PALETTE = [[index, 0, 0] for index in range(30)]


def blobs(seed: int, classes: int, height: int = 40, width: int = 60, ignored: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A label map of smooth regions, with ignored pixels and without the last class, and a prediction that is partly right."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, classes - 1, (height // 5, width // 5), np.uint8)
    label = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    predicted = np.roll(label, random.integers(-3, 4, 2), (0, 1))
    predicted[random.random(label.shape) < 0.05] = random.integers(0, classes)
    if ignored:
        label[:random.integers(0, 10), :random.integers(0, 30)] = IGNORE
    return label, predicted


def image_counts(label: np.ndarray, predicted: np.ndarray, classes: int) -> dict:
    return dict(confusion=counts.confusion_of(label, predicted, classes), calibration=None,
                boundary=boundary_areas(label, predicted, classes))


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize(('classes', 'images'), [(2, 1), (4, 3), (12, 10), (30, 40)])
def test_values_are_those_of_mmsegmentation(seed, classes, images):
    maps = [blobs(100 * seed + index, classes) for index in range(images)]
    names = [f'class {index}' for index in range(classes)]
    metric = IoUMetric()
    metric.dataset_meta = dict(classes=names)
    metric.process({}, [{'gt_sem_seg': {'data': torch.from_numpy(label)[None]},
                         'pred_sem_seg': {'data': torch.from_numpy(predicted.astype(np.int64))[None]}}
                        for label, predicted in maps])
    totals = [sum(parts) for parts in zip(*metric.results)]
    theirs = IoUMetric.total_area_to_metrics(*totals)
    whole = metric.compute_metrics(metric.results)

    counted = [image_counts(*each, classes) for each in maps]
    report = summarize(counted, [f'{index}.png' for index in range(images)], names, PALETTE[:classes])
    assert {name: f'{report["metrics"][name]:.2f}' for name in ('mIoU', 'mAcc', 'aAcc')} == {
        name: f'{value:.2f}' for name, value in whole.items()}
    for name, entry, iou, accuracy in zip(names, report['classes'], theirs['IoU'], theirs['Acc']):
        for value, key, expected in ((entry['IoU'], 'IoU', iou), (entry['accuracy'], 'Acc', accuracy)):
            rounded = class_values(counted, names)[name][key]
            if np.isnan(expected):
                assert value is None and rounded is None
            else:
                assert value == pytest.approx(100 * expected, rel=1e-6) and rounded == round(value, 2)
    np.testing.assert_array_equal(counts.areas_of(np.array(report['confusion'])),
                                  [totals[0].numpy(), totals[3].numpy(), totals[2].numpy()])


def of_authors(mask: np.ndarray) -> np.ndarray:
    """The boundary of a mask, as ``mask_to_boundary`` of the code of Boundary IoU describes it: what erosion takes away."""
    height, width = mask.shape
    iterations = max(1, int(round(0.02 * np.sqrt(height**2 + width**2))))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=iterations)[1:-1, 1:-1] == 0)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('height', 'width'), [(10, 10), (40, 60), (150, 200)])
def test_boundaries_are_those_of_the_paper(seed, height, width):
    label, predicted = blobs(seed, 5, height, width)
    expected = []
    for index in range(5):
        ours, theirs = of_authors(label == index), of_authors((predicted == index) & (label != IGNORE))
        expected.append([(ours & theirs).sum(), ours.sum(), theirs.sum()])
    np.testing.assert_array_equal(boundary_areas(label, predicted, 5), np.transpose(expected))


def test_boundary_of_a_square():
    """At 100x100 pixels the distance is 3: of a square of 20 pixels, 20 * 20 - 14 * 14 are near its outline."""
    label = np.zeros((100, 100), np.uint8)
    label[40:60, 40:60] = 1
    shifted = np.roll(label, 1, axis=1)
    areas = boundary_areas(label, shifted, 2)
    assert areas[:, 1].tolist() == [6 * 19 + 4 * 14, 204, 204]
    assert counts.iou(areas)[1] == pytest.approx(170 / 238)


def test_image_iou_is_over_the_classes_in_the_label():
    label, predicted = np.array([[0, 0, 1, 1, IGNORE]], np.uint8), np.array([[0, 0, 1, 2, 2]], np.uint8)
    areas = counts.areas_of(counts.matrix_of([counts.confusion_of(label, predicted, 3)], 3))
    assert areas.tolist() == [[2, 1, 0], [2, 2, 0], [2, 1, 1]]
    assert counts.image_iou(areas) == pytest.approx((1 + 0.5) / 2)
    assert counts.precision(areas).tolist() == [1, 1, 0]


def test_images_without_labels_come_last():
    nothing = np.full((4, 4), IGNORE, np.uint8)
    some = blobs(0, 3)
    report = summarize([image_counts(nothing, nothing * 0, 3), image_counts(*some, 3)], ['a', 'b'], 'abc', PALETTE[:3])
    assert report['images'][0] == dict(name='a', IoU=None, accuracy=None, confusion=[]) and report['worst'] == [1]


def test_calibration_of_a_model_that_is_too_sure():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 4000)
    right = random.random(4000) < confidence - 0.2
    found = calibration_of(calibration_counts(confidence, right))
    expected = sum(abs(confidence[chosen].mean() - right[chosen].mean()) * chosen.mean() for lower in np.arange(BINS) / BINS
                   if (chosen := (confidence >= lower) & (confidence < lower + 1 / BINS)).any())
    assert found['error'] == pytest.approx(100 * expected) and found['error'] == pytest.approx(20, abs=2)
    assert sum(each['pixels'] for each in found['bins']) == 4000
    assert found['bins'][0] == dict(lower=0, upper=pytest.approx(100 / BINS), pixels=0, confidence=None, accuracy=None)


def test_full_confidence_is_in_the_last_bin():
    assert calibration_counts(np.array([0.0, 1.0]), np.array([False, True]))[0].tolist() == [1, *[0] * (BINS - 2), 1]


def test_confidence_is_the_probability_of_the_prediction():
    logits = torch.randn(5, 4, 6)
    confidence = confidence_of(logits, logits.argmax(0))
    torch.testing.assert_close(confidence, logits.softmax(0).max(0)[0])
    second = torch.rand(1, 4, 6)
    torch.testing.assert_close(confidence_of(second, second[0] > 0.3), torch.where(second[0] > 0.3, second[0], 1 - second[0]))
