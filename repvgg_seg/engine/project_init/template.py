"""Text of the config that ``repvgg-seg init`` writes."""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from ...datasets.files import LABEL_SUFFIXES
from ...datasets.inspection.inspecting import Found
from ...models.archs import ARCHS
from .plan import IMAGENET_MEAN, Plan, wrapped

COMMENT_WIDTH = 118


@dataclass(frozen=True)
class Settings:
    """Settings from which a config is written.

    Args:
        title: one sentence that describes the config.
        commands: commands that use the config.
        found: result of inspecting the data.
        plan: sizes and schedule.
        arch: arch of the backbone.
        weights: path or URL of the initial weights; None to train from scratch.
        why_weights: one sentence that explains the choice of weights.
        lists: path of the image list of each split that needs one.
    """
    title: str
    commands: Sequence[str]
    found: Found
    plan: Plan
    arch: str
    weights: str | None
    why_weights: str
    lists: Mapping[str, Path]


def config_text(settings: Settings) -> str:
    """Write a complete config without base configs."""
    return '\n'.join([*_header(settings), *_data(settings), *_model(settings), *_schedule(settings), ''])


def _header(settings: Settings) -> list[str]:
    return [*_comment(settings.title), *(f'# {line}' for line in settings.commands),
            *_comment('Every line that begins with "# Guess:" describes a guess; change the settings that follow it as you '
                      'like.'),
            "default_scope = 'mmseg'", '']


def _data(settings: Settings) -> list[str]:
    found, plan, kind = settings.found, settings.plan, settings.found.kind
    shares = kind.shares()
    dataset = [f'dataset = dict(\n    type={found.type!r},\n    metainfo=dict(classes=classes, palette=palette)']
    if found.suffix and found.suffix not in LABEL_SUFFIXES:
        dataset.append(f'    seg_map_suffixes=[{found.suffix!r}]')
    meanings: list[str] = []
    if kind.values:
        meanings = ['# Value in the label files -> class; None: ignored. 255 is ignored unless it is named.',
                    f'label_values = {_mapping(kind.values, kind.classes, shares)}', _names_in('label_values')]
        dataset.append('    label_values=label_values')
    elif kind.colors:
        meanings = ['# Color (red, green, blue) in the label files -> class; None: ignored.',
                    f'label_colors = {_mapping(kind.colors, kind.classes, shares)}', _names_in('label_colors')]
        dataset.append('    label_colors=label_colors')
    if kind.tolerance:
        dataset.append(f'    label_tolerance={kind.tolerance}')
    resize = [f"    dict(type='Resize', scale={plan.resized}, keep_ratio=True),"] if plan.resized else []
    scale = plan.resized or plan.size[::-1]
    loaders = [line for name in ('train', 'val', 'test') if name in found.splits for line in _loader(name, settings)]
    if 'test' not in found.splits:
        loaders.append('test_dataloader = val_dataloader')
    return [
        *_comment(f'Data: {found.layout}; {kind.words}; split: {found.how_split}.'),
        *(line for guess in (*found.guesses, *kind.guesses) for line in _comment(f'Guess: {guess}')),
        *(meanings or [f'classes = {wrapped(kind.classes, 11)}']),
        f'palette = {wrapped(kind.palette, 11)}  # red, green, blue',
        'num_classes = len(classes)', ',\n'.join(dataset) + ')',
        *_comment(f'Guess: height and width of the training images in pixels, 8 k + 1, chosen for images of about '
                  f'{plan.size[0]}x{plan.size[1]} and for this machine.'),
        f'crop_size = {plan.crop}',
        'train_pipeline = [', "    dict(type='LoadImageFromFile'),", "    dict(type='LoadAnnotations'),",
        f"    dict(type='RandomResize', scale={scale}, ratio_range=(0.6, 1.5), keep_ratio=True),",
        "    dict(type='RandomFlip', prob=0.5),",
        "    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),",
        "    dict(type='PhotoMetricDistortion'),", "    dict(type='PackSegInputs'),", ']',
        'test_pipeline = [', "    dict(type='LoadImageFromFile'),", *resize,
        "    dict(type='LoadAnnotations'),", "    dict(type='PackSegInputs'),", ']', *loaders, '']


def _loader(name: str, settings: Settings) -> list[str]:
    split, training = settings.found.splits[name], name == 'train'
    batch = f'{settings.plan.batch}, num_workers=2, drop_last=True' if training else '1, num_workers=1'
    pipeline = f'pipeline={"train" if training else "test"}_pipeline'
    listed = [f'ann_file={str(settings.lists[name])!r}'] if name in settings.lists else []
    return [f'{name}_dataloader = dict(  # {len(split.pairs)} images', f'    batch_size={batch}, persistent_workers=True,',
            f"    sampler=dict(type='DefaultSampler', shuffle={training}),",
            f'    dataset=dict(**dataset, {", ".join([pipeline, *listed])},',
            f'                 data_prefix=dict(img_path={str(split.images)!r}, seg_map_path={str(split.labels)!r})))']


def _model(settings: Settings) -> list[str]:
    plan, widths = settings.plan, ARCHS[settings.arch].stage_widths
    start = f",\n        init_cfg=dict(type='Pretrained', checkpoint={settings.weights!r})" if settings.weights else ''
    own = '' if plan.mean == IMAGENET_MEAN else '  # Measured: they differ considerably from ImageNet\'s.'
    weights = [] if plan.class_weight is None else [
        '# Guess: rare classes count more: square root of median-frequency weights. With them the loss supports only '
        'avg_non_ignore=False.', f'class_weight = {wrapped(plan.class_weight, 16)}']
    loss = ("loss = dict(type='CrossEntropyLoss', avg_non_ignore=True)" if plan.class_weight is None else
            "loss = dict(type='CrossEntropyLoss', avg_non_ignore=False, class_weight=class_weight)")
    return [
        f'# Network: PSPNet on RepVGG-{settings.arch}.', *_comment(settings.why_weights),
        "norm_cfg = dict(type='BN', requires_grad=True)", "sync_bn = 'torch'  # Between several GPUs.", *weights, loss,
        'model = dict(', "    type='EncoderDecoder',", '    data_preprocessor=dict(',
        f"        type='SegDataPreProcessor', mean={plan.mean}, std={plan.std},{own}",
        '        bgr_to_rgb=True, size=crop_size, pad_val=0, seg_pad_val=255),',
        f"    backbone=dict(\n        type='repvgg_seg.RepVGG', arch={settings.arch!r}, dilation='full', out_indices=(2, "
        f"3){start}),",
        '    decode_head=dict(', f"        type='repvgg_seg.FactorizedPSPHead', in_channels={widths[-1]}, in_index=-1, "
                                 "channels=128,",
        '        pool_scales=(1, 2, 3, 6), dropout_ratio=0.1, num_classes=num_classes, norm_cfg=norm_cfg, align_corners=True,',
        '        loss_decode=dict(**loss, loss_weight=1.0)),', '    auxiliary_head=dict(',
        f"        type='FCNHead', in_channels={widths[-2]}, in_index=-2, channels=64, num_convs=1, concat_input=False, "
        "dropout_ratio=0.1,",
        '        num_classes=num_classes, norm_cfg=norm_cfg, align_corners=True, loss_decode=dict(**loss, loss_weight=0.4)),',
        '    train_cfg=dict(),', "    test_cfg=dict(mode='whole'))", "tta_model = dict(type='SegTTAModel')", 'tta_pipeline = [',
        "    dict(type='LoadImageFromFile'),", "    dict(type='TestTimeAug', transforms=[",
        "        [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],",
        "        [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]]),", ']', '']


def _schedule(settings: Settings) -> list[str]:
    plan = settings.plan
    heads = (", paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), auxiliary_head=dict(lr_mult=10)))"
             if settings.weights else '')
    steps = max(1, len(settings.found.splits['train'].pairs) // plan.batch)
    return [
        *_comment(f'Schedule: {steps} iterations per epoch. Guess: the number of epochs, from the number of images and the '
                  'speed of this machine.'),
        f'max_epochs = {plan.epochs}',
        f'val_interval = {plan.val_interval}',
        "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=val_interval)",
        "val_cfg = dict(type='ValLoop')", "test_cfg = dict(type='TestLoop')",
        "val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])",
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict("
        f"type='SGD', lr={plan.learning_rate}, momentum=0.9, weight_decay=5e-4){heads})",
        '# The learning rate is for this number of images per step; it is scaled to the actual number.',
        f'auto_scale_lr = dict(enable=True, base_batch_size={plan.batch})',
        'param_scheduler = [',
        f"    dict(type='LinearLR', start_factor=0.1, by_epoch=True, end={plan.warm_up}, convert_to_iter_based=True),",
        "    dict(type='PolyLR', power=0.9, eta_min=0, by_epoch=True, end=max_epochs, convert_to_iter_based=True)]",
        'default_hooks = dict(', "    timer=dict(type='IterTimerHook'),", "    logger=dict(type='LoggerHook', interval=20),",
        "    param_scheduler=dict(type='ParamSchedulerHook'),",
        "    checkpoint=dict(type='CheckpointHook', interval=val_interval, max_keep_ckpts=1, save_best='mIoU'),",
        "    sampler_seed=dict(type='DistSamplerSeedHook'),", "    visualization=dict(type='SegVisualizationHook'))",
        '# Validation and checkpoints use a moving average of weights and batch norm statistics, which jump with few images.',
        "custom_hooks = [", "    dict(type='SyncBuffersHook'),",
        "    dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=0.002, gamma=10, update_buffers=True)]",
        "env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0), "
        "dist_cfg=dict(backend='nccl'))",
        "visualizer = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='visualizer')",
        'log_processor = dict(by_epoch=True)', "log_level = 'INFO'", 'load_from = None', 'resume = False',
        'randomness = dict(seed=0)']


def _mapping(meanings: Mapping, classes: Sequence[str], shares: Iterable[float]) -> str:
    """Format the meaning of values or colors, each with its share of the pixels."""
    share_of = dict(zip(classes, shares))
    lines = [f'    {raw}: {name!r},' + (f'  # {share_of[name]:.2%} of the pixels' if name in share_of else '')
             for raw, name in meanings.items()]
    return '\n'.join(['{', *lines, '}'])


def _names_in(meanings: str) -> str:
    """The line that derives the classes from the meanings, so that each name occurs only once in the config."""
    return f'classes = [name for name in {meanings}.values() if name is not None]'


def _comment(text: str) -> list[str]:
    return [f'# {line}' for line in wrap(text, COMMENT_WIDTH, break_long_words=False, break_on_hyphens=False)]
