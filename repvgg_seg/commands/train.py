"""Train a segmentor: repvgg-seg train CONFIG"""
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import UserError
from . import cli


def parser() -> cli.Parser:
    parser = cli.training_parser('train', 'Train a segmentor')
    parser.add_argument('--no-report', action='store_true', help='do not test the best checkpoint at the end, and leave no '
                        'report in the work dir')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.dry_run and args.no_report:
        raise UserError('a dry run leaves no report, which --no-report is for; leave one of them out')
    config = cli.load_run_config(args, 'mmseg')
    cli.prepare_training(config, args)
    from ..engine.curves import leave_curves
    from ..engine.segmentation import dry_run_segmentor, leave_report, train_segmentor
    from ..engine.training import outcome
    if args.dry_run:
        cli.say_expectation(*dry_run_segmentor(config), args.out)
        return
    checkpoint = train_segmentor(config)
    curves = leave_curves(Path(config.work_dir))
    report = None if args.no_report else leave_report(config, checkpoint)
    cli.say(outcome(checkpoint, [curves, report]))
