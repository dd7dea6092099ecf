"""tools/demo.py, on a tiny model and with the tools run in this process."""
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]


def test_demo_ends_with_what_it_measured(run_tool, config, streets, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools' / 'demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    for name, value in dict(CONFIG=str(config), IMAGES=streets / 'leftImg8bit/val', WORK_DIR=tmp_path,
                            FUSED=tmp_path / 'fused', PICTURES=tmp_path / 'pictures').items():
        monkeypatch.setattr(demo, name, value)

    def run(command: list[str]) -> subprocess.CompletedProcess:
        assert command[0] == sys.executable
        result = run_tool(Path(command[1]).stem, *command[2:])
        return subprocess.CompletedProcess(command, result.code)

    monkeypatch.setattr(sys, 'argv', ['demo.py'])
    monkeypatch.setattr(demo, 'subprocess', SimpleNamespace(run=run))
    demo.main()
    out = capsys.readouterr().out
    assert re.search(r'mIoU (\d+\.\d\d) trained, \1 fused\nlargest difference of logits \S+e-\d+ ', out)
    assert re.search(r'speed-up by fusing \d+\.\d\dx', out)
    assert Path(re.search(r'look at (\S+)', out)[1]).is_file()
