"""Removing from an exported ONNX model what other programs cannot read, or need not know."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir


def tidy(model: 'onnx_ir.Model') -> None:
    """Tidy a model that PyTorch exported.

    - The images are cast to floating point before anything else reads them, even their shape: TensorRT allows no other
      operation on 8 bits.
    - Shapes inside the network that depend on the size of the images are left to shape inference. PyTorch writes them as
      formulas, which strict readers refuse.
    - The names of source files of the exporting machine, which PyTorch records for every operation, are removed.

    Args:
        model: model with the images as its only input, which is modified.
    """
    graph = model.graph
    images, = graph.inputs
    cast = next(node for node, _ in images.uses() if node.op_type == 'Cast')
    for node, index in list(images.uses()):
        if node is not cast:
            node.replace_input_with(index, cast.outputs[0])
    graph.remove(cast)
    graph.insert_before(graph[0], cast)
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in graph.outputs and value.shape is not None and not value.shape.is_static():
                value.shape = None
