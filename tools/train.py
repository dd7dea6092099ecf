"""Train a segmentor: python tools/train.py CONFIG"""
from repvgg_seg import cli


def main() -> None:
    parser = cli.tool_parser('Train a segmentor', checkpoint=False)
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint in the work dir')
    parser.add_argument('--amp', action='store_true', help='mixed precision: bfloat16 on CPUs and newer GPUs, else float16')
    args = parser.parse_args()
    config = cli.load_config(args)
    cli.ensure_writable(config.work_dir)
    from repvgg_seg.engine.hardware import enable_amp
    from repvgg_seg.engine.training import train
    config.resume = args.resume
    if args.amp:
        enable_amp(config)
    checkpoint = train(config)
    cli.say(f'Trained; the best checkpoint is {checkpoint}')


if __name__ == '__main__':
    cli.run(main)
