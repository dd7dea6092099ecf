"""Check the datasets of a config, and print tables for a terminal."""
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
    """Check datasets of a config on all cores, with a progress bar.

    Args:
        config: complete config.
        names: datasets to check: 'train', 'val', 'test'.
        sample: number of pairs to check in each dataset; None checks all.
        out: file to which the reports will be written.

    Returns:
        A report for each dataset. If a dataset cannot be opened, e.g. because labels are missing, this is its only error.

    Raises:
        UserError: ``out`` is the config or a file of a dataset, or a dataset has more than 255 classes.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    outputs = [Output(Path(out), '--out')] if out else []
    check_outputs(outputs, files_of_config(config))
    reports = []
    for name in names:
        settings = config[f'{name}_dataloader'].dataset
        for part in datasets_in(settings):  # Works even if the dataset cannot be opened.
            check_outputs(outputs, (file for root in [part.get('data_root') or ''] for file in image_files(root)))
        try:
            dataset = DATASETS.build(settings)
        except DataError as error:
            reports.append(Report(name, 0, []))
            reports[-1].add(reports[-1].errors, error.kind, str(error))
            continue
        except (AssertionError, OSError) as error:  # Raised by MMSegmentation's datasets if files are missing.
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
    """Print tables of classes and of faults."""
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
    """Number of pairs that were read, and the total number if not all were read."""
    read, images = sum(report.read for report in reports), sum(report.images for report in reports)
    return f'{images} pairs' if read == images else f'the {read} of {images} pairs that were read'


def class_table(reports: Sequence[Report]) -> Table:
    """Table of the share of pixels and the number of files of each class in each dataset."""
    table = Table('class')
    shown = [report for report in reports if report.pixels]
    for report in shown:
        table.add_column(f'{report.name}: pixels', justify='right')
        table.add_column('files', justify='right')
    for index, name in enumerate([*shown[0].classes, 'ignored']):
        cells = [(f'{report.pixels[index] / max(1, sum(report.pixels)):.2%}', str(report.files[index])) for report in shown]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    return table
