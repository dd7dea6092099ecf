"""Splits by lists of images, which nothing has to be moved for."""
import pytest

from repvgg_seg.core.errors import DataError
from repvgg_seg.datasets.checking import check_dataset

META = dict(metainfo=dict(classes=['other', 'road'], palette=[[0, 0, 0], [128, 64, 128]]))


def names(dataset) -> list[str]:
    return [dataset.get_data_info(index)['img_path'].rpartition('images/')[2] for index in range(len(dataset))]


@pytest.mark.parametrize('lines', [
    'town/c.JPG\na b.png\n', 'a b\n\n  town/c  \n', 'images/town/c.JPG\nimages/a b\n'], ids=['files', 'stems', 'data_root'])
def test_listed_images_are_used(own, lines):
    for name in ('a b', 'd'):
        own.add(name)
    own.add_image('town/c', ending='.JPG')
    own.add_label('town/c')
    (own.root / 'train.txt').write_text(lines)
    assert names(own.build(ann_file='train.txt', **META)) == ['a b.png', 'town/c.JPG']


def test_labels_beside_images_are_no_images(own):
    for name in 'ab':
        own.add_image(name, ending='.jpg')
        own.add_label(name)
        own.label_path(name).rename(own.image_path(name))
    (own.root / 'train.txt').write_text('a')
    dataset = own.build(ann_file='train.txt', data_prefix=dict(img_path='images', seg_map_path='images'), **META)
    assert names(dataset) == ['a.jpg']


def test_what_a_list_leaves_out_is_no_fault(own):
    own.add('a', 1)
    own.add_image('without label')
    (own.root / 'train.txt').write_text('a')
    report = check_dataset(own.build(ann_file='train.txt', **META), 'train')
    assert not report.errors and 'unused images' not in report.warnings


def test_subclasses_take_lists_too(camvid):
    for name in 'ab':
        camvid.add(name)
    (camvid.root / 'small.txt').write_text('b')
    assert len(camvid.build(ann_file='small.txt')) == 1


@pytest.mark.parametrize(('content', 'line'), [
    (None, 'list {} cannot be read (No such file or directory); expected a text file with one image per line'),
    (b'\xff\xfe', 'list {} cannot be read (it is not UTF-8 text); expected a text file with one image per line'),
    (b'\n \n', 'list {} is empty; expected a text file with one image per line'),
    (b'a\nb\nc.png', '2 of 3 images in the list {} do not exist in {}: b, c.png; correct the list, or add the images'),
    (b'a\na.png\na', 'the list {} has 1 images more than once: a; remove the repetitions')], ids=str)
def test_wrong_lists(own, content, line):
    own.add('a')
    path = own.root / 'train.txt'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        own.build(ann_file='train.txt', **META)
    assert str(error.value) == line.format(path, own.root / 'images')
