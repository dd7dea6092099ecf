"""The figure of accuracy over speed."""
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from PIL import Image

from repvgg_seg.benchmark.figure import Contents, Point, contents, draw
from repvgg_seg.benchmark.rounds import Measurement
from repvgg_seg.core.errors import UserError


def show(measurements, out):
    draw(measurements, out, 'images a second', contents([measurement.name for measurement in measurements], None, out))


def test_drawing(tmp_path):
    measurements = [Measurement(name, 1, [speed, speed, speed], 0) for name, speed in
                    (('RepVGG-A0', 10), ('RepVGG-A1', 20), ('ResNet-50', 30), ('matmul', 5))]
    show(measurements, tmp_path / 'figure.png')
    picture = Image.open(tmp_path / 'figure.png').convert('RGB')
    colors = {color for _, color in picture.getcolors(10 ** 6)}
    assert picture.size == (1050, 750) and {(0, 114, 178), (213, 94, 0)} <= colors and (0, 158, 115) not in colors


def test_labels_cover_nothing(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, 'savefig', lambda self, *args, **kwargs: (figures.append(self), save(self, *args, **kwargs)))
    # Some are as fast and nearly as accurate as others: B1, B2g4 and ResNeXt-101, A2 and ResNet-50.
    measurements = [Measurement(name, 1, [speed] * 3) for name, speed in (
        ('RepVGG-B1', 121), ('RepVGG-B2g4', 117), ('ResNeXt-101', 115), ('RepVGG-A2', 54), ('ResNet-50', 57),
        ('RepVGG-A0', 15))]
    show(measurements, tmp_path / 'figure.png')
    axes, = figures[0].axes
    assert sorted(label.get_text() for label in axes.texts) == ['101', '50', 'A0', 'A2', 'B1', 'B2g4']
    boxes = [label.get_window_extent() for label in axes.texts]
    points = [axes.transData.transform((x, y)) for line in axes.lines for x, y in line.get_xydata()]
    assert not any(first.overlaps(second) for first, second in combinations(boxes, 2))
    assert not any(box.contains(x, y) for box in boxes for x, y in points)


def test_given_accuracies_are_drawn_by_runtime(tmp_path):
    models = ['ncnn:configs/realtime_repvgg_a0_camvid.py', 'openvino:configs/realtime_repvgg_a0_camvid.py', 'RepVGG-A0']
    assert contents(models, [50, 51, 72], tmp_path / 'figure.svg') == Contents({
        models[0]: Point('ncnn', 'realtime_repvgg_a0_camvid', 50),
        models[1]: Point('openvino', 'realtime_repvgg_a0_camvid', 51),
        'RepVGG-A0': Point('PyTorch', 'RepVGG-A0', 72)}, 'accuracy in %')


@pytest.mark.parametrize(('models', 'accuracies', 'out', 'message'), [
    (['conv3x3'], None, 'figure.png', '--figure without --accuracy is for classifiers whose accuracy is in the paper, '
     'e.g. RepVGG-A0; got conv3x3'),
    (['conv3x3', 'conv1x1'], [50.], 'figure.png', 'networks: 2, values of --accuracy: 1; give one for each network'),
    (['RepVGG-A0'], None, 'figure', 'cannot draw FOLDER/figure; expected a name that ends with .png, .pdf or .svg')])
def test_nothing_to_draw(tmp_path, models, accuracies, out, message):
    with pytest.raises(UserError) as error:
        contents(models, accuracies, tmp_path / out)
    assert str(error.value) == message.replace('FOLDER', str(tmp_path))
