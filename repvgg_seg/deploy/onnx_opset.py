"""Writing an ONNX model in another opset than the one that PyTorch exports."""
from typing import TYPE_CHECKING

from ..core.errors import UserError
from .graph import OPSET

if TYPE_CHECKING:
    import onnx

OPSETS = range(15, 24)  # In which exports are tested.
AXES_AS_INPUT = 18  # Opset since which reductions take their axes as an input, no longer as an attribute.
# Attributes that came with opset 18, and the value with which they change nothing; None if every value does.
NEW: dict[str, dict[str, object]] = {'Resize': {'antialias': 0, 'keep_aspect_ratio_policy': b'stretch'},
                                     'Split': {'num_outputs': None}}


def in_opset(model: 'onnx.ModelProto', opset: int) -> 'onnx.ModelProto':
    """Return a model in an opset.

    Args:
        model: model in the opset :data:`~repvgg_seg.deploy.graph.OPSET`.
        opset: one of :data:`OPSETS`.

    Raises:
        UserError: the opset lacks an operator of the model, or one of its options.
    """
    import onnx
    from onnx import helper, version_converter
    if opset == OPSET:
        return model
    try:
        converted = version_converter.convert_version(model, opset) if opset > OPSET else _lowered(model, opset)
        converted.ir_version = helper.find_min_ir_version_for(list(converted.opset_import))
        onnx.checker.check_model(converted, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, version_converter.ConvertError) as error:
        reason = ' '.join(str(error).split())
        raise UserError(f'the model cannot be written in opset {opset} ({reason}); leave --opset out for {OPSET}') from None
    return converted


def _lowered(model: 'onnx.ModelProto', opset: int) -> 'onnx.ModelProto':
    """Return a model in an older opset, to which ONNX has no converter: what is new is written as before, if it can be."""
    import onnx
    from onnx import helper, numpy_helper
    lowered = onnx.ModelProto()
    lowered.CopyFrom(model)
    graph = lowered.graph
    constants = {constant.name: constant for constant in graph.initializer}
    for node in graph.node:
        new = NEW.get(node.op_type, {})
        kept = [each for each in node.attribute
                if each.name not in new or new[each.name] not in (None, helper.get_attribute_value(each))]
        # The axes of ReduceSum are an input since opset 13.
        if node.op_type.startswith('Reduce') and node.op_type != 'ReduceSum' and len(node.input) > 1:
            axes = numpy_helper.to_array(constants[node.input.pop()]).tolist()
            kept = [*(each for each in kept if each.name == 'keepdims'), helper.make_attribute('axes', axes)]
        del node.attribute[:]
        node.attribute.extend(kept)
    used = {name for node in graph.node for name in node.input}
    kept_constants = [constant for constant in graph.initializer if constant.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept_constants)
    for imported in lowered.opset_import:
        if not imported.domain:
            imported.version = opset
    return lowered
