"""What the ablations share and differ in, and the table of their accuracies."""
from pathlib import Path

import pytest
from mmengine.config import Config

from repvgg_seg.ablations.runs import ABLATIONS, Run, rank_correlation, table, variant_of
from repvgg_seg.core.configs import CONFIGS

RECIPE = Path(CONFIGS, 'ablations/b0_cifar10.py')
# The paper's Tables 6 and 7, typed in a second time.
PAPER = dict(zip(ABLATIONS, (75.14, 72.39, 74.79, 73.15, 74.18, 73.52, 75.69, 73.97, 73.51, 73.58, 74.56, None)))


@pytest.mark.parametrize('name', ABLATIONS)
def test_accuracies_are_those_of_the_configs(name):
    top1 = ABLATIONS[name].top1
    assert top1 == PAPER[name]
    assert top1 is None or f'paper {top1} top-1' in Path(CONFIGS, ABLATIONS[name].config).read_text()


@pytest.mark.parametrize('name', ABLATIONS)
def test_only_the_block_differs(name):
    recipe, row = Config.fromfile(RECIPE), Config.fromfile(CONFIGS / ABLATIONS[name].config)
    recipe.model.backbone.with_cp = True
    config = variant_of(recipe, name)
    backbone = config.model.backbone
    assert (backbone.type, backbone.get('block')) == (row.model.backbone.type, row.model.backbone.get('block'))
    assert (backbone.arch, backbone.with_cp) == (recipe.model.backbone.arch, True)
    assert config.optim_wrapper.paramwise_cfg == row.optim_wrapper.paramwise_cfg
    for key in ('type', 'block'):
        recipe.model.backbone.pop(key, None), backbone.pop(key, None)
    recipe.optim_wrapper.pop('paramwise_cfg'), config.optim_wrapper.pop('paramwise_cfg')
    assert config.to_dict() == recipe.to_dict()


def test_accuracy_of_a_run(tmp_path):
    run = Run('plain', 0, tmp_path)
    assert run.top1 is None
    (tmp_path / 'test.json').write_text('{"accuracy/top1": 71.5}')
    assert run.top1 == 71.5


def test_the_recipe_is_that_of_a0():
    recipe, a0 = Config.fromfile(RECIPE), Config.fromfile(CONFIGS / 'repvgg_a0_cifar10.py')
    assert recipe.optim_wrapper == a0.optim_wrapper and recipe.train_dataloader == a0.train_dataloader
    assert recipe.train_cfg.max_epochs == recipe.param_scheduler[-1].end == 5


def test_table():
    found = {'both': [80.0, 82.0], 'plain': [70.0, 70.0], 'dirac': [81.0, 81.0], 'qarepvgg': [90.0, 90.5]}
    rows = table(found)
    assert [list(row.values()) for row in rows] == [
        ['both', 'both branches: RepVGG', '75.14', '1', '81.00 (std 1.41 of 2)', '1.5'],
        ['plain', 'no branch', '72.39', '3', '70.00 (std 0.00 of 2)', '3'],
        ['dirac', 'DiracNet', '73.97', '2', '81.00 (std 0.00 of 2)', '1.5'],
        ['qarepvgg', 'QARepVGG', '', '', '90.25 (std 0.35 of 2)', '']]
    assert table({'plain': [70.0]})[0]['top-1'] == '70.00'


def test_rank_correlation():
    """By hand: of the ranks 1, 2, 3, 4 there and 1, 3, 2, 4 here, 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1)) = 0.8."""
    found = {'both': [9.0], 'dirac': [7.0], 'trivial': [8.0, 8.0], 'plain': [1.0], 'qarepvgg': [10.0]}
    assert rank_correlation(found) == pytest.approx(0.8)
    assert rank_correlation({'both': [1.0], 'plain': [2.0], 'qarepvgg': [3.0]}) is None
