"""Every config builds the model that its name and the paper say."""
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY_ARCH
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from repvgg_seg.datasets import ImageFolder
from repvgg_seg.models.reparam import LinearPart

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(str(path.relative_to(ROOT / 'configs').with_suffix(''))
                 for folder in ('.', 'ablations') for path in (ROOT / 'configs' / folder).glob('*.py'))
PEERS = ['ddrnet_23_slim_camvid', 'pidnet_s_camvid']  # MMSegmentation's, for comparison.
SEGMENTORS = [name for name in CONFIGS if not name.startswith(('repvgg_', 'ablations/')) and name not in PEERS]
# Paper, Table 8, and what follows from its architectures: arch, dilation, channels of stages 4 and 5.
REPVGG = {
    'pspnet_repvgg_b2_cityscapes': ('B2', 'full', 640, 2560),
    'pspnet_repvgg_b2_fast_cityscapes': ('B2', 'fast', 640, 2560),
    'pspnet_repvgg_b1g2_cityscapes': ('B1g2', 'full', 512, 2048),
    'pspnet_repvgg_b1g2_fast_cityscapes': ('B1g2', 'fast', 512, 2048),
    'pspnet_repvgg_a0_cityscapes': ('A0', 'full', 192, 1280),
    'pspnet_repvgg_a1_cityscapes': ('A1', 'full', 256, 1280),
}
# Ours, with other heads than PSPNet's: arch, dilation, output strides of the backbone, head.
OTHER_HEADS = {
    'upernet_repvgg_b1g2_cityscapes': ('B1g2', None, (4, 8, 16, 32), 'UPerHead'),
    'deeplabv3plus_repvgg_b1g2_cityscapes': ('B1g2', 'fast', (4, 8, 8), 'DepthwiseSeparableASPPHead'),
}
# Ours, for real time: arch.
REALTIME = {f'realtime_repvgg_{arch.lower()}_cityscapes': arch for arch in ('A0', 'A1', 'B0')}

# Paper, Tables 4 and 5: arch, parameters of the training form with 1000 classes.
CLASSIFIERS = {
    'repvgg_a0_imagenet': ('A0', 9108968), 'repvgg_a1_imagenet': ('A1', 14092264), 'repvgg_a2_imagenet': ('A2', 28210600),
    'repvgg_b0_imagenet': ('B0', 15817960), 'repvgg_b1_imagenet': ('B1', 57415016), 'repvgg_b1g2_imagenet': ('B1g2', 45782376),
    'repvgg_b1g4_imagenet': ('B1g4', 39966056), 'repvgg_b2_imagenet': ('B2', 89022376),
    'repvgg_b2g4_imagenet': ('B2g4', 61758376), 'repvgg_b2g4_imagenet_200e': ('B2g4', 61758376),
    'repvgg_b3g4_imagenet_200e': ('B3g4', 83825128), 'repvgg_b3_imagenet_200e': ('B3', 123085288)}
# Paper, Tables 6 and 7 and section 4.2, and QARepVGG: block or backbone, top-1 in the paper.
ABLATIONS = {
    'b0_plain': ('PlainConv', '72.39'), 'b0_identity_only': ('IdentityOnly', '74.79'),
    'b0_1x1_only': ('PointwiseOnly', '73.15'), 'b0_identity_without_norm': ('IdentityWithoutNorm', '74.18'),
    'b0_norm_after_sum': ('NormAfterSum', '73.52'), 'b0_relu_in_branches': ('ReLUInBranches', '75.69'),
    'b0_dirac': ('DiracConv', '73.97'), 'b0_trivial': ('TrivialConv', '73.51'), 'b0_asymmetric': ('AsymmetricConv', '73.58'),
    'b0_residual': ('PlainConv', '74.56'), 'b0_qarepvgg': ('QARepConv', 'not in'), 'resnet50': (None, '76.31'),
    'resnet50_repvgg': ('RepConv', '76.34')}


def load(name: str) -> Config:
    return Config.fromfile(ROOT / 'configs' / f'{name}.py')


def build(config: Config):
    init_default_scope(config.default_scope)
    with torch.device('meta'):
        return MODELS.build(config.model)


def test_the_published_rows_are_there():
    assert {*REPVGG, 'pspnet_r50_cityscapes', 'pspnet_r101_cityscapes', 'pspnet_repvgg_a0_camvid',
            'pspnet_repvgg_a0_toystreets'} <= set(SEGMENTORS)


@pytest.mark.parametrize('name', SEGMENTORS)
def test_model_builds_at_its_output_strides(name):
    config = load(name)
    model = build(config)
    height, width = config.model.data_preprocessor.size
    features = model.extract_feat(torch.empty(2, 3, height, width, device='meta'))
    *_, strides, _ = OTHER_HEADS.get(name, (None, None, (8, 16, 32) if name.startswith('realtime') else (8, 8), None))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    assert [tuple(feature.shape[2:]) for feature in features] == sizes
    assert model.decode_head(features).shape == (2, len(dataset_classes(config)), *sizes[0])
    assert model.auxiliary_head(features).shape == (2, len(dataset_classes(config)), *sizes[-2])
    assert model.auxiliary_head.loss_decode.loss_weight == pytest.approx(0.4) or 'camvid' in name


@pytest.mark.parametrize('name', SEGMENTORS + PEERS)
def test_every_loss_reaches_the_first_layer(name):
    config = load(name)
    init_default_scope(config.default_scope)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    size = 64 if config.crop_size[0] % 64 == 0 else 97
    samples = [SegDataSample(metainfo=dict(img_shape=(size, size))) for _ in range(2)]
    for sample in samples:
        labels = torch.randint(len(dataset_classes(config)), (1, size, size))
        sample.gt_sem_seg, sample.gt_edge_map = PixelData(data=labels), PixelData(data=labels % 2)
    loss, _ = model.parse_losses(model.loss(torch.rand(2, 3, size, size), samples))
    first = next(model.backbone.parameters())
    gradient, = torch.autograd.grad(loss, first)
    assert loss.isfinite() and gradient.isfinite().all() and gradient.abs().max() > 0


def dataset_classes(config: Config) -> tuple:
    from mmseg.registry import DATASETS
    return DATASETS.get(config.train_dataloader.dataset.type).METAINFO['classes']


@pytest.mark.parametrize('name', REPVGG)
def test_repvgg_rows(name):
    arch, dilation, stage4, stage5 = REPVGG[name]
    config = load(name)
    model = build(config)
    assert (model.backbone.arch, config.model.backbone.dilation) == (arch, dilation)
    assert model.backbone.out_channels == (stage4, stage5)
    head = model.decode_head
    assert (head.pool_channels, head.channels, head.pool_scales, head.align_corners) == (stage5 // 4, 512, (1, 2, 3, 6), True)
    companion, url = config.model.backbone.init_cfg.checkpoint
    assert companion == f'work_dirs/repvgg_{arch.lower()}_imagenet' and f'/repvgg-{arch}_' in url


@pytest.mark.parametrize('name', OTHER_HEADS)
def test_other_heads_stand_on_the_same_recipe(name):
    arch, dilation, _, head = OTHER_HEADS[name]
    config, pspnet = load(name), load('pspnet_repvgg_b1g2_cityscapes')
    assert (config.model.backbone.arch, config.model.backbone.dilation, config.model.decode_head.type) == (arch, dilation, head)
    for key in set(pspnet) - {'model'}:
        assert config[key] == pspnet[key], key
    for key in set(pspnet.model) - {'backbone', 'decode_head'}:
        assert config.model[key] == pspnet.model[key], key
    for key in ('channels', 'num_classes', 'dropout_ratio', 'norm_cfg', 'align_corners', 'loss_decode'):
        assert config.model.decode_head[key] == pspnet.model.decode_head[key], key
    assert config.model.backbone.init_cfg == pspnet.model.backbone.init_cfg


@pytest.mark.parametrize(('name', 'blocks'), [('pspnet_r50_cityscapes', (3, 4, 6, 3)),
                                              ('pspnet_r101_cityscapes', (3, 4, 23, 3))])
def test_resnet_baselines_dilate_every_3x3_of_the_last_stages(name, blocks):
    backbone = build(load(name)).backbone
    stages = [getattr(backbone, layer) for layer in backbone.res_layers]
    assert tuple(len(stage) for stage in stages) == blocks
    assert [{block.conv2.dilation[0] for block in stage} for stage in stages] == [{1}, {1}, {2}, {4}]
    assert hasattr(backbone, 'stem')


@pytest.mark.parametrize('name', [name for name in SEGMENTORS if name.endswith('cityscapes') and name not in REALTIME])
def test_cityscapes_recipe(name):
    config = load(name)
    optimizer, heads = config.optim_wrapper.optimizer, config.optim_wrapper.paramwise_cfg.custom_keys
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.01, 0.9, 1e-4)
    assert heads.decode_head.lr_mult == heads.auxiliary_head.lr_mult == 10
    assert config.train_cfg.max_epochs == 40 and config.auto_scale_lr.base_batch_size == 16
    schedule, = config.param_scheduler
    assert (schedule.type, schedule.power, schedule.end) == ('PolyLR', 0.9, 40)
    steps = {step['type']: step for step in config.train_dataloader.dataset.pipeline}
    assert steps['RandomResize'].ratio_range == (0.5, 2.0) and steps['RandomRotate'].degree == 10
    assert steps['RandomCrop'].crop_size == (713, 713) and steps['repvgg_seg.RandomGaussianBlur'].prob == 0.5
    assert 'PhotoMetricDistortion' not in steps
    test = config.model.test_cfg
    assert (test.mode, test.crop_size, test.stride) == ('slide', (713, 713), (476, 476))
    assert config.sync_bn == 'torch'


@pytest.mark.parametrize('name', REALTIME)
def test_realtime_recipe(name):
    config, text = load(name), (ROOT / 'configs' / f'{name}.py').read_text()
    assert 'nothing was trained on Cityscapes' in text.splitlines()[0]
    iterations_per_epoch = 2975 // config.auto_scale_lr.base_batch_size  # Of Cityscapes, where an incomplete batch is dropped.
    assert config.train_cfg.max_epochs * iterations_per_epoch == pytest.approx(120_000, rel=0.005)
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.01, 0.9, 5e-4)
    assert not config.optim_wrapper.paramwise_cfg
    schedule, = config.param_scheduler
    assert (schedule.type, schedule.power, schedule.end) == ('PolyLR', 0.9, config.train_cfg.max_epochs)
    steps = {step['type']: step for step in config.train_dataloader.dataset.pipeline}
    assert (steps['RandomCrop'].crop_size, steps['RandomResize'].ratio_range) == ((1024, 1024), (0.5, 2.0))
    model = config.model
    sampler = model.decode_head.sampler.type
    assert (model.backbone.arch, model.test_cfg.mode, sampler) == (REALTIME[name], 'whole', 'OHEMPixelSampler')
    companion, url = model.backbone.init_cfg.checkpoint
    assert companion == f'work_dirs/repvgg_{REALTIME[name].lower()}_imagenet' and f'/repvgg-{REALTIME[name]}_' in url


@pytest.mark.parametrize('data', ['camvid', 'toystreets'])
def test_realtime_networks_train_by_the_recipe_of_their_pspnets(data):
    config, pspnet = load(f'realtime_repvgg_a0_{data}'), load(f'pspnet_repvgg_a0_{data}')
    for key in set(pspnet) - {'model', 'window'}:
        assert config[key] == pspnet[key], key
    for head in ('decode_head', 'auxiliary_head'):
        assert config.model[head].loss_decode == pspnet.model[head].loss_decode


@pytest.mark.parametrize('name', PEERS)
def test_peers_train_by_the_same_recipe_with_their_own_losses(name):
    config, ours = load(name), load('realtime_repvgg_a0_camvid')
    steps, our_steps = config.train_dataloader.dataset.pop('pipeline'), ours.train_dataloader.dataset.pop('pipeline')
    assert [step for step in steps if step['type'] != 'GenerateEdge'] == our_steps
    for key in set(ours) - {'model', 'loss', 'train_pipeline'}:
        assert config[key] == ours[key], key
    losses = config.model.decode_head.loss_decode
    assert 'OhemCrossEntropy' in {loss.type for loss in losses} and len(losses) == (4 if 'pidnet' in name else 2)
    assert all(loss.class_weight == ours.class_weight for loss in losses if loss.type != 'BoundaryLoss')


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classifiers(name):
    arch, parameters = CLASSIFIERS[name]
    config = load(name)
    model = build(config)
    assert (model.backbone.arch, model.backbone.out_indices) == (arch, (3, ))
    assert 'sync_bn' not in config, 'the paper and the official code train classifiers with plain batch norm'
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model(torch.empty(2, 3, 224, 224, device='meta')).shape == (2, 1000)
    assert config.auto_scale_lr.base_batch_size == 256 and config.train_dataloader.batch_size is None


@pytest.mark.parametrize('name', ABLATIONS)
def test_ablations(name):
    """Each differs from B0's config in its block, or is the ResNet-50 beside it."""
    block, accuracy = ABLATIONS[name]
    name = f'ablations/{name}_imagenet'
    assert f'paper {accuracy}' in (ROOT / 'configs' / f'{name}.py').read_text() or accuracy == 'not in'
    config, companion = load(name), load('repvgg_b0_imagenet')
    init_default_scope(config.default_scope)
    model = MODELS.build(config.model)
    assert model(torch.empty(2, 3, 32, 32)).shape == (2, 1000)
    blocks = {type(module).__name__ for module in model.modules() if isinstance(module, LinearPart)} - {'Projection'}
    assert blocks == ({block} if block else set())
    for key in set(companion) - {'model', 'optim_wrapper', 'custom_imports'}:
        assert config[key] == companion[key], key
    assert config.optim_wrapper.optimizer == companion.optim_wrapper.optimizer


def test_every_ablation_has_a_config():
    from repvgg_seg.models import variants
    assert set(ABLATIONS) == {name.removeprefix('ablations/').removesuffix('_imagenet') for name in CONFIGS
                              if name.startswith('ablations/') and name.endswith('imagenet')}
    of_pruning = {'CompactedConv'}
    assert {block for block, _ in ABLATIONS.values()} | {'ResidualRepVGG'} == {*variants.__all__, 'RepConv', None} - of_pruning


def test_the_segmentors_start_from_what_the_companions_leave():
    for name in REPVGG:
        companion = Path(load(name).model.backbone.init_cfg.checkpoint[0])
        assert companion.name in CLASSIFIERS and CLASSIFIERS[companion.name][0] == REPVGG[name][0]


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_imagenet_recipes(name):
    config = load(name)
    strong = name.endswith('200e')
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.momentum, optimizer.weight_decay) == ('SGD', 0.1, 0.9, 1e-4)
    assert 'constructor' not in config.optim_wrapper
    epochs = 200 if strong else 120
    *warm_up, cosine = config.param_scheduler
    assert config.train_cfg.max_epochs == cosine.end == epochs
    assert (cosine.type, cosine.get('begin', 0)) == ('CosineAnnealingLR', 5 if strong else 0)
    assert [(step.type, step.end) for step in warm_up] == ([('LinearLR', 5)] if strong else [])
    steps = [step['type'] for step in config.train_dataloader.dataset.pipeline]
    assert ('AutoAugment' in steps) == strong and {'RandomResizedCrop', 'RandomFlip'} <= set(steps)
    loss = config.model.head.loss
    assert (loss.type, loss.get('label_smooth_val')) == (('LabelSmoothLoss', 0.1) if strong else ('CrossEntropyLoss', None))
    mixup = config.model.get('train_cfg', {}).get('augments')
    assert (mixup == dict(type='Mixup', alpha=0.2)) if strong else mixup is None


@pytest.mark.parametrize('name', ['repvgg_a0_imagenet', 'repvgg_b2g4_imagenet_200e', 'repvgg_a0_cifar10'])
def test_only_kernels_decay(name):
    config = load(name)
    config.model.head.num_classes = 10
    model = build(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    decays = {id(parameter): group['weight_decay'] for group in groups for parameter in group['params']}
    wanted = config.optim_wrapper.optimizer.weight_decay
    counted = dict.fromkeys(('kernel', 'norm', 'identity norm', 'linear bias'), 0)
    for module_name, module in model.named_modules():
        for parameter_name, parameter in module.named_parameters(recurse=False):
            kernel = isinstance(module, (nn.Conv2d, nn.Linear)) and parameter_name == 'weight'
            assert decays[id(parameter)] == (wanted if kernel else 0), f'{module_name}.{parameter_name}'
            kind = 'kernel' if kernel else 'linear bias' if isinstance(module, nn.Linear) else (
                'identity norm' if module_name.endswith('branch_identity') else 'norm')
            counted[kind] += 1
    layers = 1 + sum(model.backbone.stages[index].__len__() for index in range(4))
    assert counted == {'kernel': 2 * layers + 1, 'norm': 4 * layers, 'identity norm': 2 * (layers - 5), 'linear bias': 1}
    assert len(decays) == sum(counted.values())


@pytest.mark.parametrize('name', [name for name in ABLATIONS if name.startswith('b0')])
def test_only_kernels_decay_in_the_ablations(name):
    config = load(f'ablations/{name}_imagenet')
    config.model.backbone.arch = TINY_ARCH
    config.model.head.in_channels = 48
    model = build(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    decays = {id(parameter): group['weight_decay'] for group in groups for parameter in group['params']}
    kernels = {id(module.weight) for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert all(decay == (1e-4 if parameter in kernels else 0) for parameter, decay in decays.items())
    assert len(decays) == len(list(model.parameters()))


@pytest.mark.parametrize('name', ['repvgg_a0_imagenet', 'repvgg_b2g4_imagenet_200e', 'repvgg_a0_cifar10'])
def test_training_step(name, tmp_path):
    """The whole pipeline, also AutoAugment's many, and the loss, also of mixed labels."""
    config = load(name)
    init_default_scope(config.default_scope)
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 56, 3), np.uint8)).save(tmp_path / folder / '1.png')
    dataset = ImageFolder(data_root=str(tmp_path), pipeline=config.train_dataloader.dataset.pipeline)
    size = 64 if 'cifar' in name else 224
    batch = default_collate([dataset[index % 2] for index in range(40)])
    assert batch['inputs'].shape == (40, 3, size, size) and batch['inputs'].dtype == torch.uint8
    config.model.backbone.arch = TINY_ARCH
    config.model.head.in_channels = 48
    model = MODELS.build(config.model)
    mixed = []
    model.head.loss_module.register_forward_pre_hook(lambda module, inputs: mixed.append(inputs[1]))
    batch = dict(inputs=batch['inputs'][:8, :, :64, :64], data_samples=batch['data_samples'][:8])
    losses = model.train_step(batch, build_optim_wrapper(model, config.optim_wrapper))
    assert torch.isfinite(losses['loss'])
    assert mixed[0].shape == ((8, config.model.head.num_classes) if name.endswith('200e') else (8, ))


@pytest.mark.parametrize('name', CONFIGS)
def test_leaf_says_only_what_its_row_changes(name):
    lines = (ROOT / 'configs' / f'{name}.py').read_text().splitlines()
    assert f'configs/{name}.py' in '\n'.join(lines[:4]), 'the header has the launch command'
    assert len(lines) <= 25
