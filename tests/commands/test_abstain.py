"""Exported files that say "unknown": thresholds by the labels of the test set, and what cannot be promised."""
import json

import numpy as np
import pytest
from exports import picture, skip_without
from mistakes import assert_error_line

from repvgg_seg.deploy import abstention
from repvgg_seg.deploy.comparison import Decision, as_batch, logits_of
from repvgg_seg.runtime.predictor import load

skip_without('onnx', 'onnxscript', 'onnxruntime')


@pytest.fixture
def half(monkeypatch):
    """Thresholds that about half of the pixels reach, and class 3 never, whatever they are worth."""
    def sequence_of(counts: np.ndarray, limit: float) -> np.ndarray:
        pixels = counts.sum(axis=(0, 1)).cumsum()
        levels = np.full((1, counts.shape[1]), np.searchsorted(pixels, pixels[-1] / 2))
        levels[0, 3] = abstention.LEVELS
        return levels

    monkeypatch.setattr(abstention, 'sequence_of', sequence_of)
    monkeypatch.setattr(abstention, 'p_values', lambda losses, *_: np.zeros(losses.shape[1]))


@pytest.mark.whole
def test_pixels_of_low_confidence_are_unknown(run_tool, config, random_checkpoint, random_segmentor, tmp_path, half):
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', '--abstain', '0.5',
                      '--confidence', '0.5', '--size', '48', '64')
    assert result.code == 0, result.err
    entry = json.loads((tmp_path / 'out/deploy.json').read_text())['artefacts']['model.fp32.onnx']
    promise = entry['abstention']
    assert (promise['limit'], promise['confidence'], promise['images'], promise['thresholds'][3]) == (0.5, 0.5, 2, 2)
    assert 0.1 < promise['coverage'] < 0.9 and 0 <= promise['risk'] <= 1 and entry['miou'] is not None
    assert (f'; answers {promise["coverage"]:.1%} of the pixels, of which {promise["risk"]:.2%} are wrong on 2 images (at most '
            '50.00% with confidence 50%)\n') in result.out
    decision = Decision(None, 'uint8', tuple(promise['thresholds']))
    predictor = load(tmp_path / 'out')
    for image in (picture(48, 64, seed) for seed in range(2)):
        logits = logits_of(random_segmentor, as_batch(random_segmentor, image[..., ::-1]))
        expected = decision.labels_of(logits)[0].numpy()
        found = predictor(image)
        assert (found != expected).mean() < 0.01 and 0 < (found == 255).mean() < 1


@pytest.mark.parametrize(('options', 'message'), [
    (('--abstain', '0'), '--abstain must be between 0 and 1, got 0.0'),
    (('--abstain', '0.1', '--confidence', '1'), '--confidence must be between 0 and 1, got 1.0'),
    (('--abstain', '0.1', '--logits'), '--abstain decides which pixels get a class, but --logits returns scores instead of '
     'classes; leave one of them out'),
    (('--abstain', '0.1', '--formats', 'pth'), 'pth cannot contain the thresholds of --abstain; --formats onnx or openvino or '
     'pt2 or opencv or litert or executorch or web or aotinductor can'),
    (('--abstain', '0.1', '--cfg-options', 'test_dataloader.dataset.data_root=nowhere'),
     '--abstain chooses thresholds on the labeled images of test_dataloader, which are not on this machine; set its data_root, '
     'or leave --abstain out'),
    (('--abstain', '0.05'), '--abstain 0.05 needs more than 60 labeled images for a confidence of 90%, there are 3; add '
     'images, or allow a larger --abstain or a lower --confidence')])
def test_what_cannot_be_promised(run_tool, config, random_checkpoint, tmp_path, options, message):
    result = run_tool('deploy', config, random_checkpoint, '--out', tmp_path / 'out', '--formats', 'onnx', *options)
    assert_error_line(result, f'error: {message}')
    assert not (tmp_path / 'out').exists()


def test_classifiers_answer_always(run_tool, classifier_config, tmp_path):
    options = ('--out', tmp_path / 'out', '--formats', 'onnx', '--abstain', '0.1')
    result = run_tool('deploy', classifier_config, 'none.pth', *options)
    assert_error_line(result, 'error: --abstain is for segmentors, the config is for a classifier; leave it out')
