"""Segment images: repvgg-seg predict CONFIG CHECKPOINT IMAGES --out DIR"""
from collections.abc import Sequence
from pathlib import Path

from . import cli


def parser() -> cli.Parser:
    parser = cli.model_parser('predict', 'Segment images')
    parser.add_argument('images', help='an image, a folder or a quoted glob pattern')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the label PNGs and overlays')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_model_config(args, 'mmseg')
    from ..engine.prediction import predict
    overlays = predict(config, args.checkpoint, args.images, Path(args.out))
    cli.say(f'Wrote {len(overlays)} label maps and overlays to {args.out}, e.g. {overlays[0]}')
