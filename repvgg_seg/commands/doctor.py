"""Check the installation: repvgg-seg doctor"""
import sys
from collections.abc import Sequence
from pathlib import Path

from ..core.doctor import ERROR, examine
from ..core.errors import InstallationError
from . import cli


def parser() -> cli.Parser:
    return cli.plain_parser('doctor', 'Check versions and origins of packages, GPU, CPU and disk, and suggest fixes')


def main(arguments: Sequence[str] | None = None) -> None:
    parser().parse_args(arguments)
    problems = 0
    for finding in examine(Path.cwd()):
        sys.stdout.write(f'{finding}\n')
        sys.stdout.flush()
        problems += finding.state == ERROR
    if problems:
        raise InstallationError(f'{problems} problem(s), see above')
