"""Every config of docs/logging-and-recipes.md trains as printed, and does what the page says."""
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
import tiny

from repvgg_seg.core.reading import read_checkpoint

PAGE = (tiny.ROOT / 'docs/logging-and-recipes.md').read_text(encoding='utf-8')
BLOCKS = {name: block for block, name in re.findall(r'```python\n(# (\w+)\.py\n.*?)```', PAGE, re.DOTALL)}
# Scalars that are logged, in addition to those of cross entropy or in place of them.
LOSSES = {'my_dice': {'decode.loss_ce', 'decode.loss_dice'}, 'my_focal': {'decode.loss_focal'},
          'my_lovasz': {'decode.loss_ce', 'decode.loss_lovasz'}}
PACKAGES = {'my_tensorboard': 'tensorboard', 'my_wandb': 'wandb', 'my_mlflow': 'mlflow'}
FILES = {'my_tensorboard': '*/vis_data/events.out.tfevents.*', 'my_wandb': '*/vis_data/wandb/offline-run-*/run-*.wandb'}


def test_all_blocks_are_read():
    assert len(BLOCKS) == PAGE.count('```python') == 9


@pytest.mark.parametrize('name', BLOCKS)
def test_recipe(run_tool, config, tmp_path, monkeypatch, name):
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name])
    monkeypatch.chdir(tmp_path)
    shutil.copy(config, 'my.py')
    Path(f'{name}.py').write_text(BLOCKS[name])
    result = run_tool('train', f'{name}.py', '--no-report', '--cfg-options', 'train_cfg.max_epochs=1')
    assert result.code == 0, result.out + result.err
    work_dir = Path('work_dirs') / name
    scalars, = work_dir.glob('*/vis_data/scalars.json')
    logged = {key for line in scalars.read_text().splitlines() for key in json.loads(line)}
    assert {key for key in logged if key.startswith('decode.loss')} == LOSSES.get(name, {'decode.loss_ce'}) and 'mIoU' in logged
    state = read_checkpoint(work_dir / 'epoch_1.pth')
    assert state['meta']['iter'] == 2
    assert ('ema_state_dict' in state) == (name == 'my_ema')
    assert [hook['monitor'] for hook in state['early_stopping']['hooks']] == ['mIoU'] * (name == 'my_early_stopping')
    assert ('OHEMPixelSampler' in (work_dir / f'{name}.py').read_text()) == (name == 'my_ohem')
    if name in FILES:
        assert len([*work_dir.glob(FILES[name])]) == 1
    if name == 'my_mlflow':
        assert sqlite3.connect('mlflow.db').execute("select count(*) from metrics where key = 'mIoU'").fetchone() == (1, )
