"""Packages that were compiled for other CPUs are refused, since their instructions would end the process."""
import json
import platform
import zipfile
from types import SimpleNamespace

import pytest
import torch
from torch._inductor import config

from repvgg_seg.core.errors import InstallationError, UserError
from repvgg_seg.deploy.formats.aotinductor import FORMAT
from repvgg_seg.runtime.aotinductor import check_cpu, load
from repvgg_seg.runtime.backend import Setting

CPU = dict(architecture='x86_64', avx2=True, avx512_f=True, avx512_vnni=False, amx_tile=False)


@pytest.mark.parametrize(('machine', 'needed', 'lacking'), [
    ('x86_64', 'AVX2', ''), ('x86_64', 'AVX512', ''), ('x86_64', 'INVALID_VEC_ISA', ''),
    ('x86_64', 'AVX512 AVX512_VNNI', ' without avx512_vnni'),
    ('x86_64', 'AVX512 AVX512_VNNI AMX_TILE', ' without avx512_vnni amx_tile'), ('aarch64', 'NEON', ' without neon')])
def test_the_cpu_must_know_the_instructions(machine, needed, lacking, tmp_path):
    path = tmp_path / 'model.fp32.aoti.pt2'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('model/data/aotinductor/model/abc.wrapper_metadata.json',
                         json.dumps(dict(AOTI_MACHINE=machine, AOTI_CPU_ISA=needed)))
    if not lacking:
        check_cpu(path, CPU)
        return
    with pytest.raises(UserError) as raised:
        check_cpu(path, CPU)
    assert str(raised.value) == (f'{path} was compiled for CPUs of {machine} with {needed.lower()}, this one is '
                                 f'x86_64{lacking}; export it on this machine')


def test_a_pytorch_that_is_too_old(tmp_path):
    old = SimpleNamespace(cpu=SimpleNamespace(), __version__='2.6.0')
    with pytest.raises(InstallationError) as raised:
        load(old, tmp_path / 'm.aoti.pt2', 'fp32', Setting())
    assert str(raised.value) == ('m.aoti.pt2 needs a newer PyTorch, such as that which wrote it, found 2.6.0; run: pip install '
                                 '--upgrade torch')


@pytest.mark.skipif(not hasattr(torch.cpu, 'get_capabilities'), reason='needs a newer PyTorch')
def test_this_cpu_has_the_capabilities_by_these_names():
    """Those that can be asked for on this kind of CPU."""
    found = torch.cpu.get_capabilities()
    assert found['architecture'] == platform.machine()
    if platform.machine() == 'x86_64':
        assert CPU.keys() <= found.keys()


def test_without_a_compiler(tmp_path):
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2, 2), ))
    exporter = SimpleNamespace(program=lambda dtype: program)
    with config.patch({'cpp.cxx': ('no-such-compiler', )}), pytest.raises(InstallationError) as raised:
        FORMAT.export(exporter, 'fp32', tmp_path).save(tmp_path / 'model.fp32.aoti.pt2')
    assert str(raised.value) == ('aotinductor needs a C++ compiler, such as g++, which is not installed; install one, or leave '
                                 'aotinductor out')
    assert not list(tmp_path.iterdir())
