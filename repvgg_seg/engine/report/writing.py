"""Write the report of a test: a folder with ``index.html``, ``report.json`` and pictures."""
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from mmengine.config import Config
from mmengine.dist import barrier, broadcast_object_list, is_main_process

from ... import __version__
from ...core.destinations import Output, ensure_writable
from ...core.errors import UserError
from ...core.files import write_atomically
from ...core.replacing import replacement
from ...datasets.loading import image_pipeline
from ...datasets.wrappers import images_of_dataset, leaves
from ..dataset_configs import test_pipeline
from .against import check_comparable, compare, read_earlier
from .page import render
from .pictures import FOLDER, LAYERS, WRITTEN, picture_name, remove_pictures
from .summary import summarize

PAGE, NUMBERS = 'index.html', 'report.json'


class Report:
    """A report in progress.

    Args:
        folder: folder to write.
        config: complete config of the test.
        checkpoint: checkpoint that is tested.
        tta: whether the test averages predictions over each image and its mirror image.
        against: path of the ``report.json`` of an earlier report for a comparison; None for no comparison.

    Raises:
        UserError: the earlier report cannot be read.
    """

    def __init__(self, folder: str, config: Config, checkpoint: str, tta: bool, against: str | None) -> None:
        self.folder, self.tta = Path(folder), tta
        self.earlier = read_earlier(Path(against)) if against else None
        self.described = dict(config=Path(config.filename or '').name, checkpoint=str(checkpoint), tta=tta,
                              repvgg_seg_version=__version__)
        self.load = image_pipeline(test_pipeline(config))[0]

    @property
    def inputs(self) -> list[Path]:
        """Files that the report reads."""
        return [self.earlier.path] if self.earlier else []

    def settings(self) -> dict:
        """Arguments of the :class:`~repvgg_seg.engine.report.collecting.ImageCounts` that counts for the report."""
        return dict(folder=str(self.folder), load=self.load, probabilities=not self.tta)

    def outputs(self, dataset: object) -> Iterator[Output]:
        """Files that the report of a test set consists of."""
        yield from (Output(self.folder / name, '--report') for name in (PAGE, NUMBERS))
        for number in range(sum(len(leaf) for leaf in leaves(dataset))):
            yield from (Output(self.folder / picture_name(number, layer), '--report') for layer in LAYERS)

    def begin(self, dataset: object, classes: Sequence[str]) -> None:
        """Create the folder and remove the files of an earlier report, so that page and pictures belong to the same test.

        Args:
            dataset: test set.
            classes: names of the classes.

        Raises:
            UserError: the earlier report has different classes or images, or the folder cannot be written.
        """
        if self.earlier:
            check_comparable(self.earlier, classes, [*names_of(images_of_dataset(dataset)).values()])
        if is_main_process():
            ensure_writable(self.folder / FOLDER)
            for name in (PAGE, NUMBERS):
                (self.folder / name).unlink(missing_ok=True)
            remove_pictures(self.folder)
        barrier()

    def finish(self, images: Sequence[dict], classes: Sequence[str], palette: Sequence[Sequence[int]]) -> None:
        """Write the numbers and the page.

        Args:
            images: counts of every image, see :class:`~repvgg_seg.engine.report.collecting.ImageCounts`.
            classes, palette: name and RGB color of each class.

        Raises:
            UserError: the earlier report has different labels, or the disk is full.
        """
        remove_pictures(self.folder, first=len(images))  # MMEngine pads the share of each process by repeating images.
        names = names_of([image['path'] for image in images])
        report = {**self.described, 'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
                  **summarize(images, [names[image['path']] for image in images], classes, palette)}
        report['calibration_note'] = None if report['calibration'] else self._why_no_calibration()
        report['against'] = None
        if self.earlier:
            folder = os.path.relpath(self.earlier.path.absolute().parent, self.folder.absolute())
            report['against'] = dict(compare(report, self.earlier), pictures=quote(Path(folder).as_posix()))
        numbers, page = json.dumps(report, allow_nan=False).encode(), render(report).encode()
        write_atomically(numbers, self.folder / NUMBERS)
        write_atomically(page, self.folder / PAGE)

    def _why_no_calibration(self) -> str:
        return ('--tta averages without keeping probabilities' if self.tta else
                'this model gives labels without probabilities, as exported files do')


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """Name each image file by its path relative to the folder that all of them share."""
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return {path: Path(os.path.relpath(path, shared)).as_posix() for path in paths}


@contextmanager
def whole_report(out: Path) -> Iterator[Path]:
    """Create a folder for a report that replaces an earlier one when the block ends, and is removed if the block fails.

    All processes that test together get the same folder.

    Raises:
        UserError: the disk is full, or ``out`` cannot be replaced; ``out`` is left unchanged.
    """
    with ExitStack() as stack:
        answer: list = [None, None]
        if is_main_process():
            try:
                answer[0] = stack.enter_context(replacement(out))
            except UserError as error:
                answer[1] = str(error)
        broadcast_object_list(answer)
        if answer[1]:
            raise UserError(answer[1])
        yield answer[0]


def foreign_files(folder: Path) -> list[Path]:
    """Paths in the place of a report that are not part of one."""
    if folder.is_symlink() or folder.is_file():
        return [folder]
    return [path for path in sorted(folder.rglob('*')) if not path.is_dir() and path not in (folder / PAGE, folder / NUMBERS)
            and not (path.parent == folder / FOLDER and WRITTEN.fullmatch(path.name))]


def check_arguments(report: str | None, against: str | None, submit: str | None) -> None:
    """Check that the arguments of a report can be combined.

    Raises:
        UserError: they cannot.
    """
    if against and not report:
        raise UserError('--against compares a new report with an older one; add --report DIR')
    if report and submit:
        raise UserError('--submit reads no labels, which --report needs; leave one of them out')
