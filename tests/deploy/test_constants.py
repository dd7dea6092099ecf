"""What a program computes without its input is a constant of its file, and nothing else is."""
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from repvgg_seg.deploy.constants import fold_constants


class Computing(nn.Module):
    """Computes with its weights, with the size of its input, and with constants that it changes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 6))
        self.register_buffer('scale', torch.tensor([2., 3.]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (self.weight * self.scale[0]).split([2, 4], dim=1)
        places = torch.arange(x.shape[1], dtype=torch.float32)
        changed = torch.zeros(4)
        changed[0] = x.sum()  # Not a constant, although it begins as one.
        return (x * (places < 3).float()) @ second + first.sum() + changed


def export(fixed: bool) -> tuple[nn.Module, torch.export.ExportedProgram]:
    model = Computing().eval()
    shape = {} if fixed else {0: Dim.DYNAMIC}
    return model, torch.export.export(model, (torch.randn(2, 4), ), dynamic_shapes=(shape, ))


def operators(program: torch.export.ExportedProgram) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == 'call_function'}


@pytest.mark.parametrize('fixed', [True, False])
def test_constants_are_folded(tmp_path, fixed):
    model, program = export(fixed)
    assert {'aten.arange.default', 'aten.split_with_sizes.default', 'aten.lt.Scalar'} <= operators(program)
    fold_constants(program)
    program.graph.lint()
    program.validate()
    assert not {'aten.arange.default', 'aten.split_with_sizes.default', 'aten.lt.Scalar'} & operators(program)
    assert 'aten.zeros.default' in operators(program), 'a tensor that changes with the input'
    assert set(program.state_dict) == {'folded_0', 'folded_1', 'folded_2'} and not program.constants
    assert all(value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
               for value in program.state_dict.values()), 'no slice keeps its whole'
    torch.export.save(program, tmp_path / 'program.pt2')
    loaded = torch.export.load(tmp_path / 'program.pt2').module()
    for seed in range(2):  # The second time as the first.
        x = torch.randn(2 if fixed else 3 + seed, 4, generator=torch.Generator().manual_seed(seed))
        for run in (program.module(), loaded):
            torch.testing.assert_close(run(x), model(x), rtol=0, atol=0)


def test_random_numbers_are_not_constants():

    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand(3)

    program = torch.export.export(Noisy(), (torch.zeros(3), ))
    fold_constants(program)
    assert 'aten.rand.default' in operators(program) and not program.state_dict
