"""List the configs that come with the package, or copy one with its bases: repvgg-seg configs [NAME]"""
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..core.command_names import command
from ..core.configs import CONFIGS, bases_of, existing_config, shipped_names, title
from ..core.destinations import ensure_writable
from ..core.errors import UserError
from . import cli


def parser() -> cli.Parser:
    parser = cli.plain_parser('configs', 'List the configs that come with the package, or copy one with its bases')
    parser.add_argument('name', nargs='?', help='config to copy (default: list all of them)')
    parser.add_argument('--out', metavar='DIR', help='folder for the copies (default: the current one)')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.name is None:
        if args.out is not None:
            raise UserError('--out is the folder for the copy of a config; give its name, or leave --out out')
        names = shipped_names()
        width = max(map(len, names))
        cli.write('\n'.join(f'{name:<{width}}  {title(name)}' for name in names))
        return
    config = existing_config(args.name)
    if CONFIGS not in config.parents:
        raise UserError(f'{args.name} is a file of your own; expected one of the names that {command("configs")} lists')
    targets = {path: Path(args.out or '.', path.relative_to(CONFIGS)) for path in [*bases_of(config), config]}
    if existing := [str(target) for target in targets.values() if target.exists()]:
        raise UserError(f'{existing[0]} exists already; move it away, or choose another folder with --out')
    for source, target in targets.items():
        ensure_writable(target.parent)
        shutil.copyfile(source, target)
    cli.write(f'Wrote {targets[config]} and {len(targets) - 1} bases; start with {command("train")} {targets[config]}')
