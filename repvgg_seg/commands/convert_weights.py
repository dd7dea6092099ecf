"""Convert RepVGG weights between layouts: repvgg-seg convert-weights SRC DST [--to official]"""
from collections.abc import Sequence

from ..core.destinations import ensure_writable_file
from . import cli


def parser() -> cli.Parser:
    parser = cli.plain_parser('convert-weights', 'Convert a RepVGG checkpoint (official, MMPretrain, timm or own) to another '
                                     'layout, completely or not at all')
    parser.add_argument('source', metavar='SRC', help='checkpoint, a file or URL')
    parser.add_argument('target', metavar='DST', help='file to write')
    parser.add_argument('--to', choices=['own', 'official'], default='own', help='layout of DST (default: own)')
    parser.add_argument('--prefix', help='prefix of the backbone\'s tensors in SRC, e.g. model.encoder. (default: detected)')
    parser.add_argument('--key', help='key of the weights in SRC, e.g. model_ema for averaged weights (default: detected)')
    cli.add_trust(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    target = ensure_writable_file(args.target)
    from ..core.reading import trust_checkpoints
    from ..models.conversion import convert_checkpoint
    trust_checkpoints(args.trust_checkpoint)
    for line in convert_checkpoint(args.source, target, args.to, args.prefix, args.key):
        cli.say(line)
    cli.say(f'Wrote {target}')
