"""tools/slurm_train.sh, with stand-ins for Slurm's commands that note how they are called."""
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]


def submit(folder: Path, code: int) -> tuple[int, list[str]]:
    """Run the script as sbatch would, with an srun that ends with ``code``; its exit code, and the calls."""
    for name, ending in (('srun', f'exit {code}'), ('scontrol', 'exit 0')):
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {folder}/calls\n{ending}\n')
        (folder / name).chmod(0o755)
    env = dict(os.environ, PATH=f'{folder}:{os.environ["PATH"]}', SLURM_JOB_ID='17', SLURM_CPUS_PER_TASK='4')
    done = subprocess.run(['bash', ROOT / 'tools/slurm_train.sh', 'configs/a b.py', '--amp'], env=env, cwd=ROOT, timeout=600)
    return done.returncode, (folder / 'calls').read_text().splitlines()


@pytest.mark.parametrize(('code', 'requeued'), [(0, False), (2, False), (143, True)])
def test_it_is_queued_again_only_when_the_time_is_up(tmp_path, code, requeued):
    ended, calls = submit(tmp_path, code)
    assert ended == code
    assert calls[0] == ('srun --kill-on-bad-exit=1 --cpus-per-task 4 python tools/train.py configs/a b.py --amp '
                        '--launcher slurm --resume')
    assert calls[1:] == (['scontrol requeue 17'] if requeued else [])


def test_signal_comes_before_the_end():
    script = (ROOT / 'tools/slurm_train.sh').read_text()
    assert '#SBATCH --signal TERM@120' in script and '#SBATCH --requeue' in script
