"""Evaluate a segmentor: repvgg-seg test CONFIG CHECKPOINT"""
from collections.abc import Sequence

from ..core.destinations import ensure_writable
from . import cli


def parser() -> cli.Parser:
    parser = cli.run_parser('test', 'Evaluate a segmentor')
    parser.add_argument('--tta', action='store_true', help='average over the image and its mirror image, as in PSPNet\'s code')
    parser.add_argument('--out', metavar='DIR', help='write the predictions as PNGs of class indices')
    parser.add_argument('--submit', metavar='DIR', help='write the predictions as PNGs of label ids for the Cityscapes '
                        'server, without evaluating')
    parser.add_argument('--report', metavar='DIR', help='write a page with metrics of each class, a confusion matrix, '
                        'calibration and pictures of the errors to DIR/index.html')
    parser.add_argument('--against', metavar='JSON', help='report.json of an earlier report to compare with')
    cli.add_device(parser, None, 'by default the CPU for an exported file, else a GPU if there is one')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    config = cli.load_run_config(args, 'mmseg')
    ensure_writable(config.work_dir)
    from ..engine.evaluating import in_words
    from ..engine.segmentation import test_segmentor
    metrics = test_segmentor(config, args.checkpoint, args.tta, args.out, args.submit, args.report,
                             args.against, args.device)
    if args.submit:
        cli.say(f'Wrote label ids to {args.submit}')
    else:
        cli.say(f'{in_words(metrics)}; written to {config.work_dir}/test.json'
                + (f', predictions to {args.out}' if args.out else '')
                + (f', report to {args.report}/index.html' if args.report else ''))
