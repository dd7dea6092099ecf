"""MMSegmentation's own dataset configs, with a segmentor of ours, go through every command."""
import copy
from pathlib import Path

import numpy as np
import pytest
import stock
from helpers import forget_earlier_runs
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

from repvgg_seg.datasets.checking import check_dataset, check_sample
from repvgg_seg.deploy.deploying import deploy
from repvgg_seg.deploy.formats import ExportRequest
from repvgg_seg.deploy.sample_images import check_images
from repvgg_seg.engine import segmentation as segmentor
from repvgg_seg.engine.data_check import check_sets
from repvgg_seg.engine.prediction import predict

REDUCED = ('ade20k', 'pascal_context_59', 'coco-stuff10k', 'loveda', 'potsdam', 'vaihingen')
NAMES = (*REDUCED, 'pascal_context', 'coco-stuff164k', 'pascal_voc12', 'pascal_voc12_aug', 'chase_db1', 'drive', 'hrf', 'stare',
         'isaid', 'cityscapes', 'bdd100k', 'mapillary_v1', 'mapillary_v2', 'refuge', 'synapse')


@pytest.mark.situation('Tracebacks', 'MMSegmentation\'s own dataset configs, such as ADE20K, Pascal Context and LoveDA',
                       before='predict and deploy refused reduce_zero_label, for an untrue reason',
                       now='every command takes them')
@pytest.mark.parametrize('name', NAMES)
def test_sets_are_sound_and_images_go_through_the_test_pipeline(tmp_path, name):
    config = stock.stock_config(name, tmp_path)
    for split in ('train', 'val'):
        opened = DATASETS.build(config[f'{split}_dataloader'].dataset)
        check_sample(split, opened)
        report = check_dataset(opened, split)
        assert not report.errors and report.images == (4 if (name, split) == ('pascal_voc12_aug', 'train') else 2)
        # Each class has as many pixels as the values that the stand-in wrote for it; 0 is not a class where it is reduced.
        assert report.pixels[-1] > min(report.pixels[:-1]) * (1.5 if name in REDUCED else 0.5) and min(report.pixels) > 0
        assert opened[0]['data_samples'].gt_sem_seg.data.max() == 255
    images, real = check_images(config, None)
    assert real and len(images) >= 2 and images[0].shape == (*stock.SIZE, 3)


@pytest.fixture(scope='module', params=['ade20k', 'pascal_voc12_aug'])
def trained(request, tmp_path_factory) -> tuple[Config, Path]:
    """A config and a checkpoint of an epoch."""
    root = tmp_path_factory.mktemp(request.param)
    config = stock.stock_config(request.param, root)
    config.train_cfg.max_epochs = 1
    config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    config.work_dir = str(root / 'run')
    forget_earlier_runs()
    return config, segmentor.train_segmentor(copy.deepcopy(config))


@pytest.mark.whole
def test_all_commands(trained, tmp_path):
    config, checkpoint = trained
    config = Config(dict(copy.deepcopy(config._cfg_dict), work_dir=str(tmp_path)))
    for folder in ('labels', 'predicted'):
        (tmp_path / folder).mkdir()
    reports = check_sets(config, ['train', 'val'])
    assert not any(report.errors for report in reports)
    metrics = segmentor.test_segmentor(copy.deepcopy(config), str(checkpoint), out=str(tmp_path / 'labels'))
    assert 0 <= metrics['mIoU'] <= 100
    dataset = next(stock.datasets_in(config.test_dataloader.dataset))
    images = sorted(Path(dataset.data_root, dataset.data_prefix.img_path).glob('val*'))
    predict(copy.deepcopy(config), str(checkpoint), str(images[0].parent / 'val*'), tmp_path / 'predicted')
    for image in images:
        tested, predicted = (np.array(Image.open(tmp_path / folder / f'{image.stem}.png'))
                             for folder in ('labels', 'predicted'))
        assert predicted.shape == stock.SIZE and (tested == predicted).mean() > 0.99
    request = ExportRequest(('pth', 'pt2'), size=stock.SIZE, logits=True, evaluate=True)
    report = deploy(copy.deepcopy(config), str(checkpoint), tmp_path / 'deployed', request)
    assert report.real_images and report.changed < 1e-3
    for miou in (report.miou_before, report.miou_after, report.artefacts['model.fp32.pt2'].miou):
        assert miou == pytest.approx(metrics['mIoU'], abs=0.05)
    fused = segmentor.test_segmentor(copy.deepcopy(config), str(tmp_path / 'deployed'))
    assert fused['mIoU'] == pytest.approx(metrics['mIoU'], abs=0.05)
