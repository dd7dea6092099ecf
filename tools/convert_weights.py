"""Convert RepVGG weights between layouts: python tools/convert_weights.py SRC DST [--to official]"""
from repvgg_seg.commands import cli
from repvgg_seg.core.destinations import ensure_writable_file


def main() -> None:
    parser = cli.Parser(description='Convert a RepVGG checkpoint (official, MMPretrain, timm or own) to another '
                                     'layout; all or nothing')
    parser.add_argument('source', metavar='SRC', help='checkpoint, a file or URL')
    parser.add_argument('target', metavar='DST', help='file to write')
    parser.add_argument('--to', choices=['own', 'official'], default='own', help='layout of DST (default: own)')
    parser.add_argument('--prefix', help='of the backbone\'s tensors in SRC, e.g. model.encoder. (default: found by itself)')
    parser.add_argument('--key', help='where SRC has the weights, e.g. model_ema for averaged ones (default: a usual one)')
    cli.add_trust(parser)
    args = parser.parse_args()
    target = ensure_writable_file(args.target)
    from repvgg_seg.core.reading import trust_checkpoints
    from repvgg_seg.models.conversion import convert_checkpoint
    trust_checkpoints(args.trust_checkpoint)
    for line in convert_checkpoint(args.source, target, args.to, args.prefix, args.key):
        cli.say(line)
    cli.say(f'Wrote {target}')


if __name__ == '__main__':
    cli.run(main)
