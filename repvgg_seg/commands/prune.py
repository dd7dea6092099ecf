"""Remove channels of a trained segmentor, for fine-tuning: repvgg-seg prune CONFIG CHECKPOINT --keep 0.5 --out DIR"""
from collections.abc import Sequence
from pathlib import Path

from ..core.command_names import command
from ..core.destinations import ensure_writable
from ..core.errors import UserError
from . import cli, numeric

RUNTIME = 'openvino'


def parser() -> cli.Parser:
    parser = cli.model_parser('prune', 'Remove the least important channels of a trained segmentor; the result is fine-tuned')
    amount = parser.add_mutually_exclusive_group(required=True)
    amount.add_argument('--keep', type=numeric.share, help='share of the multiplications to keep, e.g. 0.5')
    amount.add_argument('--milliseconds', type=numeric.above_zero,
                        help='longest time for one image, measured here in --runtime')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--images', type=numeric.positive, default=64,
                        help='training images that importance is computed from (default: 64)')
    parser.add_argument('--size', nargs=2, type=numeric.positive, metavar=('H', 'W'),
                        help='image size for counting multiplications and for timing (default: the training crop)')
    parser.add_argument('--runtime', choices=['onnx', 'openvino', 'pt2', 'ncnn'],
                        help=f'runtime for --milliseconds, in fp32; {RUNTIME} if none is given')
    parser.add_argument('--multiple', type=numeric.positive, default=8,
                        help='make the widths of layers multiples of this, for vector instructions (default: 8)')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.keep and args.runtime:
        raise UserError('--runtime is for --milliseconds; leave it out')
    config = cli.load_model_config(args, 'mmseg')
    out = Path(args.out)
    ensure_writable(out.absolute().parent)
    from ..deploy.pruning import PruneRequest, prune
    report = prune(config, args.checkpoint, out, PruneRequest(
        args.keep, args.milliseconds, args.runtime or RUNTIME, args.images, args.size and tuple(args.size), args.multiple))
    for line in report.lines():
        cli.say(line)
    cli.say(f'Wrote {out}; fine-tune it with {command("train")} {out / "config.py"}')
