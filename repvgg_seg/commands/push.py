"""Push a deployed folder to the Hugging Face hub: repvgg-seg push DIR OWNER/NAME"""
from collections.abc import Sequence
from pathlib import Path

from ..core.command_names import command
from . import cli


def parser() -> cli.Parser:
    parser = cli.plain_parser('push', 'Push a deployed folder to the Hugging Face hub, with a model card made from its report')
    parser.add_argument('folder', metavar='DIR', type=Path, help=f'folder that {command("deploy")} wrote')
    parser.add_argument('repository', metavar='OWNER/NAME', help='repository on the hub; it is created if it does not exist')
    parser.add_argument('--private', action='store_true', help='create a private repository')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    from ..deploy.publishing import push
    cli.say(f'Wrote {push(args.folder, args.repository, args.private)}; use it as hf://{args.repository}')
