"""Training with a teacher: its losses, its absence from checkpoints, exact resuming, and mistakes in the settings."""
import copy
import inspect
import math
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mistakes import assert_error_line
from mmengine.config import Config
from tiny import ROOT

from repvgg_seg.engine.distillation import DistilledSegmentor, Teacher, add_teacher, channel_loss, pixel_loss

DISTILL = """
_base_ = '{base}'
distill = dict(teacher='{base}', checkpoint='{checkpoint}')
"""
KEYS = 'teacher, checkpoint, pixel_weight, channel_weight, temperature'


@pytest.fixture(scope='session')
def distilling(config, checkpoint, tmp_path_factory) -> Path:
    """The tiny config with a trained model of the same kind as the teacher."""
    path = tmp_path_factory.mktemp('distilling') / 'distilling.py'
    path.write_text(DISTILL.format(base=config, checkpoint=checkpoint))
    return path


@pytest.fixture(scope='session')
def teacher(config, checkpoint) -> Teacher:
    return Teacher(str(config), str(checkpoint))


def build(distilling: Path, trained: Teacher) -> DistilledSegmentor:
    """The student of a config, whose teacher is loaded already."""
    from mmengine.registry import MODELS
    config = Config.fromfile(distilling)
    add_teacher(config)
    student = MODELS.build(config.model)
    student.trained = trained
    return student


@pytest.mark.parametrize('name', ['pixel_weight', 'channel_weight', 'temperature'])
def test_defaults_are_those_of_the_docs(name):
    default = inspect.signature(DistilledSegmentor).parameters[name].default
    assert f'`{name}`, default {default:g}' in (ROOT / 'docs/training.md').read_text(encoding='utf-8')


def test_pixel_loss_is_the_divergence_of_class_distributions():
    logits, target = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 3, 2, 2).double()
    p, q = target.softmax(1), logits.softmax(1)
    torch.testing.assert_close(pixel_loss(logits, target), (p * (p / q).log()).sum() / 8)
    assert pixel_loss(target, target) == 0


def test_channel_loss_is_the_divergence_of_each_classs_map():
    logits, target = torch.randn(2, 3, 2, 2).double(), torch.randn(2, 3, 2, 2).double()
    expected = 0.
    for image in range(2):
        for channel in range(3):
            p, q = ((x[image, channel] / 4).exp() / (x[image, channel] / 4).exp().sum() for x in (target, logits))
            expected += (p * (p / q).log()).sum() * 4**2 / (2 * 3)
    torch.testing.assert_close(channel_loss(logits, target, 4), expected)


def test_single_channel_is_a_class_against_the_rest():
    logits, target = torch.zeros(1, 1, 1, 1).double(), torch.full((1, 1, 1, 1), math.log(3)).double()  # 1/2, 3/4.
    expected = 3 / 4 * math.log(3 / 2) + 1 / 4 * math.log(1 / 2)
    assert pixel_loss(logits, target).item() == pytest.approx(expected)


def test_teacher_is_no_part_of_the_student(distilling, teacher):
    student = build(distilling, teacher)
    assert list(student.state_dict()) == list(teacher.model.state_dict())
    assert not {*student.parameters()} & {*teacher.model.parameters()}
    assert copy.deepcopy(student).trained is teacher
    assert not teacher.model.training and not any(each.requires_grad for each in teacher.model.parameters())


def test_teachers_logits_are_those_of_its_model(distilling, teacher):
    student = build(distilling, teacher)
    student.load_state_dict(teacher.model.state_dict())
    images = torch.randn(1, 3, 48, 64)
    expected = F.interpolate(student.eval()._forward(images), (48, 64), mode='bilinear', align_corners=True)
    torch.testing.assert_close(teacher.logits(images, (48, 64), True), expected)


def test_resumed_run_ends_as_the_unbroken_one(run_tool, distilling, config, tmp_path):
    assert run_tool('train', distilling, '--work-dir', tmp_path / 'whole').code == 0
    (tmp_path / 'resumed').mkdir()
    shutil.copy(tmp_path / 'whole/epoch_1.pth', tmp_path / 'resumed')
    assert run_tool('train', distilling, '--work-dir', tmp_path / 'resumed', '--resume').code == 0
    whole, resumed = (torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False) for name in ('whole', 'resumed'))
    torch.testing.assert_close(resumed['state_dict'], whole['state_dict'], rtol=0, atol=0)
    assert run_tool('test', config, tmp_path / 'whole/epoch_2.pth', '--work-dir', tmp_path).code == 0
    log = ''.join(path.read_text() for path in (tmp_path / 'whole').rglob('*.log'))
    assert 'distill.loss_pixel: ' in log and 'distill.loss_channel: ' in log


@pytest.mark.parametrize(('settings', 'message'), [
    ("dict(teacher='a.py')", f'error: distill is a dict with {KEYS} (the first two required), got teacher'),
    ("'a.py'", f"error: distill is a dict with {KEYS} (the first two required), got 'a.py'"),
    ("dict(teacher='a.py', checkpoint='b.pth', weight=1)",
     f'error: distill is a dict with {KEYS} (the first two required), got teacher, checkpoint, weight'),
    ("dict(teacher='nothing.py', checkpoint='b.pth')",
     'error: config nothing.py does not exist; expected a file, or a name that tools/configs.py lists'),
    ("dict(teacher='pspnet_repvgg_a0_camvid', checkpoint='{checkpoint}', temperature=0)",
     'error: distill needs weights of at least 0 and a temperature above 0, got pixel_weight=1.0, channel_weight=3.0, '
     'temperature=0'),
], ids=str)
def test_mistakes_in_the_settings(run_tool, config, checkpoint, tmp_path, settings, message):
    path = tmp_path / 'wrong.py'
    path.write_text(f"_base_ = '{config}'\ndistill = {settings.format(checkpoint=checkpoint)}\n")
    assert_error_line(run_tool('train', path, '--work-dir', tmp_path / 'run'), message)
    assert not list((tmp_path / 'run').glob('*.pth'))


@pytest.mark.parametrize(('change', 'message'), [
    ('model = dict(data_preprocessor=dict(mean=[0, 0, 0]))',
     'error: the teacher {teacher} normalizes images differently (mean 0 0 0, std 58.395 57.12 57.375, channels swapped; the '
     "model: mean 123.675 116.28 103.53, std 58.395 57.12 57.375, channels swapped); set model.data_preprocessor as in the "
     "teacher's config"),
    ('model = dict(data_preprocessor=dict(_delete_=True, type="SegDataPreProcessor", size=(48, 64)))',
     'error: the teacher {teacher} normalizes images differently (mean none, std none, channels in order; the model: mean '
     '123.675 116.28 103.53, std 58.395 57.12 57.375, channels swapped); set model.data_preprocessor as in the '
     "teacher's config"),
], ids=['mean', 'none'])
def test_teachers_that_do_not_fit(run_tool, config, checkpoint, tmp_path, change, message):
    teacher, path = tmp_path / 'teacher.py', tmp_path / 'student.py'
    teacher.write_text(f"_base_ = '{config}'\n{change}\n")
    path.write_text(DISTILL.format(base=config, checkpoint=checkpoint).replace(f"teacher='{config}'", f"teacher='{teacher}'"))
    assert_error_line(run_tool('train', path, '--work-dir', tmp_path / 'run'), message.format(teacher=teacher))
