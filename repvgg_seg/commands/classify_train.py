"""Pretrain a backbone by classification: repvgg-seg classify-train [CONFIG]"""
from collections.abc import Sequence
from pathlib import Path

from . import cli

COMPANION = 'repvgg_b2_imagenet.py'  # Of pspnet_repvgg_b2_cityscapes.py


def parser() -> cli.Parser:
    return cli.training_parser('classify-train', 'Pretrain a backbone by classification', default_config=COMPANION)


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_run_config(args, 'mmpretrain')
    cli.prepare_training(config, args)
    from ..engine.classification import dry_run_classifier, train_classifier
    from ..engine.curves import leave_curves
    from ..engine.training import outcome
    if args.dry_run:
        cli.say_expectation(*dry_run_classifier(config), args.out)
        return
    checkpoint = train_classifier(config)
    cli.say(outcome(checkpoint, [leave_curves(Path(config.work_dir))]))
