"""Examine the installation: python tools/doctor.py"""
import sys
from pathlib import Path

from repvgg_seg.commands import cli
from repvgg_seg.core.doctor import ERROR, examine
from repvgg_seg.core.errors import InstallationError


def main() -> None:
    cli.Parser(description='List versions and origins of what repvgg_seg needs, GPU, CPU and disk; each problem '
                            'with the command that mends it').parse_args()
    problems = 0
    for finding in examine(Path.cwd()):
        sys.stdout.write(f'{finding}\n')
        sys.stdout.flush()
        problems += finding.state == ERROR
    if problems:
        raise InstallationError(f'{problems} problem(s), see above')


if __name__ == '__main__':
    cli.run(main, needs=())
