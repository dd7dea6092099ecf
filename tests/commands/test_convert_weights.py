"""tools/convert_weights.py on a trained classifier, and how mistakes end."""
import re

import pytest
import torch
from helpers import TINY_ARCH, randomize
from mistakes import assert_error_line

from repvgg_seg.core.reading import read_checkpoint
from repvgg_seg.models import RepVGG


def test_there_and_back_is_still_the_trained_classifier(run_tool, classifier_config, classifier_checkpoint, tmp_path):
    official, own = tmp_path / 'new/official.pth', tmp_path / 'own.pth'
    result = run_tool('convert_weights', classifier_checkpoint, official, '--to', 'official')
    lines = r'training form, 3 classes.* from the own to the official layout\nWrote \S+official.pth'
    assert result.code == 0 and re.search(lines, result.out)
    assert 'linear.weight' in read_checkpoint(official)
    assert run_tool('convert_weights', official, own).code == 0
    for name, weights in (('trained', classifier_checkpoint), ('converted', own)):
        assert run_tool('classify_test', classifier_config, weights, '--work-dir', tmp_path / name, '--out',
                        tmp_path / f'{name}.csv').code == 0
    assert (tmp_path / 'trained.csv').read_text() == (tmp_path / 'converted.csv').read_text()


def test_mistakes_end_in_one_line(run_tool, tmp_path):
    text, target = tmp_path / 'text.pth', tmp_path / 'own.pth'
    text.write_text('hello')
    for source, to, message in (
            (tmp_path / 'none.pth', target, f'checkpoint {tmp_path}/none.pth does not exist'),
            (tmp_path, target, f'checkpoint {tmp_path} is a folder; expected a .pth file, such as one in it'),
            (tmp_path / 'none.pth', tmp_path, f'{tmp_path} is a folder; expected the name of a file to write'),
            (text, target, f"checkpoint {text} is a text file that begins with 'hello'; expected a checkpoint that torch.save "
             'or safetensors wrote')):
        assert_error_line(run_tool('convert_weights', source, to), f'error: {message}')
    assert not target.exists()


@pytest.mark.situation("Other people's checkpoints", 'tools/convert_weights.py on a backbone inside something else',
                       before='"no RepVGG", "not used" or "holds no weights"', now='found, or chosen by --prefix and --key')
def test_prefix_and_key(run_tool, tmp_path, save):
    raw, averaged = (randomize(RepVGG(TINY_ARCH)).state_dict() for _ in range(2))
    wrapped = {f'net.encoder.{name}': value for name, value in raw.items()} | dict(scale=torch.ones(1))
    source, both, target = save(wrapped), save(dict(model=wrapped, model_ema=averaged), 'both.pth'), tmp_path / 'own.pth'
    assert_error_line(run_tool('convert_weights', source, target), f'error: checkpoint {source} is not complete: it holds a '
                      'RepVGG of (2, 2, 6, 1) blocks, (16, 24, 32, 48) channels, 2 groups, tensors 1 not used (scale); to '
                      'leave out what is not used, say with --prefix where the backbone is')
    for path, options, expected in ((source, ['--prefix', 'net.encoder'], raw), (both, ['--key', 'model_ema'], averaged)):
        result = run_tool('convert_weights', path, target, *options)
        assert result.code == 0, result.err
        written = read_checkpoint(target)['state_dict']
        assert {name.removeprefix('backbone.') for name in written} == {*expected}
        assert all(torch.equal(value, written[f'backbone.{name}']) for name, value in expected.items())
    assert_error_line(run_tool('convert_weights', both, target, '--key', 'ema'),
                      f"error: checkpoint {both} has no weights under the key 'ema'; its keys are model, model_ema")
