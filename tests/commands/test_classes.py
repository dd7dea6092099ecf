"""A checkpoint whose classes have other names, or another order, than those of the config ends every tool in one line."""
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mistakes import assert_error_line

from repvgg_seg.datasets.toy import canvas
from repvgg_seg.runtime.predictor import sha256_of

CLASSES = tuple(name for name, _, _ in canvas.CLASSES)
SWAPPED = ('sidewalk', 'road', *CLASSES[2:])
ORDER = ("their classes in different orders: class 0 is 'sidewalk' in the first and 'road' in the second, class 1 is 'road' "
         "in the first and 'sidewalk' in the second")
NAMES = {'order': (SWAPPED, ORDER),
         'case': (('Road', *CLASSES[1:]), "different classes: 'Road' only in the first, 'road' only in the second"),
         'space': ((*CLASSES[:-1], 'bicycle '), "different classes: 'bicycle ' only in the first, 'bicycle' only in the "
                   'second')}
CALLS = {  # Tool, and its arguments for a config, a checkpoint and folders of images and results.
    'test': lambda config, checkpoint, images, out: ('test', config, checkpoint, '--work-dir', out),
    'predict': lambda config, checkpoint, images, out: ('predict', config, checkpoint, images, '--out', out),
    'deploy': lambda config, checkpoint, images, out: ('deploy', config, checkpoint, '--out', out),
}
CONFIG = 'give the config that it was trained with'
RESUME = ('resume with the same training set, or start from its weights in another --work-dir, without --resume (--cfg-options '
          'load_from={})')


def rename(checkpoint: Path, to: Path, **meta: object) -> Path:
    """The same checkpoint with another ``meta``."""
    content = torch.load(checkpoint, weights_only=False)
    torch.save(dict(content, meta={**content['meta'], **meta}), to)
    return to


@pytest.fixture
def call(run_tool, config, streets, tmp_path) -> Callable:
    """Run a tool of ``CALLS``."""
    return lambda tool, checkpoint: run_tool(*CALLS[tool](config, checkpoint, streets / 'leftImg8bit/val', tmp_path / 'out'))


@pytest.mark.situation('Silently wrong', 'class names, or their order, in the config are not those of the checkpoint',
                       before='scored, labeled and exported with the wrong names',
                       now='one line with the names that differ, in test, predict, deploy and --resume')
@pytest.mark.parametrize(('tool', 'what'), [*((tool, 'order') for tool in CALLS), ('predict', 'case'), ('predict', 'space')])
def test_other_names(call, checkpoint, tmp_path, tool, what):
    classes, difference = NAMES[what]
    other = rename(checkpoint, tmp_path / 'other.pth', dataset_meta=dict(classes=classes))
    second = 'the test set of the config' if tool == 'deploy' else 'the test set'
    assert_error_line(call(tool, other), f'error: checkpoint {other} and {second} have {difference}; {CONFIG}')
    assert not [path for path in (tmp_path / 'out').rglob('*') if path.suffix in ('.png', '.pth') or path.name == 'test.json']


@pytest.mark.parametrize('tool', CALLS)
@pytest.mark.parametrize('meta', [dict(dataset_meta=None), dict(dataset_meta=dict(classes=CLASSES, palette=[[1, 2, 3]] * 12))],
                         ids=['no names', 'other palette'])
def test_same_or_no_names(call, checkpoint, tmp_path, tool, meta):
    result = call(tool, rename(checkpoint, tmp_path / 'other.pth', **meta))
    assert result.code == 0, result.err


@pytest.mark.parametrize('tool', ['test', 'predict'])
def test_other_names_of_a_fused_folder(call, fuse, config, checkpoint, tool):
    weights = fuse(config, checkpoint) / 'model.pth'
    rename(weights, weights, dataset_meta=dict(classes=SWAPPED))
    report = json.loads((weights.parent / 'deploy.json').read_text())
    report['files']['model.pth'] = sha256_of(weights)
    (weights.parent / 'deploy.json').write_text(json.dumps(report))
    source = weights if tool == 'test' else weights.parent
    assert_error_line(call(tool, weights.parent), f'error: checkpoint {source} and the test set have {ORDER}; {CONFIG}')


@pytest.mark.parametrize('wrap', [
    "dict(type='ConcatDataset', datasets=[{0}, {0}])", "dict(type='RepeatDataset', times=2, dataset={0})"])
def test_wrapped_test_set(run_tool, config, checkpoint, tmp_path, wrap):
    other = rename(checkpoint, tmp_path / 'other.pth', dataset_meta=dict(classes=SWAPPED))
    wrapped = tmp_path / 'wrapped.py'
    wrapped.write_text(f"_base_ = '{config}'\ninner = {{{{_base_.test_dataloader.dataset}}}}\n"
                       f"test_dataloader = dict(dataset=dict(_delete_=True, **{wrap.format('inner')}))")
    for tool, arguments in (('test', ('--work-dir', tmp_path / 'out')), ('deploy', ('--out', tmp_path / 'deployed'))):
        second = 'the test set of the config' if tool == 'deploy' else 'the test set'
        assert_error_line(run_tool(tool, wrapped, other, *arguments),
                          f'error: checkpoint {other} and {second} have {ORDER}; {CONFIG}')


def test_resuming_with_other_names(run_tool, config, checkpoint, tmp_path):
    other = rename(checkpoint.with_name('epoch_1.pth'), tmp_path / 'epoch_1.pth', dataset_meta=dict(classes=SWAPPED))
    assert_error_line(run_tool('train', config, '--work-dir', tmp_path, '--resume'),
                      f'error: checkpoint {other} and the training set have {ORDER}; {RESUME.format(other)}')


def test_validation_set_in_another_order(run_tool, config, tmp_path):
    other = tmp_path / 'other.py'
    other.write_text(f"_base_ = '{config}'\nval_dataloader = dict(dataset=dict(metainfo=dict(classes={SWAPPED!r})))")
    assert_error_line(run_tool('train', other, '--work-dir', tmp_path / 'run'),
                      "error: the training set and the validation set have their classes in different orders: class 0 is "
                      "'road' in the first and 'sidewalk' in the second, class 1 is 'sidewalk' in the first and 'road' in the "
                      'second; give both the same metainfo')


def test_classifier(run_tool, classifier_config, classifier_checkpoint, tmp_path):
    last = classifier_checkpoint.with_name('epoch_2.pth')  # The best one cannot be resumed.
    other = rename(last, tmp_path / 'other.pth', dataset_meta=dict(classes=('green', 'blue', 'red')))
    order = ("their classes in different orders: class 0 is 'green' in the first and 'blue' in the second, class 1 is 'blue' "
             "in the first and 'green' in the second")
    assert_error_line(run_tool('classify_test', classifier_config, other, '--work-dir', tmp_path / 'out'),
                      f'error: checkpoint {other} and the test set have {order}; {CONFIG}')
    named = tmp_path / 'named.py'
    named.write_text(f"_base_ = '{classifier_config}'\n"
                     "test_dataloader = dict(dataset=dict(metainfo=dict(classes=['blue', 'green', 'red'])))")
    assert_error_line(run_tool('deploy', named, other, '--out', tmp_path / 'deployed'),
                      f'error: checkpoint {other} and the test set of the config have {order}; {CONFIG}')
    assert_error_line(run_tool('classify_train', classifier_config, '--work-dir', tmp_path, '--resume'),
                      f'error: checkpoint {other} and the training set have {order}; {RESUME.format(other)}')
