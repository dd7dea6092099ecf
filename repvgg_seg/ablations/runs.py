"""Train the paper's ablations one after another with the same recipe, and compare their accuracies with the paper's."""
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from mmengine.config import Config
from mmengine.dist import barrier, is_main_process
from scipy.stats import rankdata, spearmanr

from ..benchmark import tables
from ..core.config_types import type_name
from ..core.configs import CONFIGS, existing_config
from ..core.errors import UserError
from ..engine.classification import test_classifier, train_classifier
from ..engine.curves import draw_curves

TESTED, QUANTIZED, SETTINGS = 'test.json', 'int8.json', 'settings.py'


class Ablation(NamedTuple):
    """A row of the paper's Table 6 or 7, or a block that is compared with them.

    Args:
        title: name in the paper.
        top1: top-1 accuracy of B0 on ImageNet after 120 epochs, in percent; None if it is not in the paper.
        config: path in ``configs`` of a config that uses the block.
    """
    title: str
    top1: float | None
    config: str


ABLATIONS = {
    'both': Ablation('both branches: RepVGG', 75.14, 'repvgg_b0_imagenet.py'),
    'plain': Ablation('no branch', 72.39, 'ablations/b0_plain_imagenet.py'),
    'identity_only': Ablation('identity branch only', 74.79, 'ablations/b0_identity_only_imagenet.py'),
    '1x1_only': Ablation('1x1 branch only', 73.15, 'ablations/b0_1x1_only_imagenet.py'),
    'identity_without_norm': Ablation('identity w/o BN', 74.18, 'ablations/b0_identity_without_norm_imagenet.py'),
    'norm_after_sum': Ablation('post-addition BN', 73.52, 'ablations/b0_norm_after_sum_imagenet.py'),
    'relu_in_branches': Ablation('+ReLU in branches', 75.69, 'ablations/b0_relu_in_branches_imagenet.py'),
    'dirac': Ablation('DiracNet', 73.97, 'ablations/b0_dirac_imagenet.py'),
    'trivial': Ablation('trivial re-param', 73.51, 'ablations/b0_trivial_imagenet.py'),
    'asymmetric': Ablation('ACB', 73.58, 'ablations/b0_asymmetric_imagenet.py'),
    'residual': Ablation('Residual Reorg', 74.56, 'ablations/b0_residual_imagenet.py'),
    'qarepvgg': Ablation('QARepVGG', None, 'ablations/b0_qarepvgg_imagenet.py'),
}
FUSABLE = [name for name in ABLATIONS if name != 'relu_in_branches']


class Run(NamedTuple):
    """One training run and its folder.

    Args:
        name: key of ``ABLATIONS``.
        seed: random seed of weights and data.
        folder: work dir of the run.
    """
    name: str
    seed: int
    folder: Path

    @property
    def top1(self) -> float | None:
        """Top-1 accuracy after the last epoch, in percent; None if the run is not finished."""
        path = self.folder / TESTED
        return json.loads(path.read_text())['accuracy/top1'] if path.is_file() else None

    def checkpoint(self, config: Config) -> Path:
        """Path of the checkpoint of the last epoch."""
        return self.folder / f'epoch_{config.train_cfg.max_epochs}.pth'


def variant_of(recipe: Config, name: str) -> Config:
    """Replace the block in a recipe by that of an ablation, together with its weight decay settings.

    Args:
        recipe: config of a RepVGG classifier.
        name: key of ``ABLATIONS``.

    Raises:
        UserError: the recipe has another backbone, or the config of the ablation does not exist.
    """
    if not (found := type_name(recipe.model.backbone)).endswith('RepVGG'):
        raise UserError(f'the ablations are for RepVGG, but the recipe has the backbone {found}; give a '
                        'config such as configs/ablations/b0_cifar10.py')
    config, theirs = copy.deepcopy(recipe), Config.fromfile(existing_config(CONFIGS / ABLATIONS[name].config))
    config.model.backbone.update({key: theirs.model.backbone[key] for key in ('type', 'block') if key in theirs.model.backbone})
    config.merge_from_dict({'optim_wrapper.paramwise_cfg': theirs.optim_wrapper.paramwise_cfg})
    return config


def train_ablations(recipe: Config, names: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """Train the runs that are not finished, resuming interrupted ones, and test each one after its last epoch.

    Args:
        recipe: config of a RepVGG classifier; each run has a subfolder of its ``work_dir``.
        names: keys of ``ABLATIONS``.
        seeds: random seeds; each ablation is trained with each seed.

    Yields:
        Each run when it is finished, including those that were already finished.

    Raises:
        UserError: a run was started with different settings, or cannot be trained.
    """
    runs = [(Run(name, seed, Path(recipe.work_dir, f'{name}_seed{seed}')), variant_of(recipe, name))
            for seed in seeds for name in names]
    for run, config in runs:
        config.merge_from_dict({'randomness.seed': run.seed})
        check_settings(run.folder, config)
    for run, config in runs:
        if run.top1 is None:
            if is_main_process():
                run.folder.mkdir(parents=True, exist_ok=True)
                (run.folder / SETTINGS).write_text(settings_of(config))
            config.work_dir, config.resume = str(run.folder), True
            train_classifier(copy.deepcopy(config))
            test_classifier(config, str(run.checkpoint(config)))
            barrier()  # Wait until the main process has written the result.
        yield run


def quantize_ablations(recipe: Config, runs: Sequence[Run], out: Path) -> str:
    """Test finished runs in 8 bits unless this was done before, and write ``int8.md`` and ``int8.json``.

    Args:
        recipe: the recipe given to :func:`train_ablations`.
        runs: finished runs with blocks that can be fused.
        out: output folder.

    Returns:
        Text of ``int8.md``: accuracies of the fused models in float32 and in 8 bits, in percent.
    """
    from ..deploy.classifier_int8 import int8_accuracies
    rows = []
    for run in runs:
        config, path = variant_of(recipe, run.name), run.folder / QUANTIZED
        if not path.is_file():
            path.write_text(json.dumps(int8_accuracies(config, str(run.checkpoint(config)))))
        accuracies = json.loads(path.read_text())
        rows.append({'block': run.name, 'seed': str(run.seed)} | {name: f'{value:.2f}' for name, value in accuracies.items()})
    text = tables.markdown(rows) + '\n'
    (out / 'int8.md').write_text(text)
    tables.write(out / 'int8.json', rows=rows)
    return text


def check_settings(folder: Path, config: Config) -> None:
    """Check that a run would be resumed with the settings with which it was started.

    Raises:
        UserError: it was started with different settings.
    """
    path = folder / SETTINGS
    if path.is_file() and path.read_text() != settings_of(config):
        raise UserError(f'{folder} was started with different settings (see its {SETTINGS}); give the same config, options and '
                        '--amp to continue, or another --work-dir to start from scratch')


def settings_of(config: Config) -> str:
    """Text of a config without the settings that may change when a run is resumed."""
    config = copy.deepcopy(config)
    for key in ('work_dir', 'launcher'):
        config.pop(key, None)
    return config.pretty_text


def write_results(runs: Sequence[Run], out: Path) -> str:
    """Write ``results.md``, ``results.json``, and ``curves.png`` with the runs of the first seed.

    Args:
        runs: finished runs.
        out: output folder.

    Returns:
        Text of ``results.md``: a table, and the rank correlation with the paper's accuracies.
    """
    found: dict[str, list[float]] = {}
    for run in runs:
        if (top1 := run.top1) is not None:
            found.setdefault(run.name, []).append(top1)
    rows = table(found)
    correlation = rank_correlation(found)
    text = tables.markdown(rows) + '\n'
    if correlation is not None:
        text += f'\nRank correlation with the paper (Spearman): {correlation:.2f}\n'
    if is_main_process():
        (out / 'results.md').write_text(text)
        tables.write(out / 'results.json', rows=rows, top1=found, rank_correlation=correlation)
        drawn = [run for run in runs if run.seed == runs[0].seed]
        draw_curves([run.folder for run in drawn], out / 'curves.png', [ABLATIONS[run.name].title for run in drawn])
    return text


def table(found: Mapping[str, Sequence[float]]) -> list[dict[str, str]]:
    """Table rows of measured accuracies beside those of the paper.

    Args:
        found: accuracies of each ablation in percent, by its name; one for each seed.
    """
    paper = {name: top1 for name in found if (top1 := ABLATIONS[name].top1) is not None}
    ranked = list(paper)
    theirs = rankdata([-top1 for top1 in paper.values()])
    ours = rankdata([-mean(found[name]) for name in ranked])
    ranks = {name: (f'{their:g}', f'{our:g}') for name, their, our in zip(ranked, theirs, ours)}
    rows = []
    for name, accuracies in found.items():
        their_rank, our_rank = ranks.get(name, ('', ''))
        spread = f' (std {stdev(accuracies):.2f} of {len(accuracies)})' if len(accuracies) > 1 else ''
        rows.append({
            'block': name, 'in the paper': ABLATIONS[name].title, 'top-1 there': tables.cell(ABLATIONS[name].top1, '.2f'),
            'rank there': their_rank, 'top-1': f'{mean(accuracies):.2f}{spread}', 'rank': our_rank})
    return rows


def rank_correlation(found: Mapping[str, Sequence[float]]) -> float | None:
    """Spearman's rank correlation of mean accuracies with the paper's; None for fewer than three ablations of the paper."""
    pairs = [(ABLATIONS[name].top1, mean(accuracies)) for name, accuracies in found.items() if ABLATIONS[name].top1 is not None]
    return float(spearmanr(*zip(*pairs)).statistic) if len(pairs) > 2 else None
