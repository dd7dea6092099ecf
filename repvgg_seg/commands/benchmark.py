"""Measure models: repvgg-seg benchmark {artefacts,complexity,speed,loader,unknown,throughput,serve,all} ..."""
import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.command_names import command
from ..core.destinations import Output, check_outputs, ensure_writable, ensure_writable_file, files_of
from ..core.environment import require_mm
from ..core.errors import UserError
from . import cli, numeric

if TYPE_CHECKING:
    from ..benchmark.networks import Setting


def parser() -> cli.Parser:
    from ..benchmark.networks import FORMS, TIMED_PRECISIONS
    from ..benchmark.suites import PLAN, SUITES
    parser = cli.plain_parser('benchmark', 'Measure models; every command prints a Markdown table, and writes JSON with --out')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    timing = timing_parser(rounds=30, warm_up=5)
    output = cli.Parser(add_help=False)
    output.add_argument('--out', metavar='FILE.json', help='write the measurements, the machine and the versions')

    artefacts = commands.add_parser(
        'artefacts', parents=[cli.model_parser('benchmark', ''), timing, output], add_help=False,
        help='compare the forms in which a segmentor can be deployed, in turns, each in its own process')
    artefacts.add_argument('folder', metavar='DIR', help=f'folder that {command("deploy")} wrote from the '
                           'checkpoint, or a file in it')
    artefacts.add_argument('--size', nargs=2, type=numeric.positive, metavar=('H', 'W'), required=True, help='image size')
    cli.add_device(artefacts, 'cpu', 'default: cpu')
    artefacts.set_defaults(measure=measure_artefacts)

    complexity = commands.add_parser('complexity', parents=[output],
                                     help='count parameters, FLOPs and Winograd multiplications')
    complexity.add_argument('models', nargs='*', metavar='MODEL', help='config, or name of a classifier in the paper, e.g. '
                            'RepVGG-A0 (default: the classifiers of the paper\'s Tables 4 and 5)')
    complexity.add_argument('--size', nargs=2, type=numeric.positive, default=(224, 224), metavar=('H', 'W'),
                            help='image size (default: 224 224)')
    complexity.set_defaults(measure=measure_complexity)

    speed = commands.add_parser('speed', parents=[timing, output], help='compare the speed of networks', epilog=f"""
        A MODEL is a config, the name of a classifier in the paper (RepVGG-A0, ResNet-50, ...), conv1x1 to conv7x7 (Table 1),
        plain-blocks or residual-blocks (Figure 3), optionally preceded by any of these forms:
        {'; '.join(f'{name}: {meaning}' for name, meaning in FORMS.items())}.""")
    speed.add_argument('models', nargs='+', metavar='[FORM:]MODEL', help='networks; the first one is the reference')
    speed.add_argument('--batch', type=numeric.positive, default=1, help='images per batch (default: 1)')
    speed.add_argument('--size', nargs=2, type=numeric.positive, default=(224, 224), metavar=('H', 'W'),
                       help='image size (default: 224 224)')
    speed.add_argument('--precision', choices=TIMED_PRECISIONS, default='fp32')
    speed.add_argument('--channels-last', action='store_true', help='use the channels-last memory format')
    speed.add_argument('--compile', action='store_true', help='use torch.compile')
    cli.add_options(speed)
    speed.add_argument('--device', choices=['cpu', 'cuda'], help='device (default: cuda if available)')
    speed.add_argument('--figure', metavar='FILE.png', help='plot the paper\'s accuracy of the classifiers over their '
                       'measured speed, like the paper\'s Figure 1')
    speed.add_argument('--accuracy', nargs='+', type=numeric.percentage, metavar='PERCENT',
                       help='accuracy of each MODEL for --figure, such as the mIoU of segmentors (default: that of the paper)')
    speed.set_defaults(measure=measure_speed)

    loader = commands.add_parser('loader', parents=[cli.config_parser('benchmark', ''), output], add_help=False,
                                 help='time the steps that load the training set: images per second and core')
    loader.add_argument('--images', type=numeric.positive, default=200, help='number of images (default: 200)')
    loader.set_defaults(measure=measure_loader)

    unknown = commands.add_parser(
        'unknown', parents=[cli.config_parser('benchmark', ''), output], add_help=False,
        help='choose thresholds for unknown pixels on a part of the test set, and measure them on the rest, in many splits')
    cli.add_trust(unknown)
    unknown.add_argument('exported', nargs='+', metavar='EXPORTED', help='files that were exported with --logits, or folders '
                         'of such files')
    unknown.add_argument('--abstain', type=numeric.share, default=0.05, metavar='RISK',
                         help='largest share of wrong pixels among the answered ones (default: 0.05)')
    unknown.add_argument('--confidence', type=numeric.share, default=0.9, help='probability with which it is not exceeded '
                         '(default: 0.9)')
    unknown.add_argument('--splits', type=numeric.positive, default=20, help='number of random splits (default: 20)')
    unknown.add_argument('--calibrate', type=numeric.share, default=0.7, metavar='SHARE', help='share of the blocks on which '
                         'thresholds are chosen (default: 0.7)')
    unknown.add_argument('--block', type=numeric.positive, default=10, metavar='N',
                         help='consecutive images, by name, that stay together; 1 if the images are no frames of videos '
                         '(default: 10)')
    unknown.set_defaults(measure=measure_unknown)

    throughput = commands.add_parser('throughput', parents=[output], help='images per second of exported files that several '
                                     'threads use at once, or that get several images in one call')
    cli.add_trust(throughput)
    throughput.add_argument('exported', nargs='+', metavar='EXPORTED', help=f'folders that {command("deploy")} wrote, or files '
                            'in them')
    throughput.add_argument('--size', nargs=2, type=numeric.positive, metavar=('H', 'W'), required=True, help='image size')
    throughput.add_argument('--seconds', type=numeric.positive, default=10, help='duration of each measurement (default: 10)')
    throughput.add_argument('--threads', type=numeric.positive, default=os.cpu_count(), help='CPU threads (default: all cores)')
    throughput.set_defaults(measure=measure_throughput)

    serving = commands.add_parser('serve', parents=[output], help=f'{command("serve")} under load: throughput relative to the '
                                  'runtime alone, correctness of every answer, and memory')
    serving.add_argument('exported', metavar='EXPORTED', help=f'folder that {command("deploy")} wrote, or a file in it')
    serving.add_argument('images', help='a PNG or JPEG file, a folder or a quoted glob pattern')
    serving.add_argument('--clients', type=numeric.positive, default=8, help='number of clients that send images (default: 8)')
    serving.add_argument('--seconds', type=numeric.positive, default=60, help='duration of the load (default: 60)')
    serving.add_argument('--threads', type=numeric.positive, default=os.cpu_count(),
                         help='CPU threads of the network (default: all cores)')
    serving.add_argument('--batch', type=numeric.positive, default=4, help=f'see {command("serve")} (default: 4)')
    serving.add_argument('--callers', type=numeric.positive, default=1, help=f'see {command("serve")} (default: 1)')
    serving.set_defaults(measure=measure_serving)

    everything = commands.add_parser('all', parents=[timing_parser(rounds=50, warm_up=50)],
                                     help='measure every table of the paper and the comparisons with other packages')
    everything.add_argument('--out', required=True, metavar='DIR', help='folder for the tables')
    everything.add_argument('--suites', nargs='+', choices=list(SUITES), help='tables (default: all)')
    everything.add_argument('--plan', action='store_true', help='make all measurements for a GPU, of which each part has '
                            f'suites, precisions and memory format of its own, in a folder: {", ".join(PLAN)}')
    everything.add_argument('--precision', nargs='+', choices=TIMED_PRECISIONS, help='precisions (default: only fp32)')
    everything.add_argument('--batch', type=numeric.positive, help='batch size (default: that of the paper)')
    everything.add_argument('--size', nargs=2, type=numeric.positive, metavar=('H', 'W'),
                            help='image size (default: that of the paper)')
    everything.add_argument('--channels-last', action='store_true', help='use the channels-last memory format')
    everything.add_argument('--compile', action='store_true', help='use torch.compile')
    everything.add_argument('--device', choices=['cpu', 'cuda'], help='device (default: cuda if available)')
    everything.set_defaults(measure=measure_all)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.command == 'all':
        ensure_writable(args.out)
    else:
        options = vars(args)
        outputs = [Output(Path(options[name]), f'--{name}') for name in ('out', 'figure') if options.get(name)]
        inputs = [options[name] for name in ('config', 'checkpoint') if options.get(name)]
        inputs += [model.rpartition(':')[2] for model in options.get('models', ())]
        sources = options.get('exported', options.get('folder', []))
        for source in [sources] if isinstance(sources, str) else sources:
            inputs += files_of(source)
        check_outputs(outputs, inputs)
        for output in outputs:
            ensure_writable_file(output.path)
    args.measure(args)


def timing_parser(rounds: int, warm_up: int) -> cli.Parser:
    """Options of every command that measures time, with these defaults."""
    parser = cli.Parser(add_help=False)
    parser.add_argument('--rounds', type=numeric.positive, default=rounds, help=f'timed runs per model (default: {rounds})')
    parser.add_argument('--warm-up', type=numeric.positive, default=warm_up,
                        help=f'earlier runs per model that are not timed (default: {warm_up})')
    parser.add_argument('--threads', type=numeric.positive, default=os.cpu_count(), help='CPU threads (default: all cores)')
    return parser


def measure_artefacts(args: argparse.Namespace) -> None:
    from ..benchmark import deployed_forms as artefacts
    from ..benchmark import rounds
    from ..runtime.report import read_record
    config = cli.load_model_config(args, 'mmseg')
    source = Path(args.folder)
    report = read_record(source)
    subjects = artefacts.subjects(config, args.checkpoint, source, tuple(args.size), args.threads, args.device)
    measurements = rounds.measure(subjects, args.rounds, args.warm_up, args.threads)
    show(args, artefacts.table(measurements, report), measurements, device=args.device)


def measure_complexity(args: argparse.Namespace) -> None:
    require_mm('mmpretrain', 'mmseg')
    from ..benchmark.complexity import table
    show(args, table(args.models, tuple(args.size)))


def measure_speed(args: argparse.Namespace) -> None:
    from ..benchmark import rounds
    from ..benchmark.speed import subjects, table
    setting = replace(common_setting(args), batch=args.batch, size=tuple(args.size), precision=args.precision,
                      options=args.cfg_options)
    if args.accuracy and not args.figure:
        raise UserError('--accuracy is drawn in a figure; add --figure')
    if args.figure:
        from ..benchmark.figure import contents, draw
        shown = contents(args.models, args.accuracy, Path(args.figure))
    measurements = rounds.measure(subjects(args.models, setting), args.rounds, args.warm_up, args.threads,
                                  shared=setting.device == 'cuda')
    show(args, table(measurements), measurements, device=setting.device)
    if args.figure:
        draw(measurements, Path(args.figure), f'images per second ({setting.device}, {setting.precision}, batch {args.batch}, '
             f'{args.size[0]}x{args.size[1]})', shown)
        cli.say(f'Wrote {args.figure}')


def measure_loader(args: argparse.Namespace) -> None:
    config = cli.load_config(args, 'mmseg', 'mmpretrain')
    import torch

    from ..benchmark.loading import load_times, table
    torch.set_num_threads(1)  # As in a worker of a data loader.
    times = load_times(config, args.images)
    show(args, table(times), milliseconds=times)


def measure_unknown(args: argparse.Namespace) -> None:
    config = cli.load_model_config(args, 'mmseg')
    from ..benchmark.unknown import Splitting, measure
    results = measure(config, args.exported, Splitting(args.splits, args.block, args.calibrate), args.abstain, args.confidence)
    show(args, [result.row(args.abstain) for result in results], results)


def measure_throughput(args: argparse.Namespace) -> None:
    from ..benchmark.throughput import measure, table
    from ..core.reading import trust_checkpoints
    trust_checkpoints(args.trust_checkpoint)
    rates = measure(args.exported, tuple(args.size), args.seconds, args.threads)
    show(args, table(rates), rates)


def measure_serving(args: argparse.Namespace) -> None:
    from ..benchmark.serving_load import measure
    load = measure(args.exported, args.images, args.clients, args.seconds, args.threads,
                   ['--batch', str(args.batch), '--callers', str(args.callers)])
    show(args, [load.row(args.exported, args.clients)], [load])


def measure_all(args: argparse.Namespace) -> None:
    from ..benchmark.suites import PLAN, SUITES, Part, run_suites
    failed = 0
    size = args.size and tuple(args.size)
    if args.plan and (args.suites or args.precision or args.channels_last or args.compile):
        raise UserError('--plan has suites, precisions and memory format of its own; leave --suites, --precision, '
                        '--channels-last and --compile out')
    given = Part(tuple(args.suites or SUITES), tuple(args.precision or ['fp32']), args.channels_last, args.compile)
    for folder, part in PLAN.items() if args.plan else [('', given)]:
        out = Path(args.out, folder)
        out.mkdir(exist_ok=True)
        setting = replace(common_setting(args), channels_last=part.channels_last, compiled=part.compiled)
        for name, reason in run_suites(part.suites, part.precisions, setting, out, args.rounds, args.warm_up, args.batch, size):
            cli.say(f'{name} failed: {reason}' if reason else (out / f'{name}.md').read_text())
            failed += reason is not None
    if failed:
        raise UserError(f'{failed} of the tables failed, see above; the others are in {args.out}')
    cli.say(f'Wrote the tables to {args.out}')


def common_setting(args: argparse.Namespace) -> 'Setting':
    """Settings of the machine from the arguments."""
    require_mm('mmpretrain', 'mmseg')
    import torch

    from ..benchmark.networks import Setting
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    if device == 'cuda' and not torch.cuda.is_available():
        raise UserError('--device cuda, but there is no GPU here; use --device cpu')
    return Setting(channels_last=args.channels_last, compiled=args.compile, threads=args.threads, device=device)


def show(args: argparse.Namespace, rows: list[dict], measurements: Sequence = (), **content: object) -> None:
    """Print a table, and write it, with further content, if ``--out`` is given."""
    from ..benchmark import tables
    cli.say(tables.markdown(rows))
    if args.out:
        tables.write(Path(args.out), rows=rows, measurements=[vars(measurement) for measurement in measurements],
                     **content)
        cli.say(f'Wrote {args.out}')
