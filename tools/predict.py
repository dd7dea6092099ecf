"""Segment images: python tools/predict.py CONFIG CHECKPOINT IMAGES --out DIR"""
from pathlib import Path

from repvgg_seg.commands import cli


def main() -> None:
    parser = cli.model_parser('Segment images')
    parser.add_argument('images', help='an image, a folder or a quoted glob pattern')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the label PNGs and overlays')
    args = parser.parse_args()
    config = cli.load_model_config(args, 'mmseg')
    from repvgg_seg.engine.prediction import predict
    overlays = predict(config, args.checkpoint, args.images, Path(args.out))
    cli.say(f'Wrote {len(overlays)} label maps and overlays to {args.out}, e.g. {overlays[0]}')


if __name__ == '__main__':
    cli.run(main)
