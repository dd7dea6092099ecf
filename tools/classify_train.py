"""Pretrain a backbone by classification: python tools/classify_train.py [CONFIG]"""
from repvgg_seg.commands import cli

COMPANION = 'repvgg_b2_imagenet.py'  # Of pspnet_repvgg_b2_cityscapes.py


def main() -> None:
    args = cli.training_parser('Pretrain a backbone by classification', default_config=COMPANION).parse_args()
    config = cli.load_run_config(args, 'mmpretrain')
    cli.prepare_training(config, args)
    from repvgg_seg.engine.classification import train_classifier
    from repvgg_seg.engine.training import outcome
    cli.say(outcome(train_classifier(config)))


if __name__ == '__main__':
    cli.run(main, go_on='go on with --resume')
