"""Train a segmentor: repvgg-seg train CONFIG"""
from collections.abc import Sequence

from . import cli


def parser() -> cli.Parser:
    return cli.training_parser('train', 'Train a segmentor')


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_run_config(args, 'mmseg')
    cli.prepare_training(config, args)
    from ..engine.segmentation import train_segmentor
    from ..engine.training import outcome
    cli.say(outcome(train_segmentor(config)))
