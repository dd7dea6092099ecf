"""Segment images, videos, cameras and streams: repvgg-seg predict CONFIG CHECKPOINT SOURCE --out DIR"""
from collections.abc import Sequence
from pathlib import Path

from . import cli, numeric


def parser() -> cli.Parser:
    parser = cli.model_parser('predict', 'Segment images, videos, a camera or a stream')
    parser.add_argument('source', help='an image, video, folder or quoted glob pattern; the number of a camera, as in 0; a URL '
                        'of http, https or rtsp; or - for an image on standard input')
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the label PNGs and overlays')
    parser.add_argument('--show', action='store_true', help='show the overlays in a window')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the share of each class in each image or frame, one '
                        'JSON object a line')
    parser.add_argument('--alpha', type=numeric.fraction, default=0.55, metavar='A',
                        help='opacity of the labels over the image, 0 to 1 (default: 0.55)')
    parser.add_argument('--side-by-side', action='store_true', help='put the image beside its overlay')
    parser.add_argument('--labels-only', action='store_true', help='write label PNGs and no overlays, of videos too')
    parser.add_argument('--min-confidence', type=numeric.fraction, metavar='P',
                        help='give pixels whose class has a probability below P the value 255, which is drawn as unknown')
    parser.add_argument('--save-confidence', action='store_true', help='write the probability of the predicted class as a gray '
                        'PNG, 0 to 255')
    parser.add_argument('--tile', type=numeric.positive, nargs=2, metavar=('HEIGHT', 'WIDTH'),
                        help='split images into tiles, for images that are too large for the memory')
    parser.add_argument('--overlap', type=numeric.positive, metavar='PIXELS',
                        help='overlap of neighboring tiles (default: 64, but at most half a tile)')
    parser.add_argument('--max-fps', type=numeric.above_zero, metavar='N',
                        help='take at most N frames a second from a camera or stream')
    cli.add_device(parser, None, 'by default the CPU for an exported file, else a GPU if there is one')
    parser.add_argument('--as-video', type=numeric.above_zero, metavar='FPS', help='treat image files as the frames of a video')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_model_config(args, 'mmseg')
    from ..core.errors import UserError
    from ..engine.prediction import predict
    from ..engine.prediction.network import Tiling
    from ..engine.prediction.predicting import Options
    from ..engine.prediction.writing import Style
    if args.overlap and not args.tile:
        raise UserError('--overlap is for tiles; add --tile HEIGHT WIDTH, or leave it out')
    done = predict(config, args.checkpoint, args.source, args.out, Options(
        Style(args.alpha, args.side_by_side, args.labels_only, args.save_confidence), args.show, args.json, args.max_fps,
        args.as_video, args.min_confidence, Tiling(tuple(args.tile), args.overlap) if args.tile else None,
        args.device))
    cli.say(done.rates)
    if done.written:
        cli.say(f'Wrote {len(done.written)} file(s), e.g. {done.written[-1]}')
