"""Check images and labels before training: repvgg-seg check-data CONFIG"""
import json
from collections.abc import Sequence
from pathlib import Path

from ..core.destinations import ensure_writable_file
from ..core.errors import DataError
from . import cli, numeric


def parser() -> cli.Parser:
    parser = cli.config_parser('check-data', 'Check every image and label of the datasets of a config: files, sizes, values, '
                               'classes')
    parser.add_argument('--sets', nargs='+', choices=['train', 'val', 'test'], default=['train', 'val'],
                        help='datasets to check (default: train val)')
    parser.add_argument('--sample', type=numeric.positive, metavar='N', help='check only N evenly spaced pairs of each dataset')
    parser.add_argument('--out', metavar='FILE.json', help='write all counts')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_config(args, 'mmseg')
    if args.out:
        ensure_writable_file(args.out)
    from ..engine.data_check import check_sets, pairs, show
    reports = check_sets(config, args.sets, args.sample, args.out)
    if args.out:
        Path(args.out).write_text(json.dumps([report.as_dict() for report in reports], indent=2))
    show(reports)
    errors = sum(sum(report.errors.values()) for report in reports)
    if errors:
        raise DataError(f'{errors} {"fault" if errors == 1 else "faults"} in {pairs(reports)}, see above')
    cli.say(f'No fault in {pairs(reports)}' + (f'; written to {args.out}' if args.out else ''))
