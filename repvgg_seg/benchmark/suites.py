"""The paper's speed tables and comparisons with other packages, as lists of networks, and a function that runs them."""
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ..core.configs import CONFIGS
from . import speed, tables
from .classifiers import PAPER
from .figure import contents, draw
from .networks import MATRIX_PRODUCT, Setting, possible
from .rounds import measure
from .runtimes import RUNTIMES

SAME_PYRAMID = {'model.decode_head.pool_channels': 512}  # MMSegmentation's PSPHead cannot choose these channels separately.


def config(name: str) -> str:
    """Path of a Cityscapes config."""
    return str(CONFIGS / f'pspnet_{name}_cityscapes.py')


def realtime(arch: str) -> str:
    """Path of a real-time Cityscapes config."""
    return str(CONFIGS / f'realtime_repvgg_{arch}_cityscapes.py')


def stock(name: str) -> str:
    """Path of a config that comes with MMSegmentation."""
    package = find_spec('mmseg')
    return str(Path(package.origin if package and package.origin else '').parent / '.mim/configs' / f'{name}.py')


@dataclass(frozen=True)
class Suite:
    """Networks that are timed together; the first is the reference.

    Args:
        title: heading of the table.
        models: names, see :mod:`repvgg_seg.benchmark.networks`.
        batch, size: batch size, and height and width of the images.
        options: settings to change in the configs, by their dotted keys.
    """
    title: str
    models: tuple[str, ...]
    batch: int
    size: tuple[int, int]
    options: dict | None = None


SEGMENTORS = ('repvgg_b1g2_fast', 'repvgg_b1g2', 'repvgg_b2_fast', 'repvgg_b2')
REALTIME_PEERS = (
    'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes', 'ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024',
    'stdc/stdc1_in1k-pre_4xb12-80k_cityscapes-512x1024', 'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024',
    'fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024', 'segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024')
DILATED_PEERS = (
    *(f'{name}/{name}_r18-d8_4xb2-80k_cityscapes-512x1024' for name in ('pspnet', 'fcn', 'deeplabv3', 'deeplabv3plus')),
    'erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024')
EVERYWHERE = ('', *(f'{runtime}:' for runtime in RUNTIMES))
FASTEST = 'ncnn'  # The fastest runtime for the ResNets, according to the suite 'resnets' on a CPU with AVX-512.
SUITES = {
    'table1': Suite('Table 1: kernel sizes', ('conv3x3', 'conv1x1', 'conv5x5', 'conv7x7'), 32, (56, 56)),
    'figure3': Suite('Figure 3: memory of plain and residual blocks', ('plain-blocks', 'residual-blocks'), 32, (56, 56)),
    'table4': Suite('Tables 4 and 5: classifiers', ('ResNet-50', *(name for name in PAPER if name != 'ResNet-50')), 128,
                    (224, 224)),
    'table6': Suite('Table 6: training forms with fewer branches, and what all of them become', (
        'training:RepVGG-B0', *(f'training:{CONFIGS}/ablations/b0_{name}_imagenet.py' for name in ('plain', 'identity_only',
                                                                                                   '1x1_only')),
        'RepVGG-B0'), 128, (224, 224)),
    'table8': Suite('Table 8: PSPNets, the ResNets under the stock head', (
        f'stock:{config("r50")}', f'stock:{config("r101")}', *map(config, SEGMENTORS)), 16, (713, 713)),
    'peers': Suite('PSPNets and heads against those of MMPretrain and MMSegmentation', tuple(
        f'{form}{config(name)}' for name in ('repvgg_a0', 'repvgg_b1g2', 'r50')
        for form in ('stock:', '', 'head:stock:', 'head:')), 1, (360, 480), SAME_PYRAMID),
    'body': Suite('Bodies against a matrix product', ('body:RepVGG-B1', 'body:RepVGG-A0'), 8, (224, 224)),
    'step_peers': Suite('Training steps against the peers', tuple(
        f'step:{form}{config(name)}' for name in ('repvgg_a0', 'repvgg_b1g2', 'r50') for form in ('stock:', '')),
        4, (240, 320), SAME_PYRAMID),
    'runs': Suite('Four 3x3 convolutions of 512 channels with ReLU, without and with dilation 2', tuple(
        f'{runtime}{name}' for runtime in EVERYWHERE for name in ('plain-run', 'dilated-run')), 1, (45, 60)),
    'bodies': Suite('Bodies with and without dilated convolutions', tuple(
        f'{runtime}body:{form}{config(name)}' for name in ('repvgg_b1g2', 'repvgg_a0') for runtime in ('', 'ncnn:')
        for form in ('', 'undilated:')), 1, (360, 480)),
    'resnets': Suite('PSPNets of ResNets under the stock head, in every runtime', tuple(
        f'{runtime}stock:{config(name)}' for name in ('r50', 'r101') for runtime in EVERYWHERE), 1, (360, 480)),
    'undilated': Suite('PSPNets without dilated convolutions, and those of ResNets where they are fastest', (
        *(f'{FASTEST}:stock:{config(name)}' for name in ('r50', 'r101')),
        *(f'{runtime}{config(name)}' for name in ('repvgg_b1g2', 'repvgg_b2')
          for runtime in ('', f'{FASTEST}:', 'ncnn:undilated:'))), 1, (360, 480)),
    'undilated_peers': Suite('Networks of MMSegmentation with and without dilated convolutions', tuple(
        f'{runtime}:{form}{stock(name)}' for name in DILATED_PEERS for runtime in ('ncnn', 'opencv')
        for form in ('', 'undilated:')), 1, (512, 512)),
    'realtime': Suite('Real-time segmentors in every runtime, up to the logits before they are resized', tuple(
        f'{runtime}{path}' for path in (*map(realtime, ('a0', 'a1', 'b0')), *map(stock, REALTIME_PEERS), config('repvgg_a0'))
        for runtime in EVERYWHERE), 1, (512, 1024)),
    **{f'step{batch}': Suite(f'Training steps of the Cityscapes configs, batch {batch}', tuple(
        f'step:{config(name)}' for name in SEGMENTORS), batch, (713, 713)) for batch in (2, 4, 8)},
}


@dataclass(frozen=True)
class Part:
    """Suites of the plan for a GPU, which are timed with the same settings.

    Args:
        suites: keys of ``SUITES``.
        precisions: of :data:`repvgg_seg.benchmark.networks.TIMED_PRECISIONS`.
        channels_last, compiled: see :class:`repvgg_seg.benchmark.networks.Setting`.
    """
    suites: tuple[str, ...]
    precisions: tuple[str, ...]
    channels_last: bool = False
    compiled: bool = False


# Everything to measure on a GPU, the most important first, in case that the time runs out. The names are those of folders.
PLAN = {
    'fp32': Part(('table4', 'table6', 'table8', 'table1', 'figure3'), ('fp32', )),
    'channels_last': Part(('table4', 'table6', 'table8'), ('bf16', 'tf32', 'fp16'), channels_last=True),
    'steps': Part(('step8', 'step4', 'step2'), ('bf16', 'tf32'), channels_last=True),
    'contiguous': Part(('table4', 'table6', 'table8', 'step8'), ('bf16', )),
    'compiled': Part(('table6', ), ('bf16', ), channels_last=True, compiled=True),
}
MANY = 8  # If a suite has more networks than this, they share a process even on a CPU.


def run_suites(names: Sequence[str], precisions: Sequence[str], setting: Setting, out: Path, rounds: int, warm_up: int,
               batch: int | None = None, size: tuple[int, int] | None = None) -> Iterator[tuple[str, str | None]]:
    """Time suites one after another, and write ``SUITE_PRECISION.json`` and ``.md`` for each, and the figure of Table 4.

    Args:
        names: keys of ``SUITES``.
        precisions: of :data:`repvgg_seg.benchmark.networks.TIMED_PRECISIONS`.
        setting: settings of all suites; batch, size, precision and options are replaced.
        out: folder to write.
        rounds, warm_up: see :func:`repvgg_seg.benchmark.rounds.measure`.
        batch, size: values that replace those of the suites; None keeps them.

    Yields:
        Name of each table and, if its suite failed, the reason; the other suites still run.
    """
    for name in names:
        suite = SUITES[name]
        for precision in precisions:
            own = replace(setting, batch=batch or suite.batch, size=size or suite.size, precision=precision,
                          options=suite.options or {})
            path = out / f'{name}_{precision}'
            models = [text for text in suite.models if possible(text, own)]
            if not models:
                yield path.name, f'no network of this suite is timed in {precision} with these settings'
                continue
            failures: dict[str, str] = {}
            try:
                measurements = measure(speed.subjects(models, own), rounds, warm_up, own.threads,
                                       shared=own.device == 'cuda' or len(models) > MANY, failures=failures)
            except RuntimeError as error:
                yield path.name, str(error).strip().splitlines()[-1]
                continue
            if references := failures.keys() & {models[0], MATRIX_PRODUCT}:  # To which all others are compared.
                yield path.name, failures[references.pop()]
                continue
            rows = speed.table(measurements)
            setup = f'batch {own.batch}, {own.size[0]}x{own.size[1]}, {own.precision}, {own.device}'
            lost = ''.join(f'\nNot timed: {tables.shorten(each)} ({reason})\n' for each, reason in failures.items())
            path.with_suffix('.md').write_text(f'## {suite.title}\n\n{setup}\n\n{tables.markdown(rows)}\n{lost}')
            tables.write(path.with_suffix('.json'), setting=asdict(own), rows=rows, failures=failures,
                         measurements=[vars(measurement) for measurement in measurements])
            if name == 'table4':
                picture = path.with_suffix('.png')
                draw(measurements, picture, f'images per second ({setup})', contents(suite.models, None, picture))
            yield path.name, None
