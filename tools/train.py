"""Train a segmentor: python tools/train.py CONFIG"""
from repvgg_seg.commands import cli


def main() -> None:
    args = cli.training_parser('Train a segmentor').parse_args()
    config = cli.load_run_config(args, 'mmseg')
    cli.prepare_training(config, args)
    from repvgg_seg.engine.segmentation import train_segmentor
    from repvgg_seg.engine.training import outcome
    cli.say(outcome(train_segmentor(config)))


if __name__ == '__main__':
    cli.run(main, go_on='go on with --resume')
