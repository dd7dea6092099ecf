"""Evaluating a segmentor."""
import json
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..checkpoints import load_model
from .hardware import fit_to_hardware
from .segmentor import resolve
from .training import check_classes

LOADERS_OF_LABELS = ('LoadLabels', 'LoadAnnotations')


def test(config: Config, checkpoint: str, tta: bool = False, out: str | None = None,
         submit: str | None = None) -> dict[str, float]:
    """Evaluate a checkpoint on the config's test set.

    Args:
        config: the whole config, ``work_dir`` included, where ``test.json`` is left.
        checkpoint: training checkpoint, or the folder of a fused model.
        tta: average over the image and its mirror.
        out: folder for predictions as PNGs of class indices.
        submit: folder for predictions as PNGs of original label ids; nothing is evaluated, no labels are read.

    Returns:
        mIoU, mAcc (mean accuracy) and aAcc (pixel accuracy) in per cent; empty with ``submit``.

    Raises:
        UserError: the checkpoint, the classes or the data set do not fit.
    """
    fit_to_hardware(config)
    config.model, weights = resolve(config, checkpoint)
    config.load_from, config.resume = None, False
    if tta:
        config.test_dataloader.dataset.pipeline = config.tta_pipeline
        config.model = ConfigDict(**config.tta_model, module=config.model)
    writers = [dict(type='repvgg_seg.LabelWriter', output_dir=folder, label_ids=folder == submit)
               for folder in (out, submit) if folder]
    if submit:
        dataset = config.test_dataloader.dataset
        dataset.data_prefix.seg_map_path = None
        dataset.pipeline = without_labels(dataset.pipeline)
        config.test_evaluator = writers
    elif writers:
        config.test_evaluator = [config.test_evaluator, *writers]
    runner = Runner.from_cfg(config)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    segmentor = model.module if tta else model
    load_model(segmentor, weights)
    check_classes(segmentor, runner.test_loop.dataloader.dataset)
    metrics = {name: float(value) for name, value in runner.test().items()}
    if is_main_process():
        Path(config.work_dir, 'test.json').write_text(json.dumps(dict(checkpoint=str(checkpoint), tta=tta, **metrics)))
    return metrics


def without_labels(pipeline: list) -> list:
    """A test pipeline, also one of test-time augmentation, without the step that reads labels."""
    kept = []
    for step in pipeline:
        if step['type'].rpartition('.')[2] in LOADERS_OF_LABELS:
            continue
        if step['type'] == 'TestTimeAug':
            step = ConfigDict(step, transforms=[branch for branches in step['transforms']
                                                if (branch := without_labels(branches))])
        kept.append(step)
    return kept
