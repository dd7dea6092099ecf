"""Time the steps that load the samples of a training set, in one process: how many images a core loads per second."""
import time
from collections import defaultdict
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from ..core.errors import UserError
from ..datasets.wrappers import leaves
from ..engine.seeded_data import seeded

FIRST = 2  # Samples that are not timed: imports and caches.


def load_times(config: Config, images: int) -> dict[str, list[float]]:
    """Load samples of the training set as a worker of the data loader does, and time each step of the pipeline.

    Args:
        config: full config; of a training set that combines several datasets, the first one is used.
        images: number of samples to time; if the training set has fewer, they are loaded repeatedly.

    Returns:
        Milliseconds of each sample, for each step in order. Equal steps are numbered.

    Raises:
        UserError: the training set is empty, or has no list of pipeline steps.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    dataset: Any = leaves(DATASETS.build(config.train_dataloader.dataset))[0]
    if not len(dataset):
        raise UserError(f'the training set {type(dataset).__name__} is empty; add images, or set its data_root')
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
    if not steps:
        raise UserError(f'the training set {type(dataset).__name__} has no pipeline of steps, which could be timed')
    times: dict[str, list[float]] = defaultdict(list)
    for attempt in range(FIRST + images):
        index = attempt % len(dataset)
        with seeded(0, attempt):
            values: Any = dataset.get_data_info(index)
            for number, step in enumerate(steps, 1):
                start = time.perf_counter()
                values = step(values)
                if values is None:
                    raise UserError(f'{type(step).__name__} gives no sample for image {index} of the training set; leave the '
                                    'step out, or remove the image')
                if attempt >= FIRST:
                    times[f'{number} {type(step).__name__}'].append(1000 * (time.perf_counter() - start))
    return dict(times)


def table(times: dict[str, list[float]]) -> list[dict[str, str]]:
    """Table rows: the mean of each step and of all, and the images per second and core."""
    means = {name: sum(values) / len(values) for name, values in times.items()}
    total = sum(means.values())
    rows = [{'step': name, 'ms per image': f'{mean:.2f}', 'share': f'{mean / total:.0%}', 'images/s and core': ''}
            for name, mean in means.items()]
    return [*rows, {'step': 'all', 'ms per image': f'{total:.2f}', 'share': '100%', 'images/s and core': f'{1000 / total:.1f}'}]
