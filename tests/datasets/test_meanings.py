"""Labels as they are: values and colors to which a config gives a meaning, and masks that were saved with losses."""
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

from repvgg_seg.core.errors import UserError
from repvgg_seg.datasets.checking import check_dataset

META = dict(metainfo=dict(classes=['other', 'road'], palette=[[0, 0, 0], [128, 64, 128]]))
VALUES = {0: 'other', 255: 'road', 7: None}
COLORS = {(128, 64, 128): 'road', (0, 0, 0): 'other', (0, 0, 142): 'other', (255, 255, 255): None}
EXPECTED = np.resize(np.array([1, 0, 0, 255], np.uint8), (24, 32))


def colored(colors=tuple(COLORS)) -> np.ndarray:
    """Labels of some colors by turns."""
    return np.resize(np.array(colors, np.uint8), (24, 32, 3))


def refused(read, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        read(*arguments, **options)
    return str(error.value)


def test_values_are_mapped(own):
    values = np.resize(np.array([255, 0, 0, 7], np.uint8), (24, 32))
    np.testing.assert_array_equal(own.read_labels(values, label_values=VALUES, **META), EXPECTED)


def test_255_is_ignored_unless_it_is_named(own):
    read = own.read_labels(np.resize(np.array([3, 255, 5], np.uint8), (24, 32)), label_values={3: 'road', 5: 'other'}, **META)
    assert read[0, :3].tolist() == [1, 255, 0]


def with_palette() -> Image.Image:
    return Image.fromarray(colored()).quantize(4, dither=Image.Dither.NONE)


def with_alpha() -> Image.Image:
    return Image.fromarray(np.concatenate([colored(), np.full((24, 32, 1), 9, np.uint8)], 2))


@pytest.mark.parametrize('label', [colored, with_palette, with_alpha])
def test_colors_are_mapped(own, label):
    np.testing.assert_array_equal(own.read_labels(label(), label_colors=COLORS, **META), EXPECTED)


@pytest.mark.parametrize(('mode', 'white'), [('1', 1), ('L', 255)])
def test_gray_images_have_colors_too(own, mode, white):
    label = Image.new(mode, (32, 24), white)
    assert (own.read_labels(label, label_colors={(255, 255, 255): 'road', (0, 0, 0): 'other'}, **META) == 1).all()


def test_unknown_value_is_named_with_its_share(own):
    labels = np.resize(np.array([0, 0, 0, 9], np.uint8), (24, 32))
    assert refused(own.read_labels, labels, label_values=VALUES, **META) == (
        f'label {own.label_path("one")} has values outside the classes: 9; expected 0, 7, 255; 25% of its pixels have them; '
        'correct the label or the classes of the dataset')


def test_unknown_colors_are_named_with_their_share_and_the_nearest_ones(own):
    labels = colored([(0, 0, 0), (0, 0, 0), (120, 64, 130), (3, 2, 1)])
    labels[0, :4] = (9, 8, 7), (200, 210, 220), (0, 0, 141), (0, 0, 141)
    assert refused(own.read_labels, labels, label_colors=COLORS, **META) == (
        f'label {own.label_path("one")} has 5 colors without a class: (3, 2, 1) in 24.9% of its pixels, nearest to (0, 0, '
        '0); (120, 64, 130) in 24.9% of its pixels, nearest to (128, 64, 128); (0, 0, 141) in 0.26% of its pixels, nearest '
        'to (0, 0, 142); ...; add them to label_colors, or set label_tolerance if the file was saved with losses')


def test_jpeg_masks_need_a_tolerance(own):
    """In the blocks of a JPEG that has edges, black and white are not quite black and white."""
    labels = np.zeros((24, 32), np.uint8)
    labels[:, 13:] = 255
    own.add_image('one')
    path = own.root / 'labels' / 'one.jpg'
    Image.fromarray(labels).save(path, quality=90)
    meanings = dict(label_values={0: 'other', 255: 'road'}, seg_map_suffixes=['.jpg'], **META)
    assert np.asarray(Image.open(path)).max(initial=0, where=labels == 0) > 0
    assert 'has values outside the classes: 1' in refused(own.build(**meanings).__getitem__, 0)
    np.testing.assert_array_equal(own.build(**meanings, label_tolerance=60)[0]['gt_seg_map'], labels // 255)
    black_and_white = {(0, 0, 0): 'other', (255, 255, 255): 'road'}
    read = own.build(seg_map_suffixes=['.jpg'], label_colors=black_and_white, label_tolerance=60, **META)[0]['gt_seg_map']
    np.testing.assert_array_equal(read, labels // 255)


@pytest.mark.parametrize(('distance', 'tolerance'), [(1, 0), (4, 3)])
def test_tolerance_is_a_limit(own, distance, tolerance):
    assert 'outside the classes: ' in refused(own.read_labels, distance, label_values={0: 'other', 255: 'road'},
                                              label_tolerance=tolerance, **META)
    color = colored([(128, 64, 128 + distance)])
    assert 'without a class' in refused(own.read_labels, color, label_colors=COLORS, label_tolerance=tolerance, **META)
    assert (own.read_labels(color, label_colors=COLORS, label_tolerance=tolerance + 1, **META) == 1).all()


@pytest.mark.parametrize(('label', 'line'), [
    (np.zeros((12, 16, 3), np.uint8), 'has height and width (12, 16), its image (24, 32); they must be equal'),
    (np.zeros((24, 32), np.uint16), 'has 16 bits per pixel; expected 8: convert it')], ids=['size', 'bits'])
def test_color_labels_of_another_form(own, label, line):
    assert refused(own.read_labels, label, label_colors=COLORS, **META) == f'label {own.label_path("one")} {line}'


@pytest.mark.parametrize(('options', 'line'), [
    (dict(label_values=VALUES, label_colors=COLORS),
     'label_values and label_colors are both given; labels have either values or colors: give one of them'),
    (dict(label_values={'0': 'other', 300: 'road'}),
     "label_values has the keys '0', 300; expected values of label files, 0 to 255"),
    (dict(label_colors={(0, 0): 'other', (1, 2, 300): 'road', 'red': 'road'}),
     "label_colors has the keys (0, 0), (1, 2, 300), 'red'; expected colors (red, green, blue), each 0 to 255"),
    (dict(label_tolerance=-1), 'label_tolerance is -1; expected a difference of values, 0 to 255'),
    (dict(label_values={0: 'other', 1: 'rode'}), 'the labels of PairedSegDataset mean rode, which is not among its classes '
     'other, road; add it to metainfo, or write None for what is ignored'),
    (dict(label_values={0: 'other'}), 'no value or color in the labels of PairedSegDataset means road; add one, or remove the '
     'class from metainfo')], ids=str)
def test_wrong_meanings(own, options, line):
    own.add('a')
    assert refused(own.build, **options, **META) == line


def test_meanings_survive_the_config_that_is_written_beside_a_run(own):
    own.add_image('one')
    own.add_label('one', colored())
    config = Config(dict(dataset=dict(label_colors=COLORS, **META)))
    config.dump(own.root / 'config.py')
    read = own.build(**Config.fromfile(own.root / 'config.py').dataset)[0]['gt_seg_map']
    np.testing.assert_array_equal(read, EXPECTED)


def test_check_counts_what_labels_mean(own):
    own.add('a', 255)
    own.add('b', 9)
    report = check_dataset(own.build(label_values={0: 'other', 255: 'road'}, **META), 'train')
    assert report.pixels == [0, 24 * 32, 0] and report.errors == {'unknown values': 1}
