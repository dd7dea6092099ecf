"""Write a config for a folder of images and labels: repvgg-seg init FOLDER --out my.py"""
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import UserError
from . import cli, numeric

ARCHS = ('A0', 'A1', 'A2', 'B0', 'B1g2', 'B2')
HOURS = 1.0


def parser() -> cli.Parser:
    parser = cli.plain_parser('init', 'Inspect a folder of images and labels, and write a config that is ready for training; '
                              'the folder is not changed')
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='images and labels, in separate folders or side by side')
    parser.add_argument('--out', required=True, metavar='FILE.py', type=Path,
                        help='config to write; further files are written to the folder FILE_init')
    parser.add_argument('--classes', metavar='FILE', type=Path, help='names of the classes, one per line; with colors "NAME '
                        'RED GREEN BLUE" (default: classes.txt or a similar file in the folder)')
    parser.add_argument('--lossy', action='store_true', help='the labels were saved with lossy compression, such as JPEG: rare '
                        'values count as the nearest frequent one')
    parser.add_argument('--arch', choices=ARCHS, default='A0', help='RepVGG arch of the backbone (default: A0)')
    parser.add_argument('--weights', metavar='PATH', help='weights of the backbone, a file or URL; "none" trains from scratch '
                        '(default: ImageNet weights, if available)')
    parser.add_argument('--hours', type=numeric.above_zero, help='hours that training may take on this machine '
                        f'(default: {HOURS})')
    parser.add_argument('--epochs', type=numeric.positive, help='number of epochs (default: as many as fit into --hours)')
    parser.add_argument('--seed', type=numeric.seed, help='random seed for choosing the validation images, if '
                        'the folder has no validation set; 0 if none is given')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.hours and args.epochs:
        raise UserError('--hours chooses the number of epochs, which --epochs gives; leave one of them out')
    from rich.console import Console

    from ..core.noise import import_quietly
    import_quietly(('mmseg', ))
    from ..engine.project_init import initialize
    from ..engine.project_init.initializing import Request
    made = initialize(Request(args.folder, args.out, args.classes, args.lossy, args.arch, args.weights, args.hours or HOURS,
                              args.epochs, args.seed))
    Console().print(made.table())
    cli.write(f'Look at the pictures in {made.pictures[0].parent}. Every guess is a comment in {args.out}. Continue with:')
    for line in made.commands:
        cli.write(f'  {line}')
    cli.say(f'Wrote {args.out} and {made.workspace}')
