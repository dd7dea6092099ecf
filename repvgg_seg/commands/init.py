"""Write a config for a folder of images and labels: repvgg-seg init FOLDER --out my.py"""
from collections.abc import Sequence
from pathlib import Path

from . import cli

ARCHS = ('A0', 'A1', 'A2', 'B0', 'B1g2', 'B2')


def parser() -> cli.Parser:
    parser = cli.plain_parser('init', 'Look at a folder of images and labels, and write a config that trains; nothing in the '
                              'folder is changed')
    parser.add_argument('folder', metavar='FOLDER', type=Path, help='images and labels, in folders or beside each other')
    parser.add_argument('--out', required=True, metavar='FILE.py', type=Path,
                        help='config to write; what belongs to it is put into the folder FILE_init')
    parser.add_argument('--classes', metavar='FILE', type=Path, help='names of the classes, one a line; with colors "NAME RED '
                        'GREEN BLUE" (default: classes.txt or a similar file in the folder)')
    parser.add_argument('--lossy', action='store_true', help='the labels were saved with losses, such as JPEG: rare values '
                        'count as the nearest frequent one')
    parser.add_argument('--arch', choices=ARCHS, default='A0', help='RepVGG of the network (default: A0)')
    parser.add_argument('--weights', metavar='PATH', help='of the backbone, a file or URL; none for training from scratch '
                        '(default: ImageNet weights, where they can be had)')
    parser.add_argument('--hours', type=positive_number, default=1.0, help='that training may take on this machine (default: '
                                                                           '1.0)')
    parser.add_argument('--epochs', type=cli.positive, help='number of epochs (default: as many as fit into the hours)')
    parser.add_argument('--seed', type=int, default=0, help='of the choice of images for validation (default: 0)')
    return parser


def positive_number(text: str) -> float:
    """A positive number, for argparse."""
    if not (value := float(text)) > 0:
        raise ValueError
    return value


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    from rich.console import Console

    from ..core.noise import import_quietly
    import_quietly(('mmseg', ))
    from ..engine.project_init import initialize
    from ..engine.project_init.initializing import Request
    made = initialize(Request(args.folder, args.out, args.classes, args.lossy, args.arch, args.weights, args.hours, args.epochs,
                              args.seed))
    Console().print(made.table())
    cli.write(f'Look at the pictures in {made.pictures[0].parent}. Every guess is a comment in {args.out}. Go on with:')
    for line in made.commands:
        cli.write(f'  {line}')
    cli.say(f'Wrote {args.out} and {made.workspace}')
