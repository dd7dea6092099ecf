"""The demo, on a tiny model and with its commands run in this process; and the quick demo, as it is."""
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from repvgg_seg.commands import demo
from repvgg_seg.deploy.quick_demo import quick_demo


def test_demo_ends_with_what_it_measured(run_tool, config, streets, tmp_path, monkeypatch, capsys):
    for name, value in dict(CONFIG=str(config), IMAGES=streets / 'leftImg8bit/val', WORK_DIR=tmp_path,
                            FUSED=tmp_path / 'fused', PICTURES=tmp_path / 'pictures').items():
        monkeypatch.setattr(demo, name, value)

    def run(command: list[str]) -> subprocess.CompletedProcess:
        assert command[:3] == [sys.executable, '-m', 'repvgg_seg']
        result = run_tool(*command[3:])
        return subprocess.CompletedProcess(command, result.code)

    monkeypatch.setattr(demo, 'subprocess', SimpleNamespace(run=run))
    demo.main([])
    out = capsys.readouterr().out
    assert re.search(r'mIoU (\d+\.\d\d) trained, \1 fused\nlargest difference of logits \S+e-\d+ ', out)
    assert re.search(r'speed-up by fusing \d+\.\d\dx\nlook at \S+\n\d+ s\n', out)
    assert Path(re.search(r'look at (\S+)', out)[1]).is_file()


@pytest.mark.parametrize('native', [True, False])
def test_mixed_precision_where_it_is_fast(monkeypatch, native):
    begun = []
    monkeypatch.setattr('repvgg_seg.engine.hardware.cpu_has_bfloat16', lambda: native)
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    monkeypatch.setattr(demo, 'subprocess', SimpleNamespace(run=lambda command: begun.append(command) or SimpleNamespace(
        returncode=7)))
    with pytest.raises(SystemExit) as stopped:
        demo.main([])
    assert stopped.value.code == 7 and ('--amp' in begun[0]) == native and len(begun) == 1


def test_quick_demo_segments_streets_that_it_draws(tmp_path):
    """About 70 mIoU on any streets; a model of untrained weights has less than 5."""
    miou, pictures = quick_demo(tmp_path, scenes=2, seed=5_000_000)
    assert 55 < miou < 85 and len(pictures) == 2
    shown = [np.array(Image.open(picture)) for picture in pictures]
    assert shown[0].shape == shown[1].shape and (shown[0] != shown[1]).any()
    assert quick_demo(tmp_path, scenes=2, seed=5_000_000)[0] == miou
