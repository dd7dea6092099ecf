"""Draw training loss and validation metric of runs: python tools/plot_curves.py WORK_DIR [WORK_DIR ...] --out curves.png"""
from pathlib import Path

from repvgg_seg.commands import cli
from repvgg_seg.core.destinations import ensure_writable_file


def main() -> None:
    parser = cli.Parser(description='Draw training loss and validation metric of runs into one picture')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', type=Path, help='work dirs of up to 18 runs')
    parser.add_argument('--out', required=True, type=Path, metavar='FILE', help='picture to write')
    args = parser.parse_args()
    ensure_writable_file(args.out)
    from repvgg_seg.engine.curves import draw_curves
    draw_curves(args.work_dirs, args.out)
    cli.say(f'Wrote {args.out}')


if __name__ == '__main__':
    cli.run(main)
