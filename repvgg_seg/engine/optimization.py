"""Optimizer and schedules of a resumed run: their state comes from the checkpoint, their settings from the config."""
import hashlib
import inspect
import warnings
from collections.abc import Mapping, Sequence

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler
from mmengine.runner import Runner

from ..core.errors import CheckpointError, UserError
from .resuming import fresh_start

GRADIENTS = 'gradients'  # Key of the accumulated gradients in a checkpoint that was saved between two accumulation passes.
# Hyperparameters that newer PyTorch versions add to optimizers, and that do not distinguish kinds of optimizers.
COMMON = {'maximize', 'foreach', 'fused', 'capturable', 'differentiable', 'decoupled_weight_decay'}
# State that an optimizer creates in its first step if a hyperparameter is set; SGD creates it whenever it is missing.
LATER = {'amsgrad': 'max_exp_avg_sq', 'centered': 'grad_avg', 'momentum': 'momentum_buffer'}


def merge_groups(optimizer: torch.optim.Optimizer) -> None:
    """Merge the parameter groups of an optimizer that have equal settings.

    MMEngine makes a group of every parameter, and an optimizer updates one group after the other: on a GPU, hundreds of small
    operations instead of a few.
    """
    merged: dict[str, dict] = {}
    for group in optimizer.param_groups:
        settings = repr(sorted((name, value) for name, value in group.items() if name != 'params'))
        merged.setdefault(settings, {**group, 'params': []})['params'] += group['params']
    optimizer.param_groups[:] = merged.values()


def idle_end(runner: Runner) -> str | None:
    """Warning for the user if the learning rate schedule reaches 0 before training ends; None otherwise."""
    for schedulers in _schedulers(runner).values():
        last = max((each for each in schedulers if each.param_name == 'lr'), key=lambda each: _end(runner, each), default=None)
        ends_with_zero = 0 in (getattr(last, name, None) for name in ('eta_min', 'eta_min_ratio', 'end_factor'))
        if ends_with_zero and (end := _end(runner, last)) < runner.max_iters:
            return (f'the learning rate is 0 after iteration {end:g}, where its schedule ends, but training ends after '
                    f'{runner.max_iters}; set end of the last param_scheduler to as many epochs or iterations as train_cfg has')
    return None


def _end(runner: Runner, scheduler: _ParamScheduler) -> float:
    """The iteration at which a scheduler stops changing its parameter."""
    return scheduler.end * (runner.max_iters / runner.max_epochs if scheduler.by_epoch else 1)


def describe(runner: Runner) -> dict:
    """Describe the optimization settings: the kinds of optimizers, the names of their parameters in order, and a digest of all
    hyperparameters and schedules. Call this before the first step."""
    names = _names(runner)
    optimizers = {
        key: dict(type=type(wrapper.optimizer).__name__, accumulation=_accumulation(wrapper),
                  parameters=[names[parameter] for group in wrapper.optimizer.param_groups for parameter in group['params']])
        for key, wrapper in optim_wrappers(runner).items()}
    settings = [
        [[_plain(group) for group in wrapper.optimizer.param_groups] for wrapper in optim_wrappers(runner).values()],
        [[(type(scheduler).__name__, _plain(scheduler.__dict__)) for scheduler in schedulers]
         for schedulers in _schedulers(runner).values()]]
    return dict(optimizers=optimizers, settings=hashlib.sha256(repr(settings).encode()).hexdigest())


def resume_optimization(runner: Runner, checkpoint: Mapping, source: str) -> bool:
    """Restore the state of optimizers and schedulers.

    If the config's settings are unchanged, the whole state is loaded. Otherwise, only the optimizer state of each parameter
    (such as momentum) is loaded, and the schedules are advanced from their beginning to the current iteration, as if the run
    had always used them.

    Args:
        runner: runner whose loop is at the position to resume, with newly built optimizers and schedulers.
        checkpoint: checkpoint to resume from.
        source: path of the checkpoint.

    Returns:
        Whether the settings have changed.

    Raises:
        CheckpointError: the state does not match the optimizer.
        UserError: the run cannot be resumed with the new settings; the message says what to do.
    """
    before, now = checkpoint['meta'].get('optimization'), runner.record['optimization']
    wrappers, schedulers = optim_wrappers(runner), _schedulers(runner)
    saved = checkpoint['optimizer'] if isinstance(runner.optim_wrapper, OptimWrapperDict) else {'': checkpoint['optimizer']}
    for key, wrapper in wrappers.items():
        _check_kind(wrapper, saved.get(key), (before or {}).get('optimizers', {}).get(key), source)
    follows_metrics = any(getattr(each, 'need_val_args', False) for group in schedulers.values() for each in group)
    restore_gradients(runner, checkpoint, source)
    if 'param_schedulers' in checkpoint and (before == now or (before is None and follows_metrics)):
        states = checkpoint['param_schedulers']
        runner.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        for key, group in schedulers.items():
            for scheduler, state in zip(group, states[key] if isinstance(states, Mapping) else states):
                scheduler.load_state_dict(state)
        return False
    if follows_metrics:
        raise UserError(f'the learning rates in {source} follow from earlier validations (ReduceOnPlateau), so they cannot be '
                        'those of other settings of optimizer or schedule; resume with the same ones, or '
                        f'{fresh_start(source)}')
    for key, wrapper in wrappers.items():
        names = now['optimizers'][key]['parameters']
        _load_state(wrapper, saved[key], before['optimizers'][key]['parameters'] if before else names, names, source)
    for group in schedulers.values():
        _advance(group, runner)
    return True


def restore_gradients(runner: Runner, checkpoint: Mapping, source: str) -> None:
    """Restore accumulated gradients that have not been applied yet.

    Raises:
        UserError: the config accumulates gradients differently than the run that wrote the checkpoint.
    """
    if GRADIENTS not in checkpoint:
        return
    before = [kind['accumulation'] for kind in checkpoint['meta']['optimization']['optimizers'].values()]
    now = [kind['accumulation'] for kind in runner.record['optimization']['optimizers'].values()]
    if before != now:
        raise UserError(f'{source} was written before a step was complete, with {", ".join(before)} a step, the config has '
                        f'{", ".join(now)}; resume with the former until a step is complete, or {fresh_start(source)}')
    for parameter, name in _names(runner).items():
        if name in checkpoint[GRADIENTS]:
            parameter.grad = checkpoint[GRADIENTS][name].to(parameter)
    # MMEngine warns that these gradients are lost, which is not true here.
    runner.logger.addFilter(lambda record: 'the gradient of some iterations is lost' not in record.getMessage())


def _accumulation(wrapper: OptimWrapper) -> str:
    """Describe how gradients are accumulated for a step."""
    return f'{wrapper._accumulative_counts} passes' + (' and scaled losses' if hasattr(wrapper, 'loss_scaler') else '')


def _check_kind(wrapper: OptimWrapper, saved: Mapping | None, before: Mapping | None, source: str) -> None:
    """Check that a saved state belongs to the same kind of optimizer.

    Raises:
        UserError: the state is that of a different kind of optimizer.
    """
    kind = type(wrapper.optimizer).__name__
    found = before and before['type']
    if found is None and saved is not None and saved.get('param_groups'):  # MMEngine and earlier versions do not record it.
        lacking = wrapper.optimizer.defaults.keys() - saved['param_groups'][0].keys() - COMMON
        found = f'an optimizer without {", ".join(sorted(lacking))}' if lacking else kind
    if found != kind:
        raise UserError(f'{source} was trained with {found or "other optimizers"}, the config has {kind}, which cannot '
                        f'continue from its state; resume with the optimizer of before, or {fresh_start(source)}')


def _load_state(wrapper: OptimWrapper, saved: Mapping, before: Sequence[str], now: Sequence[str], source: str) -> None:
    """Load the optimizer state of each parameter; parameters that were not trained before start without state.

    Args:
        wrapper: wrapper of the optimizer.
        saved: state dict of the wrapper in the checkpoint.
        before: parameter names in the order of the state dict.
        now: parameter names in the order of the optimizer.
        source: path of the checkpoint, for messages.

    Raises:
        CheckpointError: the state does not match the parameters.
    """
    optimizer, groups = wrapper.optimizer, saved['param_groups']
    by_name = {before[index]: dict(state) for index, state in saved['state'].items() if index < len(before)}
    if sum(len(group['params']) for group in groups) != len(before):
        raise CheckpointError(f'checkpoint {source} holds the optimizer state of other parameters than the config trains; '
                              f'{fresh_start(source)}')
    fresh = optimizer.state_dict()
    position = 0
    for group in optimizer.param_groups:
        for parameter in group['params']:
            state = by_name.get(now[position])
            if state is not None:
                if any(value.ndim and value.shape != parameter.shape for value in state.values() if torch.is_tensor(value)):
                    raise CheckpointError(f'checkpoint {source} holds the optimizer state of a parameter of another shape than '
                                          f'{now[position]}; {fresh_start(source)}')
                for setting, name in LATER.items():
                    if group.get(setting) and name not in state and not isinstance(optimizer, torch.optim.SGD):
                        state[name] = torch.zeros_like(parameter)
                fresh['state'][position] = state
            position += 1
    if len(groups) == len(fresh['param_groups']):
        # Group entries that are not arguments of the optimizer are state, too, such as the step size that Prodigy estimates.
        gathered = optimizer.defaults.keys() - inspect.signature(type(optimizer)).parameters.keys()
        for group, old in zip(fresh['param_groups'], groups):
            group.update({key: old[key] for key in gathered & old.keys()})
    optimizer.load_state_dict(fresh)
    if 'loss_scaler' in saved and hasattr(wrapper, 'loss_scaler'):
        wrapper.loss_scaler.load_state_dict(saved['loss_scaler'])


def _advance(schedulers: Sequence[_ParamScheduler], runner: Runner) -> None:
    """Take the steps that the schedulers would have taken up to the current iteration, in the same order as in training."""
    per_epoch = runner.train_loop.epoch_begin / runner.epoch if runner.epoch else 0
    ends = {round((epoch + 1) * per_epoch) for epoch in range(runner.epoch)}
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # PyTorch warns that the optimizer has not stepped yet.
        for done in range(1, runner.iter + 1):
            for by_epoch in (False, True) if done in ends else (False,):
                for scheduler in schedulers:
                    if scheduler.by_epoch == by_epoch:
                        scheduler.step()


def optim_wrappers(runner: Runner) -> dict[str, OptimWrapper]:
    """The optimizer wrappers of a run by name; the name of a single optimizer is empty."""
    wrapper = runner.optim_wrapper
    return dict(wrapper.items()) if isinstance(wrapper, OptimWrapperDict) else {'': wrapper}


def _schedulers(runner: Runner) -> dict[str, list[_ParamScheduler]]:
    """The schedulers of a run by optimizer name; the name of a single optimizer is empty."""
    schedulers = runner.param_schedulers or []
    return schedulers if isinstance(schedulers, dict) else {'': schedulers}


def _names(runner: Runner) -> dict[torch.nn.Parameter, str]:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return {parameter: name for name, parameter in model.named_parameters()}


def _plain(values: Mapping) -> list:
    """Plain values as a sorted list, without tensors, functions, parameters, and the optimizer."""
    return sorted((key, repr(value)) for key, value in values.items()
                  if key not in ('params', 'optimizer') and not callable(value) and not torch.is_tensor(value))
