"""List the configs that come with the package, or copy one with its bases: repvgg-seg configs [NAME]"""
import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..core.command_names import command
from ..core.configs import CONFIGS, bases_of, existing_config, shipped_configs
from ..core.errors import UserError
from . import cli

NEEDS = ('mmengine', )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=command('configs'),
                                     description='List the configs that come with the package, or copy one with its bases')
    parser.add_argument('name', nargs='?', help='config to copy (default: list all of them)')
    parser.add_argument('--out', default='configs', metavar='DIR', help='folder for the copies (default: configs)')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.name is None:
        width = max(map(len, shipped_configs()))
        cli.say('\n'.join(f'{name:<{width}}  {title}' for name, title in shipped_configs().items()))
        return
    config = existing_config(args.name)
    if CONFIGS not in config.parents:
        raise UserError(f'{args.name} is a file of your own; expected one of the names that {command("configs")} lists')
    targets = {path: Path(args.out, path.relative_to(CONFIGS)) for path in [*bases_of(config), config]}
    if existing := [str(target) for target in targets.values() if target.exists()]:
        raise UserError(f'{existing[0]} exists already; move it away, or choose another folder with --out')
    for source, target in targets.items():
        cli.ensure_writable(target.parent)
        shutil.copyfile(source, target)
    cli.say(f'Wrote {targets[config]} and {len(targets) - 1} bases; start with {command("train")} {targets[config]}')
