"""Packages that were compiled for other CPUs are refused, since their instructions would end the process."""
import json
import zipfile
from types import SimpleNamespace

import pytest
import torch
from torch._inductor import config

from repvgg_seg.core.errors import InstallationError, UserError
from repvgg_seg.deploy.formats.aotinductor import FORMAT
from repvgg_seg.runtime.aotinductor import check_cpu


@pytest.mark.parametrize(('machine', 'needed', 'found', 'fits'), [
    ('x86_64', 'AVX2', 'AVX2', True), ('x86_64', 'AVX2', 'AVX512', True), ('x86_64', 'AVX512', 'AVX2', False),
    ('x86_64', 'AVX512 AMX_TILE', 'AVX512', True), ('x86_64', 'AVX2', 'DEFAULT', False), ('aarch64', 'NEON', 'DEFAULT', False),
    ('x86_64', '', 'DEFAULT', True)])
def test_the_cpu_must_know_the_instructions(machine, needed, found, fits, tmp_path):
    path = tmp_path / 'model.fp32.aoti.pt2'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('model/data/aotinductor/model/abc.wrapper_metadata.json',
                         json.dumps(dict(AOTI_MACHINE=machine, AOTI_CPU_ISA=needed)))
    if fits:
        check_cpu(path, 'x86_64', found)
        return
    with pytest.raises(UserError) as raised:
        check_cpu(path, 'x86_64', found)
    assert str(raised.value) == (f'{path} was compiled for CPUs of {machine} with {needed}, this one is x86_64 with {found}; '
                                 'export it on this machine')


def test_without_a_compiler(tmp_path):
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2, 2), ))
    exporter = SimpleNamespace(program=lambda dtype: program)
    with config.patch({'cpp.cxx': ('no-such-compiler', )}), pytest.raises(InstallationError) as raised:
        FORMAT.export(exporter, 'fp32', tmp_path).save(tmp_path / 'model.fp32.aoti.pt2')
    assert str(raised.value) == ('aotinductor needs a C++ compiler, such as g++, which is not installed; install one, or leave '
                                 'aotinductor out')
    assert not list(tmp_path.iterdir())
