"""Write a config for a folder of images and labels, with its lists, pictures and converted labels."""
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import DATASETS
from rich.table import Table

from ...core.command_names import command
from ...core.destinations import ensure_writable
from ...core.durations import in_words
from ...core.errors import UserError
from ...core.files import write_atomically
from ...datasets.inspection.inspecting import Found, inspect
from ...datasets.inspection.pixels import Pixels, measure
from .pictures import draw_pictures
from .plan import Plan, choose_sizes, with_schedule
from .speed import Speed, device_of, measure_speed
from .template import Settings, config_text
from .weights import find_weights


@dataclass(frozen=True)
class Request:
    """What to write a config for, and the user's choices.

    Args:
        folder: folder of images and labels.
        out: config file to write.
        classes_file: file with the names of the classes; None to name them by their values.
        lossy: whether the labels were saved with lossy compression, such as JPEG.
        arch: architecture of the backbone.
        weights: pretrained weights of the backbone, see :func:`~repvgg_seg.engine.project_init.weights.find_weights`.
        hours: longest training time, in hours.
        epochs: number of epochs; None for as many as fit into ``hours``.
        seed: random seed of the split; None for 0.
    """
    folder: Path
    out: Path
    classes_file: Path | None = None
    lossy: bool = False
    arch: str = 'A0'
    weights: str | None = None
    hours: float = 1
    epochs: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Initialized:
    """What was found and written.

    Args:
        found: images, labels and splits.
        pixels: statistics of the images.
        plan: image sizes and training schedule.
        speed: measured speed of this machine.
        pictures: pictures of samples that were written.
        commands: commands that check the data, train and deploy.
        workspace: folder next to the config.
        why_weights: weights that training starts from, and the reason, in words.
    """
    found: Found
    pixels: Pixels
    plan: Plan
    speed: Speed
    pictures: list[Path]
    commands: list[str]
    workspace: Path
    why_weights: str

    def table(self) -> Table:
        """Return what was found and chosen as a table for a terminal."""
        plan, found, kind = self.plan, self.found, self.found.kind
        table = Table('', 'found', show_header=False)
        images = {name: len(part.pairs) for name, part in found.splits.items()}
        table.add_row('images', f'{sum(images.values())} with labels: {found.layout}')
        table.add_row('split', ', '.join(f'{name} {count}' for name, count in images.items()) + f' ({found.how_split})')
        sizes = [f'{height}x{width} ({count})' for (height, width), count in self.pixels.sizes.most_common(3)]
        table.add_row('sizes', ', '.join(sizes) + (' and others' if len(self.pixels.sizes) > len(sizes) else ''))
        table.add_row('labels', kind.words)
        ignored = kind.counts[:, -1].sum() / max(1, kind.counts.sum())
        table.add_row('classes', '\n'.join([*(f'{share:7.2%}  {name}' for name, share in zip(kind.classes, kind.shares())),
                                            *([f'{ignored:7.2%}  ignored'] if ignored else [])]))
        table.add_row('crop, batch', f'{plan.crop[0]}x{plan.crop[1]}, {plan.batch} images'
                      + (f'; images are fitted into {plan.resized[0]}x{plan.resized[1]}' if plan.resized else ''))
        table.add_row('schedule', f'{plan.epochs} epochs, validation every {plan.val_interval}; about {in_words(plan.seconds)} '
                      f'on this machine ({self.speed.iteration:.2g} s an iteration, '
                      f'{"mixed precision" if self.speed.amp else "fp32"})')
        table.add_row('weights', self.why_weights)
        for guess in (*found.guesses, *kind.guesses):
            table.add_row('guess', guess)
        return table


def initialize(request: Request) -> Initialized:
    """Write a config for a folder of images and labels.

    A folder next to the config receives the image lists of the splits, label files converted from polygons, and pictures.

    Raises:
        DataError: no images with labels are found, or they do not fit together; nothing is written.
        UserError: the config or the folder next to it already exists, or the config's name does not end in ``.py``.
    """
    out, workspace = request.out, request.out.with_name(f'{request.out.stem}_init')
    if out.suffix != '.py':
        raise UserError(f'--out {out} does not end in .py; configs are Python files')
    if existing := [str(path) for path in (out, workspace) if path.exists()]:
        raise UserError(f'{existing[0]} exists already; move it away, or choose another name with --out')
    ensure_writable(out.absolute().parent)
    with ExitStack() as undo:
        workspace.mkdir()
        undo.callback(shutil.rmtree, workspace, ignore_errors=True)
        found = inspect(request.folder, workspace, request.classes_file, request.lossy, request.seed)
        lists = {name: workspace / f'{name}.txt' for name, part in found.splits.items() if part.listed}
        for name, path in lists.items():
            path.write_text(''.join(f'{line}\n' for line in found.splits[name].names()), encoding='utf-8')
        pixels = measure([pair.image for pair in found.counted])
        plan = choose_sizes(found, pixels, device_of())
        weights, why_weights = find_weights(request.arch, request.weights)
        title = f'PSPNet-RepVGG-{request.arch} on the images in {request.folder}, written by {command("init")}.'

        def text(plan: Plan, commands: list[str]) -> str:
            return config_text(Settings(title, commands, found, plan, request.arch, weights, why_weights, lists))

        model = Config.fromstring(text(plan, []), '.py')
        model.model.backbone.init_cfg = None
        speed = measure_speed(model, plan.batch, plan.crop, plan.size, len(found.kind.classes))
        images, validated = len(found.splits['train'].pairs), len(found.splits['val'].pairs)
        plan = with_schedule(plan, images, validated, speed, weights is not None, request.hours, request.epochs)
        commands = commands_for(out, speed.amp)
        content = text(plan, commands)
        init_default_scope('mmseg')
        loaders = Config.fromstring(content, '.py')
        datasets = {name: DATASETS.build(loaders[f'{name}_dataloader'].dataset) for name in found.splits}
        pictures = workspace / 'pictures'
        pictures.mkdir()
        drawn = draw_pictures(datasets['train'], pictures)
        write_atomically(content.encode(), out)
        undo.pop_all()
    return Initialized(found, pixels, plan, speed, drawn, commands, workspace, why_weights)


def commands_for(config: Path, amp: bool) -> list[str]:
    """Return the commands that check the data, train, and deploy."""
    return [f'{command("check-data")} {config}', f'{command("train")} {config}{" --amp" if amp else ""}',
            f'{command("deploy")} {config} work_dirs/{config.stem} --out {config.stem}_int8 --formats openvino --precision '
            'int8']
