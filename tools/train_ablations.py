"""Train the paper's ablations one after another: python tools/train_ablations.py [CONFIG] [--variants NAME ...]"""
from pathlib import Path

from repvgg_seg.commands import cli
from repvgg_seg.core.destinations import ensure_writable
from repvgg_seg.core.environment import require_mm
from repvgg_seg.core.errors import UserError

RECIPE = 'ablations/b0_cifar10.py'


def main() -> None:
    require_mm('mmpretrain')
    from repvgg_seg.ablations.runs import ABLATIONS, FUSABLE, quantize_ablations, train_ablations, write_results
    parser = cli.run_parser("Train the paper's ablations (Tables 6 and 7) one after another, and compare; the command given "
                            'again goes on where it was interrupted', checkpoint=False, default_config=RECIPE)
    parser.add_argument('--amp', action='store_true', help=cli.AMP_HELP)
    parser.add_argument('--variants', nargs='+', choices=list(ABLATIONS), default=list(ABLATIONS), metavar='NAME',
                        help=f'default: all of {", ".join(ABLATIONS)}')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='SEED', help='default: 0')
    parser.add_argument('--int8', nargs='+', choices=FUSABLE, default=[], metavar='NAME',
                        help='after training, test these in 8 bits too, e.g. both qarepvgg')
    args = parser.parse_args()
    config = cli.load_run_config(args, 'mmpretrain')
    if args.int8:
        from repvgg_seg.deploy.classifier_int8 import check_installed
        check_installed()
        if left_out := [name for name in args.int8 if name not in args.variants]:
            raise UserError(f'--int8 {" ".join(left_out)} is not trained; add it to --variants, or leave it out')
    ensure_writable(config.work_dir)
    if args.amp:
        from repvgg_seg.engine.hardware import enable_amp
        enable_amp(config)
    runs = []
    for run in train_ablations(config, args.variants, args.seeds):
        runs.append(run)
        cli.say(f'{len(runs)} of {len(args.variants) * len(args.seeds)}: {run.name}, seed {run.seed}: top-1 {run.top1:.2f}')
    cli.say(write_results(runs, Path(config.work_dir)))
    cli.say(f'Wrote results.md, results.json and curves.png to {config.work_dir}')
    if quantized := [run for run in runs if run.name in args.int8]:
        cli.say(quantize_ablations(config, quantized, Path(config.work_dir)))
        cli.say(f'Wrote int8.md and int8.json to {config.work_dir}')


if __name__ == '__main__':
    cli.run(main, go_on='give the command again to go on')
