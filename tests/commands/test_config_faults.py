"""A mistake in a config file ends the command with one line that names the setting; other exceptions keep their traceback."""
import pytest
from mistakes import assert_error_line
from mmengine.config import Config

from repvgg_seg.commands.config_faults import explain
from repvgg_seg.commands.options import likely_misspelled
from repvgg_seg.core.configs import existing_config, shipped_names
from repvgg_seg.registry import MODELS

DATASET, LOADER = 'train_dataloader=dict(dataset=dict({}))', 'train_dataloader=dict({})'


@pytest.fixture
def mistaken(config, tmp_path):
    """Write a config that inherits from a correct one."""
    def write(line: str):
        (tmp_path / 'c.py').write_text(f'_base_ = {str(config)!r}\n{line}\n')
        return tmp_path / 'c.py'
    return write


@pytest.mark.situation('Tracebacks', 'a wrong name or value in a config file, e.g. `archh` or `lr=-1`',
                       before='a traceback of MMEngine or PyTorch', now='one line, with the setting and what was likely meant')
@pytest.mark.parametrize(('line', 'message'), [
    ("model=dict(backbone=dict(archh='A0'))", 'RepVGG does not take model.backbone.archh; did you mean model.backbone.arch?'),
    ("model=dict(backbone=dict(type='RepVGGG'))",
     'model.backbone.type is RepVGGG, which is not registered; did you mean RepVGG?'),
    ("model=dict(decode_head=dict(loss_decode=dict(type='mine.Loss3')))",
     'model.decode_head.loss_decode.type is mine.Loss3, which is not registered; name its module in custom_imports'),
    (DATASET.format("data_rot='x'"),
     'ToyStreets does not take train_dataloader.dataset.data_rot; did you mean train_dataloader.dataset.data_root?'),
    (DATASET.format("pipeline=[dict(type='LoadImageFromFil')]"),
     'train_dataloader.dataset.pipeline.0.type is LoadImageFromFil, which is not registered; did you mean LoadImageFromFile?'),
    (LOADER.format('batchsize=2'),
     'DataLoader does not take train_dataloader.batchsize; did you mean train_dataloader.batch_size?'),
    (LOADER.format('num_workers=-1'), 'DataLoader refuses the settings of train_dataloader: num_workers option should be '
     'non-negative; use num_workers=0 to disable multiprocessing.'),
    ("optim_wrapper=dict(optimizer=dict(type='SGDD'))",
     'optim_wrapper.optimizer.type is SGDD, which is not registered; did you mean SGD?'),
    ('optim_wrapper=dict(optimizer=dict(lr=-1))',
     'SGD refuses the settings of optim_wrapper.optimizer: Invalid learning rate: -1'),
    ("param_scheduler=[dict(type='StepLR')]", "StepLR needs 'step_size'; add it to param_scheduler.0"),
    ("param_scheduler=[dict(type='PolyLR', end=0)]", 'PolyLR refuses the settings of param_scheduler.0: end should be larger '
     'than begin, but got begin=0, end=0'),
    ('default_hooks=dict(logger=dict(interval=0))',
     'LoggerHook refuses the settings of default_hooks.logger: interval must be greater than 0'),
])
def test_mistakes_when_training(run_tool, mistaken, tmp_path, line, message):
    file = mistaken(line)
    assert_error_line(run_tool('train', file, '--work-dir', tmp_path / 'run'), f'error: config {file}: {message}')
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.situation('Silently wrong', 'a misspelled name at the top of a config file, e.g. `optim_wraper`', before='ignored',
                       now='a warning with the name that was likely meant')
@pytest.mark.parametrize(('line', 'warning'), [
    ('optim_wraper = dict(optimizer=dict(lr=1))', 'nothing reads optim_wraper; did you mean optim_wrapper?'),
    ("custom_hook = [dict(type='EMAHook')]", 'nothing reads custom_hook; did you mean custom_hooks?'),
    ('auto_scale_lr = dict(enabled=False)', 'nothing reads auto_scale_lr.enabled; did you mean auto_scale_lr.enable?'),
    ('env_cfg = dict(cudnn_benchmak=False)', 'nothing reads env_cfg.cudnn_benchmak; did you mean env_cfg.cudnn_benchmark?'),
    ("hooks = [dict(type='EMAHook')]\ncustom_hooks = hooks", None), ('model_size = 5', None), ('test_pipeline = []', None)])
def test_misspelled_names(run_tool, mistaken, line, warning):
    file = mistaken(line)
    result = run_tool('check_data', file)
    assert result.code == 0
    assert [text for text in result.err.splitlines() if text.startswith('warning:')] == (
        [f'warning: config {file}: {warning}'] if warning else [])


@pytest.mark.parametrize('name', shipped_names())
def test_own_configs_are_not_warned_about(name):
    assert not list(likely_misspelled(Config.fromfile(existing_config(name))))


@pytest.mark.parametrize('verb', ['deploy', 'test'])
def test_mistakes_after_training(run_tool, mistaken, checkpoint, tmp_path, verb):
    file = mistaken("model=dict(decode_head=dict(channel=3))")
    options = ['--out', tmp_path / 'out'] if verb == 'deploy' else ['--work-dir', tmp_path / 'run']
    assert_error_line(run_tool(verb, file, checkpoint, *options),
                      f'error: config {file}: FactorizedPSPHead does not take model.decode_head.channel; did you mean '
                      'model.decode_head.channels?')


@MODELS.register_module()
class Faulty:
    """Has a bug that is no fault of its settings."""

    def __init__(self, mode: str) -> None:
        if mode == 'key':
            dict().pop('absent')
        self.absent.append(mode) if mode == 'attribute' else len(3)


@pytest.mark.parametrize('mode', ['key', 'attribute', 'type'])
def test_bugs_keep_their_traceback(mode):
    config = Config(dict(model=dict(type='Faulty', mode=mode)))
    with pytest.raises((KeyError, AttributeError, TypeError)) as raised:
        MODELS.build(config.model)
    assert explain(raised.value, config, 'c.py') is None


def test_what_is_raised_while_nothing_is_built():
    with pytest.raises(ValueError, match='invalid literal') as raised:
        int('x')
    assert explain(raised.value, Config(dict(model=dict(type='RepVGG'))), 'c.py') is None
