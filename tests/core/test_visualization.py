"""Pictures of label maps: colors where the labels are, and a legend that names them."""
import numpy as np
import pytest
from PIL import Image

from repvgg_seg.core.visualization import colorize, legend, overlay, save_labels

CLASSES, PALETTE = ('road', 'car', 'sky'), ((128, 64, 128), (0, 0, 142), (70, 130, 180))


def test_colors_of_classes_and_black_for_all_other_values():
    labels = np.array([[0, 2], [3, 255]], np.uint8)
    assert colorize(labels, PALETTE).tolist() == [[[128, 64, 128], [70, 130, 180]], [[0, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize('options, blended', [({}, [115, 80, 115]), (dict(opacity=0), [100, 100, 100]),
                                              (dict(opacity=1), [128, 64, 128])])
def test_overlay_blends_and_names_the_classes_that_occur(options, blended):
    image, labels = np.full((5, 120, 3), 100, np.uint8), np.zeros((5, 120), np.uint8)
    labels[:, :9] = 2
    drawn = overlay(image, labels, CLASSES, PALETTE, **options)
    assert drawn[0, 50].tolist() == blended
    assert np.array_equal(drawn[5:], legend(('road', 'sky'), (PALETTE[0], PALETTE[2]), 120))


def patches(picture: np.ndarray) -> list[tuple[int, ...]]:
    """Of each color of the palette that is there: the first and last row and column."""
    found = [np.argwhere((picture == color).all(2)) for color in PALETTE]
    return [(*spots.min(0).tolist(), *spots.max(0).tolist()) for spots in found if len(spots)]


@pytest.mark.parametrize('width, places', [
    (160, [(4, 4, 14, 16), (4, 54, 14, 66), (4, 97, 14, 109)]),
    (142, [(4, 4, 14, 16), (4, 54, 14, 66), (4, 97, 14, 109)]),  # It ends where the picture does.
    (141, [(4, 4, 14, 16), (4, 54, 14, 66), (22, 4, 32, 16)]),
    (40, [(4, 4, 14, 16), (22, 4, 32, 16), (40, 4, 50, 16)]),  # Each is wider than the picture.
])
def test_legend_breaks_lines_at_the_width(width, places):
    picture = legend(CLASSES, PALETTE, width)
    assert picture.shape == (18 * (1 + places[-1][0] // 18), width, 3)
    assert patches(picture) == places
    for top, _, bottom, right in places:  # A name stands beside each patch, and ends before the next one.
        assert (picture[top:bottom, right + 2:right + 20] < 100).any()
        assert (picture[top - 4:bottom + 4, right + 1] == 255).all()


@pytest.mark.parametrize('palette, mode', [(PALETTE, 'P'), (None, 'L')])
def test_saved_labels_keep_their_values(palette, mode, tmp_path):
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    save_labels(tmp_path / 'labels.png', labels, palette)
    with Image.open(tmp_path / 'labels.png') as saved:
        assert saved.mode == mode and np.array_equal(np.asarray(saved), labels)
        assert palette is None or saved.getpalette()[:9] == [value for color in PALETTE for value in color]
