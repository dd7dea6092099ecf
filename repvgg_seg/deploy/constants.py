"""Constant folding: what a program computes without its input is computed once, when it is exported.

Some runtimes do not fold such computations, or not all of them, and then repeat them for every image or refuse them.
"""
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, TensorArgument

FOLDED = 'folded_{}'


@torch.no_grad()
def fold_constants(program: ExportedProgram) -> None:
    """Replace all tensors of a program that do not depend on its input with constants.

    The operations are evaluated as the program would evaluate them, so its outputs do not change. With a fixed input size,
    sizes are numbers, and everything that depends only on them is folded.

    Args:
        program: program, which is modified.
    """
    graph, signature = program.graph_module.graph, program.graph_signature
    specs = {spec.arg.name: spec for spec in signature.input_specs if spec.kind != InputKind.USER_INPUT}
    values: dict[fx.Node, Any] = {node: _stored(program, specs[node.name]) for node in graph.nodes
                                  if node.op == 'placeholder' and node.name in specs}
    inputs = next(node for node in graph.nodes if node.op == 'placeholder' and node.name not in specs)
    foldable = _foldable(graph, set(values))
    for node in graph.nodes:
        if node in foldable:
            arguments = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            values[node] = node.target(*arguments[0], **arguments[1])
    folded = [node for node in graph.nodes if node in foldable and isinstance(values[node], Tensor)
              and any(user not in foldable for user in node.users)]
    for index, node in enumerate(folded):
        value = values[node].clone(memory_format=torch.contiguous_format)
        target = FOLDED.format(index)
        with graph.inserting_before(inputs):
            constant = graph.placeholder(f'b_{target}')
        constant.meta['val'] = node.meta['val'].fake_mode.from_tensor(value, static_shapes=True)
        node.replace_all_uses_with(constant, lambda user: user not in foldable)
        signature.input_specs.insert(_position(signature.input_specs), InputSpec(
            InputKind.BUFFER, TensorArgument(constant.name), target, persistent=True))
        program.state_dict[target] = value
    for node in reversed(list(graph.nodes)):
        if node in foldable and not node.users:
            graph.erase_node(node)
    _remove_unused(program)
    program.graph_module.recompile()


def _stored(program: ExportedProgram, spec: InputSpec) -> Any:
    """Value of a parameter, buffer or constant of a program."""
    stored = program.state_dict if spec.target in program.state_dict else program.constants
    return stored[str(spec.target)]


def _foldable(graph: fx.Graph, constants: set[fx.Node]) -> set[fx.Node]:
    """Operations that depend only on constants, except random ones and those whose result the program modifies in place."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == 'call_function' and all(each in found or each in constants for each in node.all_input_nodes):
            tags = getattr(node.target, 'tags', ())
            if torch.Tag.nondeterministic_seeded not in tags and not _modifies(node):
                found.add(node)
    modified = [each for node in graph.nodes if _modifies(node) for each in node.all_input_nodes]
    while modified:
        node = modified.pop()
        if node in found:
            found.remove(node)
            modified += node.all_input_nodes
    return found


def _modifies(node: fx.Node) -> bool:
    """Whether an operation modifies an argument in place."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _position(specs: list[InputSpec]) -> int:
    """Index of the first input that is not stored in the program."""
    return next(index for index, spec in enumerate(specs) if spec.kind == InputKind.USER_INPUT)


def _remove_unused(program: ExportedProgram) -> None:
    """Remove parameters, buffers and constants that a program no longer uses."""
    graph, signature = program.graph_module.graph, program.graph_signature
    unused = {node.name: node for node in graph.nodes if node.op == 'placeholder' and not node.users}
    specs = [spec for spec in signature.input_specs if spec.kind == InputKind.USER_INPUT or spec.arg.name not in unused]
    targets = {spec.target for spec in specs}
    for spec in signature.input_specs:
        if spec not in specs:
            graph.erase_node(unused[spec.arg.name])
            if spec.target not in targets:
                program.state_dict.pop(str(spec.target), None)
                program.constants.pop(str(spec.target), None)
    signature.input_specs[:] = specs
