"""Numbers in a config that have to agree are compared before anything is built or written."""
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import PretrainedInit
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from torch import nn

from repvgg_seg.core.errors import UserError
from repvgg_seg.datasets.toy import write_toy_streets
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.engine import segmentation as segmentor
from repvgg_seg.engine.data_check import check_sets
from repvgg_seg.engine.input_check import check_padding
from repvgg_seg.engine.model_check import check_model
from repvgg_seg.engine.prediction import predict
from repvgg_seg.runtime.predictor import Predictor

TOO_MANY = '{} has {} classes; segmentation takes at most 255, because labels have 8 bits, and the value 255 means ignored'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Streets and a config for them."""
    root = tmp_path_factory.mktemp('streets')
    write_toy_streets(root / 'streets', dict(train=2, val=2), 48, 64)
    tiny.write_segmentor_config(root / 'config.py', root / 'streets')
    return root


@pytest.fixture
def config(folder, tmp_path) -> Config:
    config = Config.fromfile(folder / 'config.py')
    config.work_dir = str(tmp_path / 'run')
    init_default_scope('mmseg')
    return config


def refused(message: str, call, *arguments) -> None:
    with pytest.raises(UserError, match=f'^{re.escape(message)}$'):
        call(*arguments)


def with_classes(config: Config, count: int) -> Config:
    """The config of a segmentor on a dataset of one's own with many classes."""
    for head in ('decode_head', 'auxiliary_head'):
        config.model[head].num_classes = count
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.dataset = dict(
            type='repvgg_seg.PairedSegDataset', data_root=loader.dataset.data_root, pipeline=loader.dataset.pipeline,
            metainfo=dict(classes=list(map(str, range(count))), palette=[[index % 256] * 3 for index in range(count)]),
            img_suffixes=['_leftImg8bit.png'], seg_map_suffixes=['_gtFine_labelIds.png'],
            data_prefix=loader.dataset.data_prefix)
    return config


@pytest.mark.situation('Silently wrong', 'a dataset or head of 256 classes or more',
                       before='the last of 256 was ignored; with more there were tracebacks and wrapped values', now='one line')
@pytest.mark.parametrize('count', [256, 257, 300])
def test_more_than_255_classes(config, tmp_path, count):
    config = with_classes(config, count)
    message = TOO_MANY.format('FactorizedPSPHead (model.decode_head)', count)
    refused(message, segmentor.train_segmentor, config)
    torch.save({}, tmp_path / 'weights.pth')
    data, out = config.test_dataloader.dataset.data_root, tmp_path / 'out'
    for call, *arguments in ((segmentor.test_segmentor, ), (predict, data, out), (deploy, out)):
        refused(message, call, config, str(tmp_path / 'weights.pth'), *arguments)
    refused(TOO_MANY.format('PairedSegDataset', count), check_sets, config, ['train'])
    assert sorted(path.name for path in tmp_path.iterdir()) == ['weights.pth']


@pytest.mark.situation('Tracebacks', '`model.pretrained=x.pth`, as in old configs of MMSegmentation', before='a traceback',
                       now='one line that says where RepVGG takes its weights from')
@pytest.mark.parametrize(('place', 'remedy'), [
    ('model.pretrained', 'set model.pretrained=None'),
    ('model.backbone.pretrained', 'leave model.backbone.pretrained out')])
def test_pretrained_as_in_old_configs(config, tmp_path, place, remedy):
    config.merge_from_dict({place: 'open-mmlab://resnet50_v1c'})
    message = (f"{place} is 'open-mmlab://resnet50_v1c', but RepVGG takes its weights from init_cfg; set "
               f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint=PATH), and {remedy}")
    refused(message, segmentor.train_segmentor, config)
    torch.save({}, tmp_path / 'weights.pth')
    data, out = config.test_dataloader.dataset.data_root, tmp_path / 'out'
    for call, *arguments in ((segmentor.test_segmentor, ), (predict, data, out), (deploy, out)):
        refused(message, call, config, str(tmp_path / 'weights.pth'), *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['weights.pth']


@pytest.mark.parametrize('backbone', [dict(type='ResNet'), dict(type='repvgg_seg.RepVGG')])
def test_pretrained_that_has_no_such_effect(config, backbone):
    """Other backbones take it, and with a classifier it is MMPretrain's."""
    config.model.backbone = ConfigDict(backbone)
    config.model.pretrained = None if 'RepVGG' in backbone['type'] else 'open-mmlab://resnet50_v1c'
    check_model(config)
    config.model = ConfigDict(type='ImageClassifier', backbone=backbone, head={}, pretrained='weights.pth')
    check_model(config)


@pytest.mark.situation("Other people's checkpoints", 'an `init_cfg` of any part with a `prefix` that the file lacks',
                       before="MMEngine's AssertionError", now='one line that names the prefixes in the file')
@pytest.mark.parametrize('kind', ['Pretrained', PretrainedInit])
@pytest.mark.parametrize('part', ['decode_head', 'auxiliary_head'])
def test_prefix_that_a_checkpoint_lacks(config, tmp_path, kind, part):
    path = tmp_path / 'weights.pth'
    torch.save({'backbone.stem.bias': torch.ones(2), 'decode_head.bias': torch.ones(2)}, path)
    config.model[part].init_cfg = dict(type=kind, checkpoint=str(path), prefix='encoder')
    refused(f"checkpoint {path} has no key that starts with 'encoder.'; its keys start with 'backbone.', 'decode_head.'; give "
            'one of these as the prefix, or none', segmentor.train_segmentor, config)
    assert not list(tmp_path.glob('**/*_*.pth'))


def test_dataset_alone_with_too_many_classes(config):
    dataset = with_classes(config, 256).train_dataloader.dataset
    refused(TOO_MANY.format('PairedSegDataset', 256), DATASETS.build, dataset)
    stock = dict(dataset, type='BaseSegDataset', img_suffix=dataset.pop('img_suffixes')[0],
                 seg_map_suffix=dataset.pop('seg_map_suffixes')[0])
    refused(TOO_MANY.format('BaseSegDataset', 256), segmentor.check_classes, nn.Identity(), DATASETS.build(stock))
    config.train_dataloader.dataset = stock
    refused(TOO_MANY.format('BaseSegDataset', 256), check_sets, config, ['train'])


def test_255_classes(config):
    config = with_classes(config, 255)
    check_model(config)
    assert DATASETS.build(config.train_dataloader.dataset).get_data_info(0)['label_map'][254] == 254


def exported(count: int, output: str) -> Predictor:
    """A file of so many classes that gives labels or logits."""
    info = dict(classes=[str(index) for index in range(count)], palette=[], channels='RGB', min_size=1)
    return Predictor(np.array, info, dict(size=None, output=output))


def test_exported_files():
    exported(255, 'labels')
    exported(256, 'logits')
    refused(TOO_MANY.format('the exported segmentor', 256), exported, 256, 'labels')


@pytest.mark.situation('Tracebacks', 'class_weight of another length than the classes',
                       before='a traceback in the first iteration', now='one line before training')
@pytest.mark.parametrize('head', ['decode_head', 'auxiliary_head'])
@pytest.mark.parametrize(('loss', 'kind', 'length'), [
    (dict(class_weight=[1.0] * 11), 'CrossEntropyLoss', 11), (dict(class_weight=(1.0, ) * 19), 'CrossEntropyLoss', 19),
    (dict(_delete_=True, type='FocalLoss', class_weight=[1.0]), 'FocalLoss', 1)])
def test_class_weights(config, head, loss, kind, length):
    config.merge_from_dict({f'model.{head}.loss_decode': loss})
    refused(f'class_weight of {kind} in model.{head} has {length} values, the head has 12 classes; give one value for each '
            'class', segmentor.train_segmentor, config)
    assert not Path(config.work_dir).exists()


def test_class_weights_of_several_losses_and_of_a_file(config, tmp_path):
    config.model.decode_head.loss_decode = [dict(type='CrossEntropyLoss', class_weight=[1.0] * 12),
                                            dict(type='LovaszLoss', class_weight=str(tmp_path / 'weights.npy'))]
    refused(f'class_weight of LovaszLoss in model.decode_head is the file {tmp_path}/weights.npy, which does not exist',
            check_model, config)
    np.save(tmp_path / 'weights.npy', np.ones(12))
    check_model(config)
    np.save(tmp_path / 'weights.npy', np.ones(3))
    refused('class_weight of LovaszLoss in model.decode_head has 3 values, the head has 12 classes; give one value for each '
            'class', check_model, config)


def test_class_weight_of_a_thresholded_channel(config):
    config.model.decode_head.update(num_classes=2, out_channels=1, threshold=0.5)
    config.model.decode_head.loss_decode = dict(type='CrossEntropyLoss', use_sigmoid=True, class_weight=[2.0])
    check_model(config)


FOUR = ('MMEngine takes one value for all channels; for one each, leave both out and add dict(type=\'Normalize\', mean=[...], '
        'std=[...], to_rgb=False) to the pipelines')


@pytest.mark.situation('Tracebacks', 'mean and std that do not fit in_channels', before='a traceback',
                       now='one line before training')
@pytest.mark.parametrize(('channels', 'means', 'deviations', 'advice'), [
    (1, 3, 3, 'give 1 of each'), (4, 3, 3, FOUR), (4, 4, 4, FOUR), (3, 2, 2, 'give 1 or 3 of each'),
    (3, 3, 1, 'give 1 or 3 of each'), (3, 3, 0, 'give 1 or 3 of each'),
    (1, 1, 1, None), (3, 1, 1, None), (4, 1, 1, None), (3, 3, 3, None), (4, 0, 0, None)])
def test_normalization(config, channels, means, deviations, advice):
    config.model.backbone.in_channels = channels
    config.model.data_preprocessor.update(mean=[1.0] * means or None, std=[1.0] * deviations or None)
    if advice is None:
        check_model(config)
        return
    refused(f'model.data_preprocessor has {means} values in mean and {deviations} in std, the backbone takes images of '
            f'{channels} channel(s) (in_channels); {advice}', segmentor.train_segmentor, config)
    assert not Path(config.work_dir).exists()


@pytest.mark.situation('Tracebacks', 'images of other channels than in_channels', before='a traceback in the first iteration',
                       now='one line before training')
@pytest.mark.parametrize(('channels', 'color'), [(1, 'color'), (4, 'color'), (3, 'grayscale')])
def test_channels(config, channels, color):
    config.model.backbone.in_channels = channels
    config.model.data_preprocessor.update(mean=[1.0], std=[1.0])
    config.train_dataloader.dataset.pipeline[0].color_type = color
    found = dict(color=3, grayscale=1)[color]
    refused(f'images of the training set have {found} channel(s) after the pipeline, the backbone takes {channels}; set '
            'model.backbone.in_channels, or color_type of LoadImageFromFile (color, grayscale or unchanged)',
            segmentor.train_segmentor, config)


@pytest.mark.situation('Tracebacks', 'training images of different sizes that make no batch', before='a traceback',
                       now='one line before training')
@pytest.mark.parametrize(('preprocessor', 'sizes', 'message'), [
    (dict(size=(48, 64)), [(48, 64), (40, 30)], None), (dict(size=(8, 8)), [(48, 64), (48, 64)], None),
    (dict(size_divisor=32), [(48, 64), (70, 90)], None),
    (dict(size=(48, 64)), [(48, 64), (70, 90), (50, 60)],
     'training images differ in size after the pipeline, 48x64 and 70x90 when padded to at least 48x64 '
     '(model.data_preprocessor.size), so they cannot form a batch; add RandomCrop or Resize to the pipeline, or use '
     'size_divisor in place of size'),
    (dict(), [], 'model.data_preprocessor has size=None and size_divisor=None; training needs one of them'),
    (dict(size=(8, 8), size_divisor=8), [],
     'model.data_preprocessor has size=(8, 8) and size_divisor=8; training needs one of them')])
def test_sizes_of_training_images(preprocessor, sizes, message):
    if message is None:
        check_padding(preprocessor, sizes)
    else:
        refused(message, check_padding, preprocessor, sizes)
