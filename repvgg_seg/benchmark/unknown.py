"""What thresholds for unknown pixels promise on one part of the test set, and how it turns out on the rest, in many splits."""
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..core.errors import UserError
from ..core.tasks import SEGMENTATION
from ..deploy.abstention import LEVELS, THRESHOLDS, UncertifiedError, certify, check_number, shares
from ..deploy.evaluation import Evaluation
from ..deploy.tasks import TASKS
from ..engine.dataset_configs import dataset_metainfo
from ..engine.exported import ExportedSegmentor, check_classes_of_export, load_exported
from .sources import files_in

if TYPE_CHECKING:
    from mmengine.config import Config


@dataclass(frozen=True)
class Splitting:
    """How the test set is divided.

    Args:
        number: number of splits, the seeds of which are 0, 1, 2 and so on.
        block: number of consecutive images, by name, that stay together.
        share: share of the blocks on which thresholds are chosen.
    """
    number: int
    block: int
    share: float

    def parts(self, images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Iterate over the splits: indices of the images that thresholds are chosen on, and of the others.

        Raises:
            UserError: there are too few blocks to divide.
        """
        blocks = -(-images // self.block)
        chosen = round(self.share * blocks)
        if not 0 < chosen < blocks:
            raise UserError(f'{images} images are {blocks} block(s) of {self.block}, of which {self.share:g} is {chosen}; '
                            'expected blocks on both sides: give a smaller --block, or another --calibrate')
        for seed in range(self.number):
            of_block = np.isin(np.arange(blocks), np.random.default_rng(seed).permutation(blocks)[:chosen])
            inside = of_block.repeat(self.block)[:images]
            yield np.flatnonzero(inside), np.flatnonzero(~inside)


class Outcome(NamedTuple):
    """Share of the answered pixels that are wrong, and share of the labeled pixels that are answered."""
    risk: float
    coverage: float


@dataclass
class Result:
    """Outcomes of one way to choose thresholds for a file.

    Attributes:
        file, precision: the exported file.
        thresholds: way to choose thresholds, a key of ``METHODS``.
        outcomes: outcome of each split; None where there are no thresholds, so that every pixel is unknown.
    """
    file: str
    precision: str
    thresholds: str
    outcomes: list[Outcome | None] = field(default_factory=list)

    def row(self, limit: float) -> dict[str, object]:
        """The row of the table; a split without thresholds has the coverage 0 and no risk."""
        risks = [outcome.risk for outcome in self.outcomes if outcome]
        coverage = mean(outcome.coverage if outcome else 0 for outcome in self.outcomes)
        return {
            'file': self.file, 'precision': self.precision, 'thresholds': self.thresholds,
            'mean risk': f'{mean(risks):.2%}' if risks else '', 'max risk': f'{max(risks):.2%}' if risks else '',
            f'splits above {limit:g}': f'{sum(risk > limit for risk in risks) / len(self.outcomes):.0%}',
            'splits without thresholds': f'{self.outcomes.count(None) / len(self.outcomes):.0%}',
            'mean coverage': f'{coverage:.1%}'}


def certified(counts: Sequence[np.ndarray], limit: float, confidence: float) -> np.ndarray | None:
    """Choose thresholds as ``deploy --abstain`` does, as indices into ``THRESHOLDS``; None if there are none."""
    try:
        return np.searchsorted(THRESHOLDS, certify(counts, limit, confidence).thresholds)
    except UncertifiedError:
        return None


def plain(counts: Sequence[np.ndarray], limit: float, confidence: float) -> np.ndarray:
    """Choose one threshold for all classes as is usual: the lowest at which the share of wrong answers is in the limit."""
    steps = np.arange(LEVELS + 1)[:, None].repeat(counts[0].shape[1], axis=1)
    wrong, answered = shares([np.sum(counts, axis=0)], steps)
    return steps[(wrong[0] <= limit * answered[0]).argmax()]


METHODS: dict[str, Callable[[Sequence[np.ndarray], float, float], np.ndarray | None]] = {
    'certified, of each class': certified, 'plain, one for all classes': plain}


def measure(config: 'Config', sources: Sequence[str], splitting: Splitting, limit: float, confidence: float) -> list[Result]:
    """Choose thresholds for exported files in many splits of the test set, and measure them on the rest.

    Args:
        config: config of the model.
        sources: exported files that return logits, or folders of such files.
        splitting: how the test set is divided.
        limit: largest share of wrong pixels among the answered ones.
        confidence: probability with which that share is not exceeded.

    Raises:
        UserError: a file cannot be used, the labels are not on this machine, or there are too few images.
    """
    task = TASKS[SEGMENTATION]
    if not task.has_labels(config):
        raise UserError('thresholds are chosen and measured on the labeled images of test_dataloader, which are not on this '
                        'machine; set its data_root')
    models = {path: load_rated(path, config) for path in files_in(sources)}
    evaluation = Evaluation(config, task)
    parts = list(splitting.parts(evaluation.images))
    check_number(min(len(chosen) for chosen, _ in parts), limit, confidence, ' in the part on which thresholds are chosen')
    results = []
    for path, model in models.items():
        counts = [found for _, found in sorted(evaluation.counts(model.predictor, path.name), key=lambda pair: pair[0])]
        for name, choose in METHODS.items():
            result = Result(str(path), model.predictor.artifact['precision'], name)
            for chosen, others in parts:
                levels = choose(labeled(counts, chosen), limit, confidence)
                result.outcomes.append(None if levels is None else outcome_of(labeled(counts, others), levels))
            results.append(result)
    return results


def load_rated(path: Path, config: 'Config') -> ExportedSegmentor:
    """Load an exported segmentor that gives the confidence of each pixel.

    Raises:
        UserError: it cannot be loaded, has other classes than the config, or returns class indices.
    """
    model = ExportedSegmentor(load_exported(str(path)))
    check_classes_of_export(model, dataset_metainfo(config)['classes'])
    if model.predictor.artifact['output'] != 'logits':
        raise UserError(f'{path} returns class indices without their confidence; export it with --logits')
    return model


def labeled(counts: Sequence[np.ndarray], indices: np.ndarray) -> list[np.ndarray]:
    """The counts of some images, without those that have no labeled pixel."""
    return [counts[index] for index in indices if counts[index].any()]


def outcome_of(counts: Sequence[np.ndarray], levels: np.ndarray) -> Outcome:
    """Measure thresholds, given as indices into ``THRESHOLDS``, on images."""
    wrong, answered = (float(each.mean()) for each in shares(counts, levels[None]))
    return Outcome(wrong / answered if answered else 0, answered)
