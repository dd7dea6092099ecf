"""Batches whose images differ in size are evaluated as the images alone are."""
from pathlib import Path

import pytest
import tiny
import torch
from helpers import forget_earlier_runs
from mmengine.config import Config
from PIL import Image

from repvgg_seg.datasets.toy import write_toy_streets
from repvgg_seg.deploy.evaluation import Evaluation
from repvgg_seg.deploy.tasks import Segmentation
from repvgg_seg.engine import segmentation as segmentor
from repvgg_seg.engine.batches import by_size
from repvgg_seg.engine.trained_model import build_trained

SIZES = [(48, 64), (48, 64), (40, 80), (48, 64)]  # Height and width.


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> tuple[Config, Path]:
    """A config whose validation images differ in size, and a checkpoint of a training with batches of three of them."""
    root = tmp_path_factory.mktemp('sizes')
    write_toy_streets(root / 'streets', dict(train=2, val=4), 48, 64)
    for kind in ('leftImg8bit', 'gtFine'):
        for path, (height, width) in zip(sorted((root / 'streets' / kind / 'val').rglob('*.png')), SIZES):
            Image.open(path).resize((width, height), Image.NEAREST).save(path)
    config = Config.fromfile(tiny.write_segmentor_config(root / 'config.py', root / 'streets'))
    config.model.test_cfg = dict(mode='whole')
    config.work_dir, config.train_cfg.max_epochs = str(root / 'run'), 1
    config.val_dataloader.batch_size = config.test_dataloader.batch_size = 3
    forget_earlier_runs()
    return config, segmentor.train_segmentor(config)


@pytest.mark.situation('Tracebacks', 'a validation batch of images of different sizes',
                       before='a traceback after the first epoch', now='evaluated, with the same result as one by one')
@pytest.mark.parametrize('tta', [False, True])
def test_batches_change_nothing(trained, tmp_path, tta):
    config, checkpoint = trained
    found = []
    for batch in (1, 3):
        config.test_dataloader.batch_size = batch
        settings = Config(config.to_dict())
        settings.work_dir = str(tmp_path)
        if not tta and batch == 3:
            evaluation = Evaluation(settings, Segmentation())
            by_deploy = evaluation.of_model(build_trained(settings, str(checkpoint))[0], 'it')
        found.append(segmentor.test_segmentor(settings, str(checkpoint), tta=tta))
    assert found[0] == pytest.approx(found[1], abs=1e-2)
    if not tta:
        assert by_deploy == pytest.approx(found[1]['mIoU'], abs=1e-2)


def test_parts():
    images = [torch.full((3, *size), index) for index, size in enumerate(SIZES)]
    parts = list(by_size(dict(inputs=images, data_samples=list('abcd'))))
    assert [part['data_samples'] for part in parts] == [['a', 'b'], ['c'], ['d']]
    assert [image[0, 0, 0] for part in parts for image in part['inputs']] == [0, 1, 2, 3]
    forms = dict(inputs=[images, images[:]], data_samples=[list('abcd'), list('ABCD')])
    assert [part['data_samples'] for part in by_size(forms)] == [[['a', 'b'], ['A', 'B']], [['c'], ['C']], [['d'], ['D']]]
    whole = dict(inputs=torch.zeros(2, 3, 4, 5))
    assert list(by_size(whole)) == [whole]
