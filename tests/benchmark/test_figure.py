"""The figure of accuracy over speed."""
import pytest
from PIL import Image

from repvgg_seg.benchmark.figure import check_figure, draw
from repvgg_seg.benchmark.rounds import Measurement
from repvgg_seg.core.errors import UserError


def test_drawing(tmp_path):
    measurements = [Measurement(name, 1, [speed, speed, speed], 0) for name, speed in
                    (('RepVGG-A0', 10), ('RepVGG-A1', 20), ('ResNet-50', 30), ('matmul', 5))]
    draw(measurements, tmp_path / 'figure.png', 'images a second')
    picture = Image.open(tmp_path / 'figure.png').convert('RGB')
    colors = {color for _, color in picture.getcolors(10 ** 6)}
    assert picture.size == (1050, 750) and {(0, 114, 178), (213, 94, 0)} <= colors and (0, 158, 115) not in colors


@pytest.mark.parametrize(('models', 'out', 'message'), [
    (['conv3x3'], 'figure.png', '--figure is of classifiers whose accuracy the paper has, .* got conv3x3'),
    (['RepVGG-A0'], 'figure', 'cannot draw .*figure; expected a name that ends with .png, .pdf or .svg')])
def test_nothing_to_draw(tmp_path, models, out, message):
    with pytest.raises(UserError, match=message):
        check_figure(models, tmp_path / out)
