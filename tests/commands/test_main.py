"""The command repvgg-seg, and the configs that come with it."""
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

import repvgg_seg
from repvgg_seg.commands.main import VERBS, main
from repvgg_seg.core.configs import CONFIGS, existing_config, shipped_names

ROOT = Path(__file__).parents[2]


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    code = 0
    try:
        main(arguments)
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize('arguments', [(), ('--help', ), ('-h', )])
def test_usage_lists_every_command(capsys, monkeypatch, arguments):
    monkeypatch.setattr(sys, 'argv', ['repvgg-seg', *arguments])
    main()
    out = capsys.readouterr().out
    assert all(f'\n  {verb} ' in out and what.what in out for verb, what in VERBS.items())


def test_version(capsys):
    assert call(capsys, '--version') == (0, f'repvgg_seg {repvgg_seg.__version__}\n', '')


@pytest.mark.parametrize(('verb', 'hint'), [
    ('trian', '; did you mean train?'), ('classify_train', '; did you mean classify-train?'), ('fly', '')])
def test_unknown_commands(capsys, verb, hint):
    line = f'error: unknown command {verb}; expected one of {", ".join(VERBS)}{hint}\n'
    assert call(capsys, verb) == (2, '', line)


def test_every_command_has_its_script_in_tools():
    assert {path.stem for path in (ROOT / 'tools').glob('*.py')} == {verb.replace('-', '_') for verb in VERBS}


def test_module_is_the_command(tmp_path):
    result = subprocess.run([sys.executable, '-m', 'repvgg_seg', 'configs', 'pspnet_repvgg_a0_camvid'], cwd=tmp_path,
                            capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ('Wrote pspnet_repvgg_a0_camvid.py and 7 bases; start with repvgg-seg train '
                             'pspnet_repvgg_a0_camvid.py\n')


def test_configs_are_listed(capsys):
    code, out, _ = call(capsys, 'configs')
    listed = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0 and set(listed) == set(shipped_names()) and 'ablations/b0_cifar10' in listed
    assert listed['pspnet_repvgg_a0_camvid'].startswith('PSPNet-RepVGG-A0 on CamVid from scratch')


@pytest.mark.parametrize('name', ['pspnet_repvgg_b2_fast_cityscapes', 'ablations/b0_qarepvgg_imagenet'])
def test_a_copied_config_is_the_same(capsys, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    assert call(capsys, 'configs', name)[0] == 0
    assert Config.fromfile(tmp_path / f'{name}.py').to_dict() == Config.fromfile(CONFIGS / f'{name}.py').to_dict()
    code, _, error = call(capsys, 'configs', name)
    assert code == 2 and error.endswith(' exists already; move it away, or choose another folder with --out\n')
    own = f'{name}.py'
    assert call(capsys, 'configs', own) == (2, '', f'error: {own} is a file of your own; expected one of the names that '
                                            'repvgg-seg configs lists\n')


@pytest.mark.parametrize(('name', 'message'), [
    ('pspnet_repvgg_a0_camvit', 'config pspnet_repvgg_a0_camvit does not exist; did you mean pspnet_repvgg_a0_camvid?'),
    ('nothing_like_it', 'config nothing_like_it does not exist; expected a file, or a name that repvgg-seg configs lists')])
def test_unknown_configs(capsys, name, message):
    assert call(capsys, 'configs', name) == (2, '', f'error: {message}\n')


def test_a_file_of_that_name_comes_first(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert existing_config('repvgg_a0_imagenet') == CONFIGS / 'repvgg_a0_imagenet.py'
    (tmp_path / 'repvgg_a0_imagenet').touch()
    assert existing_config('repvgg_a0_imagenet') == Path('repvgg_a0_imagenet')
