"""Train and test a segmentor."""
import copy
import gc
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.dist import get_world_size, is_main_process
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from ..core.config_types import type_name
from ..core.configs import files_of_config
from ..core.destinations import Output, check_outputs, ensure_writable, files_of
from ..core.errors import UserError, some
from ..core.images import image_files
from ..core.labels import IGNORE, check_class_count
from ..datasets.checking import check_sample
from ..datasets.wrappers import files_of_dataset, images_of_dataset
from ..runtime.backend import CPU
from .batches import evaluate_by_size
from .classes import check_same_classes, trained_classes
from .dataset_configs import datasets_in
from .distillation import add_teacher
from .dry_run import Expectation, dry_run
from .evaluating import TEST_REPORT, evaluate
from .exported import ExportedSegmentor, check_classes_of_export, exported_config, is_exported
from .hardware import fit_to_hardware, torch_device
from .input_check import check_inputs
from .label_writer import name_of_labels
from .model_check import check_model
from .report.collecting import ImageCounts
from .report.summary import class_values
from .report.writing import PAGE, Report, check_arguments, foreign_files, whole_report
from .resolved_config import silent_visualizer
from .seeded_data import unwrapped
from .stopping import anywhere
from .trained_model import resolve
from .training import train


def train_segmentor(config: Config) -> Path | None:
    """Train a segmentor; see :func:`repvgg_seg.engine.training.train`."""
    check_model(config)
    return train(config, check_segmentor, adapt_to_segmentation)


def adapt_to_segmentation(config: Config) -> None:
    """Make the changes to a training config that only segmentors need.

    Raises:
        UserError: the config distills, but its settings or its model do not allow that.
    """
    evaluate_by_size(config)
    add_teacher(config)


def dry_run_segmentor(config: Config) -> tuple[Config, Expectation]:
    """Run the beginning of a training; see :func:`repvgg_seg.engine.dry_run.dry_run`."""
    check_model(config)
    return dry_run(config, check_segmentor, adapt_to_segmentation)


def test_segmentor(config: Config, checkpoint: str, tta: bool = False, out: str | None = None,
                   submit: str | None = None, report: str | None = None,
                   against: str | None = None, device: str | None = None) -> dict[str, float | list]:
    """Evaluate a checkpoint on the config's test set.

    Args:
        config: full config, including ``work_dir``, to which ``test.json`` is written.
        checkpoint: training checkpoint, folder of a fused model, or exported file.
        tta: whether to average the predictions for the image and its mirror image (test-time augmentation).
        out: folder for predictions as PNGs of class indices.
        submit: folder for predictions as PNGs of original label ids; labels are not read and nothing is evaluated.
        report: folder for a report page with pictures and numbers.
        against: path of an earlier ``report.json``, which the report page compares with.
        device: device, see :func:`repvgg_seg.runtime.predictor.load`; by default the CPU for an exported file, and otherwise a
            GPU if there is one.

    Returns:
        The metrics of the config's evaluator, for example mIoU, mAcc (mean accuracy), and aAcc (pixel accuracy) in percent;
        empty with ``submit``.

    Raises:
        UserError: the checkpoint, the classes, the dataset, or the arguments do not match, or an output file would replace an
            input or another output.
    """
    check_arguments(report, against, submit)
    if is_exported(checkpoint):
        if tta:
            raise UserError('an exported file cannot be tested with --tta; give the training checkpoint or the fused weights')
        if config.get('launcher', 'none') != 'none':
            raise UserError('an exported file is tested by one process; leave --launcher out')
        config.model, weights = ConfigDict(exported_config(config, checkpoint, device or CPU)), None
        device = None
    else:
        weights = resolve(config, checkpoint)
        check_model(config)
    evaluate_by_size(config)
    fit_to_hardware(config)
    made = Report(report, config, checkpoint, tta, against) if report else None
    if tta:
        for dataset in datasets_in(config.test_dataloader.dataset):
            dataset.pipeline = config.tta_pipeline
        config.tta_model.module = config.model
        config.model = config.tta_model
    writers = [dict(type='repvgg_seg.LabelWriter', output_dir=folder, label_ids=folder == submit)
               for folder in (out, submit) if folder]
    inputs: list[str | Path] = [*files_of(checkpoint), *files_of_config(config), *(made.inputs if made else [])]
    if submit:
        for dataset in datasets_in(config.test_dataloader.dataset):
            inputs += image_files(os.path.join(dataset.get('data_root') or '', dataset.data_prefix.get('seg_map_path') or ''))
            dataset.data_prefix.seg_map_path = None
        config.test_evaluator = writers
    else:
        config.test_evaluator = [*evaluators_in(config), *writers, *counters(config, made)]

    def check(model: nn.Module, dataset: BaseDataset, meta: Mapping) -> None:
        check_classes(model, dataset)
        check_same_classes(f'checkpoint {weights}', trained_classes(meta), 'the test set',
                           dataset.metainfo.get('classes') or ())
        folders = [Path(folder) for folder in (out, submit) if folder]
        pictures = [Output(folder / name_of_labels(path), path) for folder in folders for path in images_of_dataset(dataset)]
        check_outputs([Output(Path(config.work_dir, TEST_REPORT), 'the metrics'), *pictures,
                       *(made.outputs(dataset) if made else [])], chain(inputs, files_of_dataset(dataset)))
        for folder in folders:
            ensure_writable(folder)
        if made:
            made.begin(dataset, dataset.metainfo['classes'])

    def finish(evaluator: Evaluator) -> dict:
        counted = [metric for metric in evaluator.metrics if isinstance(metric, ImageCounts)]
        if not counted:
            return {}
        images, metainfo = counted[0].images, counted[0].dataset_meta
        if made:
            made.finish(images, metainfo['classes'], metainfo['palette'])
        return dict(classes=class_values(images, metainfo['classes']))

    with torch_device(device, config.get('launcher', 'none')):
        return evaluate(config, weights, check, finish, checkpoint=str(checkpoint), tta=tta)


def leave_report(given: Config, checkpoint: Path | None) -> Path | None:
    """Test the checkpoint that a training returned, and leave the report in the work dir: completely or not at all.

    Args:
        given: full config of the training, including ``work_dir``; it is not modified.
        checkpoint: path of the checkpoint; None if this process has no access to it.

    Returns:
        Path of the page; None if there is no report. A log message says why.
    """
    config, out = copy.deepcopy(given), Path(given.work_dir, 'report')
    reason = None
    if anywhere(checkpoint is None):
        reason = 'not every process has access to the best checkpoint'
    elif absent := [key for key in ('test_dataloader', 'test_evaluator', 'test_cfg') if config.get(key) is None]:
        reason = f'the config has no {absent[0]}'
    elif foreign := foreign_files(out):
        reason = f'{out} has {some(foreign)}, which a report would replace'
    config.visualizer = silent_visualizer(config)  # What logs to other programs ended with the training.
    try:
        if reason is None:
            print_log(f'Testing {checkpoint} for a report in {out}', logger='current')
            gc.collect()  # Reference cycles would keep the training's model and optimizer in the GPU's memory.
            with whole_report(out) as folder:
                test_segmentor(config, str(checkpoint), report=str(folder))
            return out / PAGE
    except UserError as error:
        reason = str(error)
    print_log(f'There is no report of the checkpoint: {reason}', logger='current', level=logging.WARNING)
    return None


def evaluators_in(config: Config) -> list[ConfigDict]:
    """Configs of the test's metrics, as a list."""
    evaluators = config.test_evaluator
    return list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]


def counters(config: Config, report: Report | None) -> list[dict]:
    """Config of the metric that counts the pixels of each class, if one of MMSegmentation's metrics or a report uses labels.

    Raises:
        UserError: the metric ignores different pixels than the report.
    """
    ignored = [metric.get('ignore_index', IGNORE) for metric in evaluators_in(config)
               if type_name(metric) == 'IoUMetric' and not metric.get('format_only')]
    other = [value for value in ignored if value != IGNORE]
    if other and report:
        raise UserError(f'--report leaves out pixels of the value {IGNORE}, but test_evaluator.ignore_index is {other[0]}; set '
                        f'it to {IGNORE}')
    if other or not (ignored or report):
        return []
    return [dict(type='repvgg_seg.ImageCounts', **(report.settings() if report else {}))]


def check_segmentor(model: nn.Module, loaders: Sequence[DataLoader], config: Config) -> None:
    """Check that a segmentor matches its datasets, that the datasets are valid, and that the pyramid's norm can be trained.

    Raises:
        UserError: the classes differ or number more than 255, images do not have the channels that the backbone takes or cannot
            be batched, or the batch norm of the 1x1 pooled map would get a batch of one image.
        DataError: a sample of the images and labels contains an error.
    """
    training = unwrapped(loaders[0].dataset).metainfo
    for name, loader in zip(('the training set', 'the validation set'), loaders):
        dataset = unwrapped(loader.dataset)
        check_classes(model, dataset)
        check_same_classes('the training set', training.get('classes') or (), name, dataset.metainfo.get('classes') or (),
                           'give both the same metainfo')
        if is_main_process():
            check_sample(name, dataset)
            check_inputs(name, loader, config, training=loader is loaders[0])
    sampler: Any = loaders[0].sampler
    smallest = batch = loaders[0].batch_size
    if batch and len(sampler) % batch and not loaders[0].drop_last:
        smallest = len(sampler) % batch
    synchronized = bool(config.get('sync_bn')) and get_world_size() > 1
    if smallest == 1 and normalizes_global_pool(model) and not synchronized:
        raise UserError('a training batch has one image, but the pyramid pools to 1x1, whose batch norm needs at least two '
                        'values a channel; use train_dataloader.batch_size=2 or more, with '
                        'train_dataloader.drop_last=True')


def normalizes_global_pool(model: nn.Module) -> bool:
    """Whether a model pools to 1x1 and then applies a batch norm, as the pyramids of PSPNet, UPerNet, and DeepLabV3+ do."""
    return any(isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size in (1, (1, 1)) and
               any(isinstance(module, _BatchNorm) for module in parent.modules())
               for parent in model.modules() if isinstance(parent, nn.Sequential) for part in parent)


def check_classes(model: nn.Module, dataset: BaseDataset) -> None:
    """Check that a segmentor and a dataset have the same number of classes.

    Raises:
        UserError: the numbers differ, or there are more than 255 classes.
    """
    classes = dataset.metainfo.get('classes') or ()
    check_class_count(len(classes), type(dataset).__name__)
    if isinstance(model, ExportedSegmentor):
        check_classes_of_export(model, classes)
    for head in model.modules():
        if isinstance(head, BaseDecodeHead) and head.num_classes != len(classes):
            raise UserError(f'{type(head).__name__} has num_classes={head.num_classes}, but {type(dataset).__name__} has '
                            f'{len(classes)} classes; set num_classes of all heads in the config')
