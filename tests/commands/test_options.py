"""Keys and values of --cfg-options: what is refused, with the key that was meant, and what goes on working."""
import pytest
from mistakes import assert_error_line
from mmengine.config import Config, DictAction
from tiny import ROOT

from repvgg_seg.commands.options import check_model_options, check_options
from repvgg_seg.core.errors import UserError


def check(*options: str) -> None:
    config = Config.fromfile(ROOT / 'configs/pspnet_repvgg_a0_toystreets.py')
    given = {key: DictAction._parse_iterable(value) for key, _, value in (option.partition('=') for option in options)}
    check_options(config, given)
    config.merge_from_dict(given)


@pytest.mark.situation('Tracebacks', 'a wrong key or value in `--cfg-options`',
                       before='accepted without effect, or a traceback of MMEngine', now='one line, with the nearest right key')
@pytest.mark.parametrize(('option', 'message'), [
    ('batchsize=4', 'batchsize: nothing reads batchsize in a config; did you mean train_dataloader.batch_size?'),
    ('backbone.arc=A1', 'backbone.arc: nothing reads backbone in a config; did you mean model.backbone.arch?'),
    ('model.backbone.arc=A1', 'model.backbone.arc: nothing reads arc in model.backbone; did you mean model.backbone.arch?'),
    ('optimizer.lr=1', 'optimizer.lr: nothing reads optimizer in a config; did you mean optim_wrapper.optimizer.lr?'),
    ('train_cfg.max_epoch=3', 'train_cfg.max_epoch: nothing reads max_epoch in train_cfg; did you mean train_cfg.max_epochs?'),
    ('env_cfg.cudnn_benchmrk=True',
     'env_cfg.cudnn_benchmrk: nothing reads cudnn_benchmrk in env_cfg; did you mean env_cfg.cudnn_benchmark?'),
    ('model.backbone.zzzzzzzzzzzz=1', 'model.backbone.zzzzzzzzzzzz: nothing reads zzzzzzzzzzzz in model.backbone'),
    ('optim_wrapper.optimizer.lr=abc', 'optim_wrapper.optimizer.lr=abc: expected a number, as 0.04 in the config'),
    ('train_dataloader.batch_size=four', 'train_dataloader.batch_size=four: expected a whole number, 1 or more'),
    ('train_dataloader.batch_size=0', 'train_dataloader.batch_size=0: expected a whole number, 1 or more'),
    ('train_dataloader.batch_size.0=1',
     'train_dataloader.batch_size.0: train_dataloader.batch_size is 4, which has no keys; set train_dataloader.batch_size '
     'itself'),
    ('param_scheduler.7.power=1',
     'param_scheduler.7.power: param_scheduler is a list of 2; expected an index from 0 to 1 after it, got 7'),
    ('max_epochs=3', 'max_epochs: max_epochs only helps to write the config, so changing it here has no effect; set '
     'train_cfg.max_epochs, param_scheduler.1.end'),
    ('crop_size=3', 'crop_size: crop_size only helps to write the config, so changing it here has no effect; set '
     'model.data_preprocessor.size'),
    ('env_cfg.cudnn_benchmark=yes', 'env_cfg.cudnn_benchmark=yes: expected True or False'),
    ('model.backbone=A1',
     'model.backbone=A1: model.backbone has keys (type, dilation, out_indices, arch); set one of them'),
])
def test_refused(option, message):
    with pytest.raises(UserError) as refused:
        check(option)
    assert str(refused.value) == f'--cfg-options {message}'


@pytest.mark.parametrize('options', [
    ['model.backbone.with_cp=True'], ['model.backbone.init_cfg.type=Pretrained', 'model.backbone.init_cfg.checkpoint=x'],
    ['randomness.seed=3', 'randomness.deterministic=True'], ['resume=True', 'load_from=x.pth', 'compile=True'],
    ['optim_wrapper.accumulative_counts=2'], ['optim_wrapper.clip_grad.max_norm=1'],
    ['optim_wrapper.type=AmpOptimWrapper', 'optim_wrapper.loss_scale=dynamic'], ['env_cfg.dist_cfg.backend=gloo'],
    ['train_cfg.val_begin=3'], ['model.backbone.arch=B1'], ['optim_wrapper.loss_scale=512.0'],
    ['default_hooks.checkpoint=None', 'model.auxiliary_head=None', 'param_scheduler=[]'],
    ['train_dataloader.dataset.indices=5'], ['test_dataloader.dataset.data_prefix.img_path=x'], ['param_scheduler.0.begin=3'],
    ['default_hooks.logger.log_metric_by_epoch=True'], ['val_evaluator.iou_metrics=mDice'], ['train_dataloader.num_workers=0'],
], ids=' '.join)
def test_allowed(options):
    check(*options)


@pytest.mark.situation('Silently wrong', '`--cfg-options model...` beside an exported file or a fused folder',
                       before='no effect', now='refused')
@pytest.mark.parametrize(('checkpoint', 'refused'), [
    ('epoch_1.pth', ''), ('work_dir', ''), ('fused', 'model.backbone.arch'), ('fused', 'model.test_cfg.mode'),
    ('exported', 'model.decode_head.channels'), ('exported', 'model'), ('model.fp32.onnx', 'model.data_preprocessor.size'),
    ('model.fp32.onnx', '')])
def test_options_of_a_model_that_is_replaced(tmp_path, checkpoint, refused):
    for file in ('work_dir/epoch_1.pth', 'work_dir/config.py', 'fused/config.py', 'fused/deploy.json', 'exported/deploy.json'):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    checkpoint = str(tmp_path / checkpoint)
    options = ['test_dataloader.batch_size', refused or 'model.test_cfg.mode']
    if not refused:
        check_model_options(checkpoint, options)
        return
    with pytest.raises(UserError) as error:
        check_model_options(checkpoint, options)
    assert str(error.value) == (f'--cfg-options {refused} has no effect, because {checkpoint} brings its own model; leave it '
                                'out, or give the training checkpoint')


@pytest.mark.parametrize('verb', ['test', 'classify_test', 'deploy'])
def test_every_command_checks_them(run_tool, tmp_path, verb):
    config = 'repvgg_a0_cifar10' if verb == 'classify_test' else 'pspnet_repvgg_tiny_toystreets'
    for name in ('config.py', 'model.pth'):
        (tmp_path / name).touch()
    out = ['--out', tmp_path / 'out'] if verb == 'deploy' else []
    assert_error_line(run_tool(verb, config, tmp_path, *out, '--cfg-options', 'model.backbone.arch=A1'),
                      f'error: --cfg-options model.backbone.arch has no effect, because {tmp_path} brings its own model; leave '
                      'it out, or give the training checkpoint')


@pytest.mark.parametrize('option', ['batch_size', '=4', 'model.=4', 'a..b=4', 'param_scheduler=[1,(2]'])
def test_what_is_no_assignment(run_tool, option):
    result = run_tool('check_data', 'c.py', '--cfg-options', option)
    assert_error_line(result, 'error: argument --cfg-options: expected KEY=VALUE '
                      f'with every bracket closed, got {option}; see --help')


@pytest.mark.situation('Tracebacks', 'the name of a config that is off by a letter', before='it does not exist',
                       now='one line, with the nearest name')
@pytest.mark.parametrize(('name', 'end'), [
    ('configs/pspnet_repvgg_a0_camvd.py', 'does not exist; did you mean configs/pspnet_repvgg_a0_camvid.py?'),
    ('confgs/pspnet_repvgg_a0_camvid.py', 'does not exist; did you mean pspnet_repvgg_a0_camvid?'),
    ('configs/pspnet_repvgg_a0_camvid', 'does not exist; did you mean configs/pspnet_repvgg_a0_camvid.py?'),
    ('configs/other.py', 'does not exist; expected a file, or a name that tools/configs.py lists'),
    ('configs', 'is a folder; expected a file, or a name that tools/configs.py lists')])
def test_a_config_that_is_not_there(run_tool, monkeypatch, name, end):
    monkeypatch.chdir(ROOT)
    assert_error_line(run_tool('check_data', name), f'error: config {name} {end}')
