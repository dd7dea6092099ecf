"""Train, evaluate, fuse and predict on drawn streets, or try a trained model at once: repvgg-seg demo [--quick]"""
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import UserError
from ..core.run_checkpoints import find_checkpoint
from . import cli

CONFIG = 'pspnet_repvgg_a0_toystreets'
IMAGES = Path('data/toystreets/leftImg8bit/val')
WORK_DIR = Path('work_dirs/demo')
FUSED, PICTURES = WORK_DIR / 'fused', WORK_DIR / 'pictures'


def parser() -> cli.Parser:
    parser = cli.plain_parser('demo', 'Train, evaluate, fuse and predict on drawn streets, with the same commands as a user')
    parser.add_argument('--quick', action='store_true', help='instead, segment new streets with a small trained model')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    start = time.monotonic()
    if parser().parse_args(arguments).quick:
        show_trained_model()
    else:
        train_and_deploy()
    cli.write(f'{time.monotonic() - start:.0f} s')


def show_trained_model() -> None:
    """Segment newly drawn scenes with a trained model, and print where the pictures are."""
    from ..core.destinations import ensure_writable
    from ..core.noise import import_quietly
    from ..deploy.quick_demo import quick_demo
    import_quietly(('mmseg', ))
    miou, pictures = quick_demo(ensure_writable(PICTURES))
    cli.write(f'mIoU {miou:.2f} on {len(pictures)} freshly drawn streets\nlook at {pictures[0]}')


def train_and_deploy() -> None:
    """Run all steps, from training to deployment, on ToyStreets."""
    from mmengine.device import get_device

    from ..engine.hardware import cpu_has_bfloat16
    amp = ['--amp'] if get_device() != 'cpu' or cpu_has_bfloat16() else []
    call('train', *amp, '--work-dir', WORK_DIR)
    checkpoint = find_checkpoint(WORK_DIR)
    if checkpoint is None:
        raise UserError(f'{WORK_DIR} has no checkpoint after the training; see the log in it')
    trained = evaluate(checkpoint)
    call('deploy', checkpoint, '--out', FUSED)
    fused = evaluate(FUSED)
    call('predict', FUSED, IMAGES, '--out', PICTURES)
    report = json.loads((FUSED / 'deploy.json').read_text())
    picture = min(PICTURES.glob('*_overlay.png'))
    cli.write(f'\nmIoU {trained:.2f} trained, {fused:.2f} fused\n'
              f'largest difference of logits {report["logit_difference"]:.1e} (relative), '
              f'{report["changed"]:.4%} of the pixels changed\n'
              f'speed-up by fusing {report["milliseconds_before"] / report["milliseconds_after"]:.2f}x\nlook at {picture}')


def call(verb: str, *arguments: str | Path) -> None:
    """Run a command in its own process. If it fails, end the demo with its exit code."""
    line = [verb, CONFIG, *map(str, arguments)]
    cli.write(f'\n$ repvgg-seg {" ".join(line)}')
    sys.stdout.flush()
    code = subprocess.run([sys.executable, '-m', 'repvgg_seg', *line]).returncode
    if code != 0:
        sys.exit(code)


def evaluate(checkpoint: Path) -> float:
    """Evaluate a checkpoint, and return its mIoU in percent."""
    call('test', checkpoint, '--work-dir', WORK_DIR)
    return json.loads((WORK_DIR / 'test.json').read_text())['mIoU']
