"""Reading images and labels, and what is said about damaged ones."""
import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS
from PIL import Image

from repvgg_seg.core.errors import DataError, UserError
from repvgg_seg.datasets.loading import LoadLabels, image_pipeline, with_checked_loading

UNREADABLE_IMAGE = r'^image .*{} cannot be read \(.+\); replace or remove it$'
UNREADABLE_LABEL = r'^label .*{} cannot be read \(.+\); replace it or remove the pair$'
DAMAGES = {'empty': lambda data: b'', 'one byte': lambda data: data[:1], 'signature': lambda data: data[:8],
           'header': lambda data: data[:30], 'half': lambda data: data[:len(data) // 2],
           'end': lambda data: data[:-25], 'text': lambda data: b'<html>404 not found</html>\n',
           'zeros': lambda data: bytes(len(data)), 'start': lambda data: data[100:]}


def load_image(path, **options):
    return TRANSFORMS.build(dict(type='repvgg_seg.LoadImage', **options))(dict(img_path=str(path)))


def damage(path, kind):
    path.write_bytes(DAMAGES[kind](path.read_bytes()))


@pytest.mark.parametrize('ending', ['.png', '.jpg'])
@pytest.mark.parametrize('kind', DAMAGES)
def test_damaged_image(camvid, ending, kind):
    camvid.add_label('a')
    path = camvid.add_image('a', ending=ending)
    dataset = camvid.build()
    assert dataset[0]['img'].shape == (24, 32, 3)
    damage(path, kind)
    with pytest.raises(DataError, match=UNREADABLE_IMAGE.format(f'train/a{ending}')):
        dataset[0]


@pytest.mark.parametrize('ending', ['.png', '.jpg'])
def test_image_that_is_cut_short_is_called_so(camvid, ending):
    """Which tells Pillow from OpenCV before 5, that fills the missing part with gray."""
    camvid.add_label('a')
    damage(camvid.add_image('a', ending=ending), 'end')
    with pytest.raises(DataError, match='truncated'):
        camvid.build()[0]


@pytest.mark.parametrize('kind', DAMAGES)
def test_damaged_label(camvid, kind):
    _, path = camvid.add('a', np.random.randint(0, 12, (24, 32), np.uint8))
    damage(path, kind)
    with pytest.raises(DataError, match=UNREADABLE_LABEL.format('trainannot/a.png')):
        camvid.build()[0]


@pytest.mark.parametrize('kind', ['image', 'label'])
def test_file_that_vanished(camvid, kind):
    paths = dict(zip(('image', 'label'), camvid.add('a')))
    dataset = camvid.build()
    paths[kind].unlink()
    with pytest.raises(DataError, match=f'^{kind} .* cannot be read .*No such file'):
        dataset[0]


@pytest.mark.parametrize('kind', ['image', 'label'])
def test_file_too_large_for_pillow(camvid, monkeypatch, kind):
    paths = dict(zip(('image', 'label'), camvid.add('a')))
    Image.open(paths[kind]).resize((64, 64)).save(paths[kind])
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(DataError, match=f'^{kind} .* cannot be read .*exceeds limit'):
        camvid.build()[0]


@pytest.mark.parametrize('kind', ['image', 'label'])
def test_message_shows_no_object(camvid, kind):
    path = dict(zip(('image', 'label'), camvid.add('a')))[kind]
    damage(path, 'text')
    with pytest.raises(DataError) as error:
        camvid.build()[0]
    assert 'object at' not in str(error.value)


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA', '1'])
def test_image_is_the_one_that_mmcv_loads(tmp_path, mode):
    image = Image.fromarray(np.random.randint(0, 256, (24, 32, 4), np.uint8)).convert('RGB').convert(mode)
    image.save(tmp_path / 'a.png')
    ours = load_image(tmp_path / 'a.png')
    theirs = TRANSFORMS.build(dict(type='mmcv.LoadImageFromFile'))(dict(img_path=str(tmp_path / 'a.png')))
    assert ours['img'].dtype == np.uint8 and ours['img'].std() > 10
    np.testing.assert_array_equal(ours['img'], theirs['img'])
    assert ours['img_shape'] == ours['ori_shape'] == theirs['ori_shape'] == (24, 32)


def test_channels_are_blue_green_red(tmp_path):
    Image.fromarray(np.full((24, 32, 3), (10, 20, 30), np.uint8)).save(tmp_path / 'a.png')
    assert load_image(tmp_path / 'a.png')['img'][0, 0].tolist() == [30, 20, 10]


def test_image_of_16_bits_is_refused(tmp_path):
    Image.fromarray(np.full((24, 32), 100 * 257, np.uint16)).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match=r'^image .*a\.png .*8 bits'):
        load_image(tmp_path / 'a.png')


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA'])
def test_color_label(camvid, mode):
    label = Image.fromarray(np.full((24, 32), 3, np.uint8)).convert(mode)
    expected = rf'^label .*one\.png is a color image of shape \(24, 32, {len(mode)}\); expected one channel .*convert'
    with pytest.raises(DataError, match=expected):
        camvid.read_labels(label)


@pytest.mark.parametrize('size', [(24, 31), (23, 32), (32, 24), (12, 16), (48, 64)])
def test_label_of_other_size(camvid, size):
    expected = rf'^label .*one\.png has height and width \({size[0]}, {size[1]}\), its image \(24, 32\); .*equal$'
    with pytest.raises(DataError, match=expected):
        camvid.read_labels(np.zeros(size, np.uint8))


@pytest.mark.parametrize('bits', [8, 4])
def test_palette_label_is_read_as_its_indices(camvid, bits):
    indices = np.random.randint(0, 11, (24, 32), np.uint8)
    label = Image.fromarray(indices)
    label.putpalette(np.random.randint(0, 256, 3 * 2**bits, np.uint8).tobytes())
    assert label.mode == 'P'
    np.testing.assert_array_equal(camvid.read_labels(label), indices)
    assert Image.open(camvid.label_path('one')).mode == 'P'


@pytest.mark.parametrize('values', [(300, ), (0, 1, 300), (65535, )], ids=str)
def test_label_of_16_bits_is_refused(camvid, values):
    with pytest.raises(DataError, match=r'^label .*one\.png has '):
        camvid.read_labels(np.resize(np.array(values, np.uint16), (24, 32)))


def test_label_of_16_bits_with_legal_values_is_refused_for_its_depth(camvid):
    with pytest.raises(DataError, match=r'^label .*one\.png has 16 bits'):
        camvid.read_labels(np.resize(np.array((0, 1, 2), np.uint16), (24, 32)))


def test_label_of_1_bit_holds_0_and_255(cityscapes):
    """As lossless optimizers write a label map of these two values."""
    cityscapes.add_image('a')
    labels = np.random.rand(24, 32) < 0.5
    cityscapes.add_label('a', labels, '_gtFine_labelTrainIds.png')
    np.testing.assert_array_equal(cityscapes.build()[0]['gt_seg_map'], np.where(labels, 255, 0))


@pytest.mark.parametrize('serialized', [False, True])
def test_loaded_twice_is_the_same(camvid, serialized):
    camvid.add('a', np.random.randint(0, 12, (24, 32), np.uint8))
    dataset = camvid.build(serialize_data=serialized)
    first, second = dataset[0], dataset[0]
    assert first['seg_fields'] == second['seg_fields'] == ['gt_seg_map']
    np.testing.assert_array_equal(first['gt_seg_map'], second['gt_seg_map'])


@pytest.mark.parametrize('test_mode', [False, True])
def test_error_passes_through_a_worker(camvid, test_mode):
    for name in 'ab':
        path, _ = camvid.add(name)
    damage(path, 'half')
    dataset = camvid.build(test_mode=test_mode, serialize_data=True)
    items = iter(torch.utils.data.DataLoader(dataset, num_workers=1, collate_fn=len))
    assert next(items) == 1
    with pytest.raises(DataError, match=r'image .*train/b\.png cannot be read \(.+\); replace or remove it\s*\Z'):
        next(items)


def test_loading_is_checked_under_the_usual_names(camvid):
    for name in 'ab':
        camvid.add_image(name)
        camvid.add_label(name)
    dataset = camvid.build(pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')])
    assert dataset[1]['gt_seg_map'].shape == (24, 32)
    damage(camvid.image_path('b'), 'half')
    with pytest.raises(DataError, match='^image .* cannot be read'):
        dataset[1]


def test_checked_replaces_the_usual_names_and_nothing_else():
    branches = [[dict(type='RandomFlip', prob=0.0)], [dict(type='LoadAnnotations')]]
    pipeline = [dict(type='LoadImageFromFile', color_type='color'), dict(type='mmseg.LoadAnnotations'), abs,
                dict(type='RandomFlip'), dict(type='TestTimeAug', transforms=branches)]
    assert with_checked_loading(pipeline) == [
        dict(type='repvgg_seg.LoadImage', color_type='color'), dict(type='repvgg_seg.LoadLabels'), abs, dict(type='RandomFlip'),
        dict(type='TestTimeAug', transforms=[branches[0], [dict(type='repvgg_seg.LoadLabels')]])]
    assert pipeline[0]['type'] == 'LoadImageFromFile'


def test_arguments_for_labels_are_refused():
    with pytest.raises(UserError, match='LoadAnnotations has reduce_zero_label, which would have no effect'):
        with_checked_loading([dict(type='LoadAnnotations', reduce_zero_label=True)])


def test_image_pipeline_loads_no_labels():
    """Also where MMSegmentation's own datasets have labels that are counted from 1."""
    branches = [[dict(type='RandomFlip', prob=0.0)], [dict(type='LoadAnnotations')]]
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 32)),
                dict(type='LoadAnnotations', reduce_zero_label=True), abs, dict(type='TestTimeAug', transforms=branches)]
    assert image_pipeline(pipeline) == [
        dict(type='repvgg_seg.LoadImage'), dict(type='Resize', scale=(64, 32)), abs,
        dict(type='TestTimeAug', transforms=[branches[0]])]


def test_an_image_without_labels_stays_without():
    results = dict(img_path='a.png', label_map=None)
    assert LoadLabels()(dict(results)) == results
