"""Models with variants of the block go through tools/deploy.py and are tested in fused form as others are."""
import json
from pathlib import Path

import pytest
import torch
from helpers import randomize
from mistakes import assert_error_line
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

CLASSIFIERS = {
    'dirac': dict(block=dict(type='DiracConv')),
    'qarepvgg': dict(block=dict(type='QARepConv')),
    'residual': dict(type='repvgg_seg.ResidualRepVGG', arch=dict(num_blocks=(1, 2, 4, 1))),
    'resnet': dict(_delete_=True, type='repvgg_seg.ResNetRepVGG', stem_channels=8, base_channels=2),
}


@pytest.fixture
def trained(tmp_path):
    """A config with another backbone, and a checkpoint of its model with random weights."""

    def make(base: Path, backbone: dict) -> tuple[Path, Path]:
        path = tmp_path / 'variant.py'
        path.write_text(f"""_base_ = '{base}'
custom_imports = dict(imports='repvgg_seg.models.variants.resnet')
model = dict(backbone={backbone!r})
{"model['head'] = dict(num_classes=3)" if 'classifier' in base.name else ''}
""")
        config = Config.fromfile(path)
        init_default_scope(config.default_scope)
        torch.save(dict(state_dict=randomize(MODELS.build(config.model)).state_dict()), tmp_path / 'trained.pth')
        return path, tmp_path / 'trained.pth'

    return make


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classifier(run_tool, trained, classifier_config, tmp_path, name):
    config, checkpoint = trained(classifier_config, CLASSIFIERS[name])
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused')
    assert result.code == 0, result.err
    report = json.loads((tmp_path / 'fused/deploy.json').read_text())
    assert report['logit_difference'] < 1e-5 and report['changed'] == 0
    state = torch.load(tmp_path / 'fused/model.pth', weights_only=True)['state_dict']
    assert not [key for key in state if 'branch' in key or 'running_mean' in key]
    result = run_tool('classify_test', config, tmp_path / 'fused', '--work-dir', tmp_path / 'test')
    assert result.code == 0, result.err


def test_segmentor(run_tool, trained, config, tmp_path):
    config, checkpoint = trained(config, dict(block=dict(type='AsymmetricConv')))
    assert run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused').code == 0
    found = []
    for model in (checkpoint, tmp_path / 'fused'):
        assert run_tool('test', config, model, '--work-dir', tmp_path / 'test').code == 0
        found.append(json.loads((tmp_path / 'test/test.json').read_text())['mIoU'])
    assert found[0] == pytest.approx(found[1], abs=0.05)


def test_what_cannot_be_fused_is_told(run_tool, trained, classifier_config, tmp_path):
    config, checkpoint = trained(classifier_config, dict(block=dict(type='ReLUInBranches')))
    result = run_tool('deploy', config, checkpoint, '--out', tmp_path / 'fused')
    assert_error_line(result, 'error: cannot fuse ReLUInBranches: with a ReLU in each branch no convolution equals it; use its '
                      'training form, or another block')
    assert not (tmp_path / 'fused').exists()
