"""Fuse a trained model for deployment and export it: repvgg-seg deploy CONFIG CHECKPOINT --out DIR"""
from collections.abc import Sequence
from pathlib import Path

from ..core.destinations import ensure_writable
from ..core.errors import UserError
from . import cli, numeric

UNDILATE = {'on': True, 'off': False, 'auto': None}

def parser() -> cli.Parser:
    parser = cli.model_parser('deploy', 'Fuse a trained segmentor or classifier, compare it with the trained model, write it')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--images', help='image, folder or quoted glob pattern for the comparison (default: the test set if '
                        'available, otherwise a random image)')
    parser.add_argument('--formats', nargs='+', default=['pth'],
                        choices=['pth', 'safetensors', 'onnx', 'openvino', 'pt2', 'ncnn', 'opencv', 'litert', 'executorch',
                                 'web', 'aotinductor', 'coreml'],
                        help='pth (default) and safetensors: fused weights and config for MMSegmentation; the other formats '
                        'run without it; web: a page for a web server that segments pictures in the browser')
    parser.add_argument('--precision', nargs='+', default=['fp32'], choices=['fp32', 'fp16', 'bf16', 'int8'],
                        help='precisions; each format is written in those that it supports (default: fp32)')
    parser.add_argument('--calibration', metavar='FOLDER', help='images for int8 (default: the training set)')
    parser.add_argument('--eval', action='store_true', help='evaluate every file on the test set, and refuse files that lose '
                        'more than 0.5 points of mIoU (classifiers: top-1 accuracy); always done for int8 if there are labels')
    parser.add_argument('--abstain', type=numeric.real, metavar='RISK',
                        help='answer only confident pixels, of which at most this share is wrong (e.g. 0.05); the others get '
                        'the value 255, unknown. Includes --eval')
    parser.add_argument('--confidence', type=numeric.real,
                        help='probability with which --abstain keeps its promise (default: 0.9)')
    parser.add_argument('--size', nargs=2, type=numeric.positive, metavar=('H', 'W'),
                        help='fixed image size of the exported files, in pixels (default: any size)')
    parser.add_argument('--batch', type=numeric.positive_or_any, default=1, metavar='N',
                        help='number of images that files of a fixed size take at once, or "any" (default: 1)')
    parser.add_argument('--opset', type=numeric.whole, default=18, metavar='N',
                        help='opset of ONNX files, 15 to 23 (default: 18)')
    parser.add_argument('--channels', choices=['RGB', 'BGR'], default='RGB',
                        help='order of the channels in images (default: RGB)')
    parser.add_argument('--logits', action='store_true', help='return logits instead of class indices')
    parser.add_argument('--undilate', choices=list(UNDILATE), default='auto', help='write RepVGG without dilated convolutions, '
                        'with equal results (default: only for ncnn and opencv, where this is faster)')
    parser.add_argument('--onnxruntime-web', metavar='FOLDER', help='folder of the npm package of that name, for web (default: '
                        'npm downloads it)')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.confidence is not None and args.abstain is None:
        raise UserError('--confidence is for --abstain; add --abstain RISK, or leave it out')
    config = cli.load_model_config(args, 'mmseg', 'mmpretrain')
    out = Path(args.out)
    ensure_writable(out.absolute().parent)
    from ..deploy.deploying import deploy
    from ..deploy.formats import ExportRequest
    request = ExportRequest(
        formats=tuple(args.formats), precisions=tuple(args.precision), size=args.size and tuple(args.size),
        batch=args.batch, opset=args.opset, channels=args.channels, logits=args.logits, undilate=UNDILATE[args.undilate],
        images=args.images, calibration=args.calibration, evaluate=args.eval, abstain=args.abstain,
        onnxruntime_web=args.onnxruntime_web,
        **({} if args.confidence is None else dict(confidence=args.confidence)))
    report = deploy(config, args.checkpoint, out, request)
    for line in report.lines():
        cli.say(line)
    cli.say(f'Wrote {", ".join(sorted(path.name for path in out.iterdir()))} to {out}')
