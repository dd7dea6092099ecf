"""Evaluate a classifier: repvgg-seg classify-test CONFIG CHECKPOINT"""
from collections.abc import Sequence

from ..core.destinations import ensure_writable, ensure_writable_file
from . import cli, numeric


def parser() -> cli.Parser:
    parser = cli.run_parser('classify-test', 'Evaluate a classifier')
    parser.add_argument('--size', type=numeric.positive, metavar='PIXELS',
                        help='side of the square images (default: as in the config)')
    parser.add_argument('--out', metavar='FILE', help='write the prediction of every image as CSV')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_run_config(args, 'mmpretrain')
    ensure_writable(config.work_dir)
    if args.out:
        ensure_writable_file(args.out)
    from ..engine.classification import test_classifier
    from ..engine.evaluating import in_words
    metrics = test_classifier(config, args.checkpoint, args.size, args.out)
    shown = {name.rpartition('/')[2].replace('top', 'top-'): value for name, value in metrics.items()}
    cli.say(f'{in_words(shown)}; written to {config.work_dir}/test.json' + (f', predictions to {args.out}' if args.out else ''))
