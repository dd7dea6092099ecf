"""Make label files from polygons: repvgg-seg make-labels SOURCE --out FOLDER"""
from collections.abc import Sequence
from pathlib import Path

from . import cli


def parser() -> cli.Parser:
    parser = cli.plain_parser('make-labels', 'Make label files (PNGs of class indices) from annotations of LabelMe or COCO, '
                              'either all of them or none')
    parser.add_argument('source', metavar='SOURCE', type=Path, help="file in COCO's format, or folder of LabelMe's JSON files")
    parser.add_argument('--out', required=True, metavar='FOLDER', type=Path, help='folder to write, with label files '
                        'and classes.txt')
    parser.add_argument('--classes', metavar='FILE', help="names of the classes, one per line (default: COCO's categories by "
                        "id, LabelMe's labels by name)")
    background = parser.add_mutually_exclusive_group()
    background.add_argument('--background', metavar='NAME', default='background',
                            help='class of the pixels that no region covers (default: background)')
    background.add_argument('--ignore-background', dest='background', action='store_const', const=None,
                            help='ignore the pixels that no region covers')
    parser.add_argument('--ignore', nargs='+', default=[], metavar='LABEL', help='labels whose regions are ignored')
    parser.add_argument('--order', choices=['file', 'area'], help='which of two overlapping regions is on top: the later one '
                        "in the file (LabelMe's default), or the smaller one (COCO's default)")
    parser.add_argument('--crowd', choices=['ignored', 'class'], default='ignored',
                        help="how COCO's crowd regions count (default: ignored)")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    from rich.console import Console

    from ..datasets.annotations import make_labels
    made = make_labels(args.source, args.out, args.classes, args.background, args.ignore, args.order, args.crowd)
    Console().print(made.table())
    if made.empty:
        cli.write(f'{made.empty} annotations have fewer than three points and cover nothing')
    cli.say(f'Wrote {made.images} label files and classes.txt to {args.out}')
