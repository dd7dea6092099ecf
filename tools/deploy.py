"""Fuse a trained model for deployment: python tools/deploy.py CONFIG CHECKPOINT --out DIR"""
from pathlib import Path

from repvgg_seg import cli


def main() -> None:
    parser = cli.tool_parser('Fuse a trained segmentor or classifier, check it against the trained one, and write it',
                             checkpoint=True)
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--images', help='image, folder or quoted glob pattern for the check (default: the test set, else a '
                        'random image)')
    args = parser.parse_args()
    config = cli.load_config(args, 'mmseg', 'mmpretrain')
    out = Path(args.out)
    cli.ensure_writable(out.absolute().parent)
    from repvgg_seg.deploy.folder import deploy
    report = deploy(config, args.checkpoint, out, args.images)
    for line in report.lines():
        cli.say(line)
    cli.say(f'Wrote the fused model to {out}')


if __name__ == '__main__':
    cli.run(main)
