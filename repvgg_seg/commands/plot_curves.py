"""Plot training losses and validation metrics of runs: repvgg-seg plot-curves WORK_DIR [WORK_DIR ...] --out curves.png"""
from collections.abc import Sequence
from pathlib import Path

from ..core.destinations import ensure_writable_file
from . import cli


def parser() -> cli.Parser:
    parser = cli.plain_parser('plot-curves', 'Plot training losses and validation metrics of runs in one picture')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', type=Path, help='work dirs of up to 18 runs')
    parser.add_argument('--out', required=True, type=Path, metavar='FILE', help='picture to write')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    ensure_writable_file(args.out)
    from ..engine.curves import draw_curves
    draw_curves(args.work_dirs, args.out)
    cli.say(f'Wrote {args.out}')
