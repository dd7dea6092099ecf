"""ResRep: compactors change nothing at first, the chosen rows vanish, and what vanished can be removed."""
import copy
from types import SimpleNamespace

import pytest
import torch
from helpers import assert_relatively_close
from mmengine.config import Config, ConfigDict
from test_pruning import EXACT, SIZE, batch, build, model_config

from repvgg_seg.core.errors import CheckpointError, UserError
from repvgg_seg.deploy.channels import channel_groups, pruned_state, set_widths
from repvgg_seg.deploy.fusing import fuse_for_inference
from repvgg_seg.deploy.pruning import Selection, add_fine_tuning, by_multiplications, choices, output_pixels, taylor_importance
from repvgg_seg.deploy.resrep import KEY, ResRepHook
from repvgg_seg.engine.trained_model import build_trained
from repvgg_seg.models.variants import CompactedConv


def compacted_config(head: str = 'fpn', arch: str = 'plain') -> ConfigDict:
    config = model_config(head, arch)
    config.backbone.block = dict(type='CompactedConv')
    return config


def attached(model: torch.nn.Module, **options) -> ResRepHook:
    hook = ResRepHook(**dict(dict(keep=0.5, size=SIZE, multiple=2), **options))
    hook.attach(model)
    return hook


@pytest.mark.parametrize('arch', ['plain', 'groups'])
def test_weights_of_the_papers_block_compute_the_same(arch):
    trained, compacted = build(model_config('fpn', arch)).eval(), build(compacted_config('fpn', arch)).eval()
    missing = compacted.load_state_dict(trained.state_dict(), strict=False)
    assert not missing.unexpected_keys and {name.rpartition('.')[2] for name in missing.missing_keys} == {'compactor'}
    x = torch.randn(1, 3, *SIZE)
    assert torch.equal(compacted(x, mode='tensor'), trained(x, mode='tensor'))


def test_some_compactors_are_too_few(tmp_path):
    config = Config(dict(model=compacted_config()))
    state = build(config.model).state_dict()
    without = {name: value for name, value in state.items() if not name.endswith('compactor')}
    torch.save(dict(state_dict=without), tmp_path / 'without.pth')
    loaded, _ = build_trained(config, str(tmp_path / 'without.pth'))
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    torch.save(dict(state_dict={**without, 'backbone.stem.conv.compactor': state['backbone.stem.conv.compactor']}),
               tmp_path / 'some.pth')
    with pytest.raises(CheckpointError, match=r'missing \(backbone\.stages\.0\.0\.conv\.compactor'):
        build_trained(config, str(tmp_path / 'some.pth'))


def test_gradient():
    model = build(compacted_config()).double()
    hook = attached(model, strength=0.3)
    name, part = next(iter(hook.parts.items()))
    with torch.no_grad():
        part.compactor.copy_(torch.randn_like(part.compactor))
        part.compactor[3] = 0
    hook.vanishing[name][:4] = True
    part.compactor.square().sum().mul(0.5).backward()  # Of which the gradient is the compactor.
    rows = part.compactor.detach()[:, :, 0, 0]
    direction = rows / rows.norm(dim=1, keepdim=True)
    expected = torch.cat([0.3 * direction[:4], rows[4:] + 0.05 * 0.3 * direction[4:]])
    expected[3] = 0
    torch.testing.assert_close(part.compactor.grad[:, :, 0, 0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(('head', 'arch'), [('fpn', 'plain'), ('fpn', 'groups'), ('psp', 'plain')])
def test_the_channels_with_small_rows_are_chosen_until_the_share_is_reached(head, arch):
    model = build(compacted_config(head, arch)).double().eval()
    hook = attached(model)
    small = {name: torch.rand(part.out_channels) < 0.3 for name, part in hook.parts.items()}
    with torch.no_grad():
        for name, part in hook.parts.items():
            part.compactor[small[name]] *= 1e-6
    chosen = hook.chosen(0.9)
    assert sum(map(torch.sum, chosen.values())) > 5
    if arch == 'plain':
        assert all((small[name] | ~chosen[name]).all() for name in chosen)
    for keep in (0.9, 0.6):
        kept = {name: (~each).nonzero().flatten() for name, each in hook.chosen(keep).items()}
        importance = {group.name: torch.ones(group.size).double() for group in hook.groups}
        selection = Selection(hook.groups, importance, hook.pixels, 2)
        total = selection.multiplications
        for group in hook.groups:
            removed = group.size - len(kept.get(group.name, range(group.size)))
            while removed > 0:
                selection._change(group, -1)
                removed -= selection.steps[group.name] * group.parts
        assert keep - 0.1 < selection.multiplications / total <= keep


@pytest.mark.parametrize('arch', ['plain', 'groups'])
def test_what_vanished_is_what_prune_removes_and_nothing_changes(arch):
    torch.manual_seed(0)
    model = build(compacted_config('fpn', arch)).double().eval()
    hook = attached(model)
    with torch.no_grad():
        for name, part in hook.parts.items():
            part.compactor.add_(0.1 * torch.randn_like(part.compactor))
            part.compactor[hook.chosen(0.7)[name]] = 0
    chosen, fused = hook.chosen(0.7), fuse_for_inference(model)
    groups, single = channel_groups(fused), copy.deepcopy(fused).float().requires_grad_(True)
    importance = taylor_importance(single, channel_groups(single), [batch()])
    choice = by_multiplications(choices(Selection(groups, importance, output_pixels(fused, 3, SIZE), 2)), 0.7)
    for name, each in chosen.items():
        assert choice.kept[name].tolist() == (~each).nonzero().flatten().tolist()
    config = model_config('fpn', arch, deploy=True)
    set_widths(fused, config, choice.counts)
    pruned = build(config).double().eval()
    pruned.load_state_dict(pruned_state(fused, groups, choice.kept), strict=True)
    x = torch.randn(1, 3, *SIZE).double()
    with torch.no_grad():
        assert_relatively_close(pruned(x, mode='tensor'), model(x, mode='tensor'), EXACT)


def test_training_makes_the_chosen_rows_vanish_and_keeps_the_others(caplog):
    torch.manual_seed(0)
    model = build(compacted_config()).train()
    hook = attached(model, strength=1.0, interval=5, ramp=0.2)
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    messages = []
    runner = SimpleNamespace(iter=0, max_iters=80, logger=SimpleNamespace(info=messages.append, warning=messages.append))
    data = model.data_preprocessor(batch(), training=True)
    for runner.iter in range(80):
        hook.before_train_iter(runner, 0)
        optimizer.zero_grad()
        model.parse_losses(model.loss(**data))[0].backward()
        optimizer.step()
    for name, part in hook.parts.items():
        norms = part.compactor.detach().norm(dim=1).flatten()
        assert (norms[hook.vanishing[name]] <= 0.021).all(), 'a step of the optimizer at most'
    hook.after_train(runner)
    count = sum(int(each.sum()) for each in hook.vanishing.values())
    assert count > 20 and len(messages) == 1
    assert messages[0].startswith(f'ResRep: {count} channels are to vanish, the largest norm of their rows is 0.')
    with torch.no_grad():
        name, chosen = next((name, chosen) for name, chosen in hook.vanishing.items() if chosen.any())
        hook.parts[name].compactor[chosen] = 1.0
    hook.after_train(runner)
    assert messages[2] == 'Removing these channels will change the outputs; train longer, or give ResRepHook more strength'


def test_channels_are_chosen_at_intervals_and_ever_more_of_them():
    hook = attached(build(compacted_config()), interval=20, ramp=0.5)
    counts = []
    for iteration in (0, 10, 19, 20, 40, 50, 60, 100):
        hook.before_train_iter(SimpleNamespace(iter=iteration, max_iters=100), 0)
        counts.append(sum(int(each.sum()) for each in hook.vanishing.values()))
    assert counts[0] == counts[1] == counts[2] == 0 < counts[3] < counts[4] == counts[5] < counts[6] == counts[7]


def test_the_choice_is_in_the_checkpoint():
    model = build(compacted_config())
    first, second = attached(model), attached(copy.deepcopy(model))
    first.vanishing.update(first.chosen(0.6))
    checkpoint = {}
    first.before_save_checkpoint(SimpleNamespace(), checkpoint)
    second.after_load_checkpoint(SimpleNamespace(), checkpoint)
    assert set(checkpoint[KEY]) == set(first.parts)
    for name in first.parts:
        assert torch.equal(second.vanishing[name], first.vanishing[name])
    second.after_load_checkpoint(SimpleNamespace(), {})  # Of a model that was trained without compactors.


def test_the_config_of_a_pruned_model_has_neither_compactors_nor_the_hook(tmp_path):
    config = Config(dict(model=compacted_config(), optim_wrapper=dict(optimizer=dict(lr=1.0)), custom_hooks=[
        dict(type='EMAHook'), dict(type='repvgg_seg.ResRepHook', keep=0.5, size=SIZE)]))
    add_fine_tuning(config, tmp_path / 'out', 'x.pth')
    assert config.model.backbone.block is None and config.custom_hooks == [dict(type='EMAHook')]


@pytest.mark.parametrize(('options', 'message'), [
    (dict(keep=1.2), 'ResRepHook needs keep between 0 and 1, ramp above 0 and at most 1, and a positive strength and interval, '
     'got keep=1.2, ramp=0.5, strength=0.2, interval=20'),
    (dict(ramp=0), 'ResRepHook needs keep between 0 and 1, ramp above 0 and at most 1, and a positive strength and interval, '
     'got keep=0.5, ramp=0, strength=0.2, interval=20'),
    (dict(keep=0.01), 'keep=0.01 cannot be reached by the layers with compactors alone; give ResRepHook a larger keep, or a '
     'smaller multiple')])
def test_settings_that_make_no_sense(options, message):
    with pytest.raises(UserError) as raised:
        attached(build(compacted_config()), **options)
    assert str(raised.value) == message


def test_a_model_without_compactors():
    with pytest.raises(UserError) as raised:
        attached(build(model_config('fpn')))
    assert str(raised.value) == ('ResRepHook trains compactors, but the model has none; set '
                                 "model.backbone.block.type='CompactedConv'")
    assert not any(isinstance(module, CompactedConv) for module in build(model_config('fpn')).modules())
