"""Evaluate a classifier: python tools/classify_test.py CONFIG CHECKPOINT"""
from repvgg_seg.commands import cli
from repvgg_seg.core.destinations import ensure_writable, ensure_writable_file


def main() -> None:
    parser = cli.run_parser('Evaluate a classifier')
    parser.add_argument('--size', type=cli.positive, metavar='PIXELS',
                        help='side of the square images (default: as in the config)')
    parser.add_argument('--out', metavar='FILE', help='write the prediction of every image as CSV')
    args = parser.parse_args()
    config = cli.load_run_config(args, 'mmpretrain')
    ensure_writable(config.work_dir)
    if args.out:
        ensure_writable_file(args.out)
    from repvgg_seg.engine.classification import test_classifier
    from repvgg_seg.engine.evaluating import in_words
    metrics = test_classifier(config, args.checkpoint, args.size, args.out)
    shown = {name.rpartition('/')[2].replace('top', 'top-'): value for name, value in metrics.items()}
    cli.say(f'{in_words(shown)}; written to {config.work_dir}/test.json' + (f', predictions to {args.out}' if args.out else ''))


if __name__ == '__main__':
    cli.run(main)
