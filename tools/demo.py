"""Train, evaluate, fuse, evaluate again and predict on ToyStreets, by the tools that a user would call: make demo"""
import json
import subprocess
import sys
import time
from pathlib import Path

from repvgg_seg.commands import cli
from repvgg_seg.core.run_checkpoints import find_checkpoint

CONFIG = 'configs/pspnet_repvgg_a0_toystreets.py'
IMAGES = Path('data/toystreets/leftImg8bit/val')
WORK_DIR = Path('work_dirs/demo')
FUSED, PICTURES = WORK_DIR / 'fused', WORK_DIR / 'pictures'


def tool(name: str, *arguments: str | Path) -> None:
    """Run a tool; its failure ends the demo with its exit code."""
    command = [sys.executable, f'tools/{name}.py', CONFIG, *map(str, arguments)]
    sys.stdout.write(f'\n$ python {" ".join(command[1:])}\n')
    sys.stdout.flush()
    code = subprocess.run(command).returncode
    if code != 0:
        sys.exit(code)


def evaluate(checkpoint: Path) -> float:
    """mIoU of a checkpoint, in per cent."""
    tool('test', checkpoint, '--work-dir', WORK_DIR)
    return json.loads((WORK_DIR / 'test.json').read_text())['mIoU']


def main() -> None:
    cli.Parser(description='Train, evaluate, fuse, evaluate again and predict on ToyStreets').parse_args()
    start = time.monotonic()
    tool('train', '--amp', '--work-dir', WORK_DIR)
    checkpoint = find_checkpoint(WORK_DIR)
    trained = evaluate(checkpoint)
    tool('deploy', checkpoint, '--out', FUSED)
    fused = evaluate(FUSED)
    tool('predict', FUSED, IMAGES, '--out', PICTURES)
    report = json.loads((FUSED / 'deploy.json').read_text())
    picture = sorted(PICTURES.glob('*_overlay.png'))[0]
    sys.stdout.write(
        f'\nmIoU {trained:.2f} trained, {fused:.2f} fused\n'
        f'largest difference of logits {report["logit_difference"]:.1e} (relative), '
        f'{report["changed"]:.4%} of the pixels changed\n'
        f'speed-up by fusing {report["milliseconds_before"] / report["milliseconds_after"]:.2f}x\n'
        f'{time.monotonic() - start:.0f} s\nlook at {picture}\n')


if __name__ == '__main__':
    cli.run(main)
