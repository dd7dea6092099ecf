"""Checking the datasets of a config, with tables for a terminal."""
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from rich.console import Console
from rich.table import Table

from ..core.configs import files_of_config
from ..core.destinations import Output, check_outputs
from ..core.errors import DataError
from ..core.images import image_files
from ..core.labels import check_class_count
from ..datasets.checking import Report, check_dataset, workers_for
from ..datasets.wrappers import files_of_dataset
from .dataset_configs import datasets_in


def check_sets(config: Config, names: Sequence[str], sample: int | None = None, out: str | None = None) -> list[Report]:
    """Check sets of a config, on all cores, with a progress bar.

    Args:
        config: the whole config.
        names: 'train', 'val', 'test'.
        sample: how many pairs of each; all by default.
        out: file to which the reports will be written.

    Returns:
        A report for each. A set that cannot be opened, e.g. because labels are missing, has that for its error.

    Raises:
        UserError: ``out`` is the config, or a file of a set; or a set has more than 255 classes.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    outputs = [Output(Path(out), '--out')] if out else []
    check_outputs(outputs, files_of_config(config))
    reports = []
    for name in names:
        settings = config[f'{name}_dataloader'].dataset
        for part in datasets_in(settings):  # Also where the set cannot be opened.
            check_outputs(outputs, (file for root in [part.get('data_root') or ''] for file in image_files(root)))
        try:
            dataset = DATASETS.build(settings)
        except DataError as error:
            reports.append(Report(name, 0, []))
            reports[-1].add(reports[-1].errors, error.kind, str(error))
            continue
        except (AssertionError, OSError) as error:  # MMSegmentation's own datasets say so that files are missing.
            reports.append(Report(name, 0, []))
            reports[-1].add(reports[-1].errors, 'incomplete',
                            f'{settings["type"]} cannot be opened ({str(error) or "files are missing"})')
            continue
        check_outputs(outputs, files_of_dataset(dataset))
        check_class_count(len(dataset.metainfo['classes']), type(dataset).__name__)
        workers = workers_for(min(sample or len(dataset), len(dataset)))
        reports.append(check_dataset(dataset, name, workers, sample, progress=True))
    return reports


def show(reports: Sequence[Report]) -> None:
    """Write tables of classes and of faults to the terminal."""
    console = Console()
    for report in reports:
        console.print(f'{report.name}: {pairs([report])}' + (
            f'; sizes {", ".join(f"{size} ({count})" for size, count in report.sizes.items())}; '
            f'mean {report.mean}, std {report.std}{" (red, green, blue)" * (len(report.mean) == 3)}' if report.mean else ''),
                      highlight=False, soft_wrap=True)
    if any(report.pixels for report in reports):
        console.print(class_table(reports))
    faults = [(severity, report, kind, count) for report in reports
              for severity, kinds in (('error', report.errors), ('warning', report.warnings)) for kind, count in kinds.items()]
    for severity, report, kind, count in faults:
        console.print(f'{severity}: {report.name}: {kind} ({count})', highlight=False, markup=False)
        for message in report.messages[kind]:
            console.print(f'    {message}', highlight=False, markup=False, soft_wrap=True)


def pairs(reports: Sequence[Report]) -> str:
    """How many pairs were read, and of how many if not of all."""
    read, images = sum(report.read for report in reports), sum(report.images for report in reports)
    return f'{images} pairs' if read == images else f'the {read} of {images} pairs that were read'


def class_table(reports: Sequence[Report]) -> Table:
    """Share of the pixels, and number of the files, of each class in each set."""
    table = Table('class')
    shown = [report for report in reports if report.pixels]
    for report in shown:
        table.add_column(f'{report.name}: pixels', justify='right')
        table.add_column('files', justify='right')
    for index, name in enumerate([*shown[0].classes, 'ignored']):
        cells = [(f'{report.pixels[index] / max(1, sum(report.pixels)):.2%}', str(report.files[index])) for report in shown]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    return table
