"""Train and test a classifier, whose backbone can be the starting point of a segmentor."""
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.dist import is_main_process
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils.data import DataLoader

from ..core.configs import files_of_config
from ..core.destinations import Output, check_outputs, files_of
from ..core.environment import require_mm
from ..core.errors import UserError
from ..datasets.files import warn_of_unused
from ..datasets.wrappers import files_of_dataset, leaves
from .classes import check_same_classes, trained_classes
from .dry_run import Expectation, dry_run
from .evaluating import TEST_REPORT, evaluate
from .exported import ExportedClassifier, check_classes_of_export, classes_of_exported, exported_config, is_exported
from .hardware import fit_to_hardware
from .model_check import preprocessor_of
from .pipelines import set_size
from .seeded_data import unwrapped
from .trained_model import resolve
from .training import train

require_mm('mmpretrain')

from mmpretrain.registry import DATASETS  # noqa: E402


def train_classifier(config: Config) -> Path | None:
    """Train an MMPretrain classifier.

    Args:
        config: full config with its ``work_dir``. If ``model.head.num_classes`` is None, the number of classes of the training
            set is used.

    Returns:
        Path of the best checkpoint, or of the last one if none was evaluated.

    Raises:
        UserError: the data, weights, and classes do not match; nothing was trained.
    """
    init_default_scope(config.default_scope)
    return train(config, check_classifier, fill_in_num_classes)


def dry_run_classifier(config: Config) -> tuple[Config, Expectation]:
    """Run the beginning of a training; see :func:`repvgg_seg.engine.dry_run.dry_run`."""
    init_default_scope(config.default_scope)
    return dry_run(config, check_classifier, fill_in_num_classes)


def fill_in_num_classes(config: Config) -> None:
    """Fill in ``model.head.num_classes`` if it is None, and copy it to all other settings that need it."""
    if config.model.head.get('num_classes') is None:
        config.model.head.num_classes = len(DATASETS.build(config.train_dataloader.dataset).metainfo['classes'])
    spread_num_classes(config, config.model.head.num_classes)


def test_classifier(config: Config, checkpoint: str, size: int | None = None,
                    out: str | None = None) -> dict[str, float | list]:
    """Evaluate a checkpoint on the config's test set.

    Args:
        config: full config, including ``work_dir``, to which ``test.json`` is written.
        checkpoint: training checkpoint, folder of a fused model, or exported file.
        size: side length of the square images in pixels; by default that of the config.
        out: CSV file for the prediction of every image.

    Returns:
        ``accuracy/top1`` and, with five classes or more, ``accuracy/top5``, in percent.

    Raises:
        UserError: the checkpoint, the classes, or the dataset do not match.
    """
    fit_to_hardware(config)
    weights: str | None = None
    if is_exported(checkpoint):
        if config.get('launcher', 'none') != 'none':
            raise UserError('an exported file is tested by one process; leave --launcher out')
        config.model = ConfigDict(exported_config(config, checkpoint))
        spread_num_classes(config, len(classes_of_exported(checkpoint)))
    else:
        weights = resolve(config, checkpoint)
        spread_num_classes(config, config.model.head.num_classes)
    if size is not None:
        set_size(config.test_dataloader.dataset.pipeline, size)
    if out:
        config.test_evaluator = [config.test_evaluator, dict(type='repvgg_seg.PredictionWriter', output_file=out)]
    outputs = [Output(Path(config.work_dir, TEST_REPORT), 'the metrics'), *([Output(Path(out), '--out')] if out else [])]
    inputs = [*files_of(checkpoint), *files_of_config(config)]

    def check(model: BaseModel, dataset: BaseDataset, meta: Mapping) -> None:
        if isinstance(model, ExportedClassifier):
            check_classes_of_export(model, dataset.metainfo['classes'])
            if out and model.predictor.artifact['output'] != 'logits':
                raise UserError(f'{checkpoint} gives classes without the scores that --out writes; export it with --logits, or '
                                'leave --out out')
        else:
            check_same_classes(f'checkpoint {weights}', trained_classes(meta), 'the test set', dataset.metainfo['classes'])
            check_classes(model, dataset)
        check_outputs(outputs, chain(inputs, files_of_dataset(dataset)))

    return evaluate(config, weights, check, checkpoint=str(checkpoint), size=size)


def spread_num_classes(config: Config, num_classes: int) -> None:
    """Copy the number of classes to the settings that need it: label mixing, and metrics, which have no top 5 of 3 classes."""
    if preprocessor := preprocessor_of(config):
        preprocessor['num_classes'] = num_classes
    for key in ('val_evaluator', 'test_evaluator'):
        evaluator = config.get(key) or []
        for metric in evaluator if isinstance(evaluator, list) else [evaluator]:
            if isinstance(metric.get('topk'), (tuple, list)):
                metric.topk = tuple(k for k in metric.topk if k <= num_classes)


def check_classifier(model: nn.Module, loaders: Sequence[DataLoader], config: Config) -> None:
    """Check that a classifier, its training set, and its validation set have the same classes.

    Raises:
        UserError: the classes differ.
    """
    training = unwrapped(loaders[0].dataset).metainfo
    for name, loader in zip(('the training set', 'the validation set'), loaders):
        dataset = unwrapped(loader.dataset)
        check_same_classes('the training set', training['classes'], name, dataset.metainfo['classes'],
                           'both need the same class folders')
        check_classes(model, dataset)
        if is_main_process():
            for leaf in leaves(dataset):
                warn_of_unused(name, getattr(leaf, 'unused', {}))


def check_classes(model: BaseModel, dataset: BaseDataset) -> None:
    """Check that a classifier and a dataset have the same number of classes.

    Raises:
        UserError: the numbers differ.
    """
    classes = dataset.metainfo['classes']
    if len(classes) != model.head.num_classes:
        raise UserError(f'the head has num_classes={model.head.num_classes}, but {type(dataset).__name__} has {len(classes)} '
                        'classes; set model.head.num_classes')
