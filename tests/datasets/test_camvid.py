"""Values of CamVid's label files."""
import numpy as np
import pytest

from repvgg_seg.core.errors import DataError

# SegNet's list, as the official color table of CamVid names them.
COLORS = {'sky': (128, 128, 128), 'building': (128, 0, 0), 'pole': (192, 192, 128), 'road': (128, 64, 128),
          'pavement': (60, 40, 222), 'tree': (128, 128, 0), 'sign symbol': (192, 128, 128), 'fence': (64, 64, 128),
          'car': (64, 0, 128), 'pedestrian': (64, 64, 0), 'bicyclist': (0, 128, 192)}


def test_classes_and_colors(camvid):
    camvid.add('a')
    meta = camvid.build().metainfo
    assert dict(zip(meta['classes'], map(tuple, meta['palette']))) == COLORS
    assert list(meta['classes']) == list(COLORS)


@pytest.mark.parametrize(('raw', 'index'), [*((value, value) for value in range(11)), (11, 255)])
def test_values(camvid, raw, index):
    read = camvid.read_labels(raw)
    assert read.dtype == np.uint8
    assert np.unique(read).tolist() == [index]


@pytest.mark.parametrize(('values', 'named', 'share'), [
    ((12, ), '12', 100), ((255, ), '255', 100), ((0, 12, 11, 200), '12, 200', 50),
    (range(10, 30), '12, 13, 14, 15, 16, 17, 18, 19 ...', 89.8)])
def test_other_values_are_refused(camvid, values, named, share):
    labels = np.resize(np.array(values, np.uint8), (24, 32))
    with pytest.raises(DataError, match=rf'^label .*trainannot/one\.png has values outside the classes: {named}; '
                                        rf'expected 0 to 11; {share}% of its pixels have them; '
                                        'correct the label or the classes of the dataset$'):
        camvid.read_labels(labels)
