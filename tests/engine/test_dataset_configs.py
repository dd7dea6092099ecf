"""What a config says of its test set, through wrappers, without opening files."""
import re

import pytest
from mmengine.config import Config

from repvgg_seg.core.errors import UserError
from repvgg_seg.engine.dataset_configs import dataset_metainfo, datasets_in, test_pipeline

test_pipeline.__test__ = False  # It is no test.
FIRST, SECOND = dict(type='A', pipeline=[1]), dict(type='B', pipeline=[2])


@pytest.mark.parametrize(('dataset', 'expected'), [
    (FIRST, [FIRST]),
    (dict(type='ConcatDataset', datasets=[FIRST, SECOND]), [FIRST, SECOND]),
    (dict(type='RepeatDataset', times=2, dataset=FIRST), [FIRST]),
    (dict(type='MultiImageMixDataset', pipeline=[3], dataset=dict(type='ConcatDataset', datasets=[
        dict(type='ClassBalancedDataset', dataset=FIRST), SECOND])), [FIRST, SECOND]),
])
def test_datasets_inside_wrappers(dataset, expected):
    assert list(datasets_in(dataset)) == expected
    config = Config(dict(test_dataloader=dict(dataset=dataset)))
    assert test_pipeline(config) == [1]
    next(datasets_in(config.test_dataloader.dataset)).pipeline = [4]
    assert test_pipeline(config) == [4], 'what is found is the config itself, which can be changed'


def metainfo_of(*datasets: dict) -> dict:
    return dataset_metainfo(Config(dict(test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=list(datasets))))))


def test_classes_that_are_chosen_keep_their_colors(tmp_path):
    every = metainfo_of(dict(type='CityscapesDataset'))
    assert len(every['classes']) == len(every['palette']) == 19
    (tmp_path / 'classes.txt').write_text('sky\nroad\n')
    for classes in (['sky', 'road'], str(tmp_path / 'classes.txt')):
        chosen = metainfo_of(dict(type='CityscapesDataset', metainfo=dict(classes=classes)))
        assert chosen == dict(classes=['sky', 'road'], palette=[[70, 130, 180], [128, 64, 128]])


@pytest.mark.parametrize(('datasets', 'message'), [
    ([dict(type='CityscapesDataset'), dict(type='CityscapesDataset', metainfo=dict(classes=['road', 'sky']))],
     'the datasets in the test set have different classes: road, sidewalk, building, wall, fence and 14 more and road, sky; '
     'give all of them the same'),
    ([dict(type='BaseSegDataset')],
     'the test set has no classes and no palette; add metainfo=dict(classes=[...], palette=[[red, green, blue], ...]) to '
     'test_dataloader.dataset'),
    ([dict(type='BaseSegDataset', metainfo=dict(classes=['a', 'b'], palette=[[0, 0, 0]]))],
     'the test set has 2 classes and 1 colors; give the same number of both in its metainfo'),
    ([dict(type='CityscapeDataset')],
     'the config has a dataset of the unknown type CityscapeDataset; correct it'),
])
def test_what_cannot_be_told(datasets, message):
    with pytest.raises(UserError, match=f'{re.escape(message)}$'):
        metainfo_of(*datasets)
