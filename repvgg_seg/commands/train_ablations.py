"""Train the paper's ablations one after another: repvgg-seg train-ablations [CONFIG] [--variants NAME ...]"""
from collections.abc import Sequence
from pathlib import Path

from ..core.destinations import ensure_writable
from ..core.environment import require_mm
from ..core.errors import UserError
from . import cli, numeric

RECIPE = 'ablations/b0_cifar10.py'


def parser() -> cli.Parser:
    require_mm('mmpretrain')
    from ..ablations.runs import ABLATIONS, FUSABLE
    parser = cli.run_parser(
        'train-ablations', "Train the paper's ablations (Tables 6 and 7) one after another, and compare them; if interrupted, "
        'give the command again to continue', checkpoint=False, default_config=RECIPE)
    parser.add_argument('--amp', action='store_true', help=cli.AMP_HELP)
    parser.add_argument('--variants', nargs='+', choices=list(ABLATIONS), default=list(ABLATIONS), metavar='NAME',
                        help=f'ablations to train (default: {", ".join(ABLATIONS)})')
    parser.add_argument('--seeds', nargs='+', type=numeric.seed, default=[0], metavar='SEED', help='random seeds (default: 0)')
    parser.add_argument('--int8', nargs='+', choices=FUSABLE, default=[], metavar='NAME',
                        help='ablations that are also tested in 8 bits after training, e.g. both qarepvgg')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_run_config(args, 'mmpretrain')
    if args.int8:
        from ..deploy.classifier_int8 import check_installed
        check_installed()
        if left_out := [name for name in args.int8 if name not in args.variants]:
            raise UserError(f'--int8 {" ".join(left_out)} is not trained; add it to --variants, or leave it out')
    ensure_writable(config.work_dir)
    if args.amp:
        from ..engine.hardware import enable_amp
        enable_amp(config)
    from ..ablations.runs import quantize_ablations, train_ablations, write_results
    runs = []
    for run in train_ablations(config, args.variants, args.seeds):
        runs.append(run)
        cli.say(f'{len(runs)} of {len(args.variants) * len(args.seeds)}: {run.name}, seed {run.seed}: top-1 {run.top1:.2f}')
    cli.say(write_results(runs, Path(config.work_dir)))
    cli.say(f'Wrote results.md, results.json and curves.png to {config.work_dir}')
    if quantized := [run for run in runs if run.name in args.int8]:
        cli.say(quantize_ablations(config, quantized, Path(config.work_dir)))
        cli.say(f'Wrote int8.md and int8.json to {config.work_dir}')
