"""Exported networks in memory, with one class per file format.

Each network returns logits, or class indices once a decision is appended. It is exported (and, for 8 bits, calibrated) only
once: a file that returns class indices contains the same network followed by a few operations.
"""
import copy
import io
import math
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.onnx import ONNXProgram

from ..core.files import telling_full_disk
from ..core.labels import IGNORE
from .comparison import Decision
from .constants import fold_constants
from .graph import OPSET, FloatPixels, Graph, check_open, fixed_size_error, resize_without_warning
from .ncnn_program import NcnnProgram, convert
from .onnx_opset import AXES_AS_INPUT
from .onnx_tidying import tidy

if TYPE_CHECKING:
    import onnx
    import openvino
    from mmengine.model import BaseModel

    from .plan import DeployPlan


AXES = ('batch', 'height', 'width')  # Names of the open axes of images in ONNX.


class Program(Protocol):
    """An exported network in a particular file format. Its input is named ``images``."""

    def with_labels(self, decision: Decision) -> 'Program':
        """Return the same network followed by the decision; its output is ``labels`` instead of ``logits``."""

    def save(self, path: Path) -> None:
        """Write the file. If the format has a second file for the weights, it is written next to the first."""


class TorchProgram:
    """A network as PyTorch's exported program.

    Args:
        program: program with one output.
    """

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program

    def with_labels(self, decision: Decision) -> 'TorchProgram':
        """See :class:`Program`."""
        program = copy.deepcopy(self.program)
        graph = program.graph_module.graph
        end = graph.output_node()
        logits = cast(tuple, end.args[0])[0]
        aten = torch.ops.aten
        # Besides the graph, PyTorch stores its signature and its nodes' values, which must be updated here. Tracing again would
        # take 50 times as long.
        with graph.inserting_before(end), logits.meta['val'].fake_mode:
            def call(function: Any, *arguments: Any) -> torch.fx.Node:
                node = graph.call_function(function, arguments)
                node.meta['val'] = function(*torch.fx.node.map_arg(arguments, lambda argument: argument.meta['val']))
                return node

            if decision.threshold is None:
                labels = call(aten.argmax.default, logits, 1)
            else:
                labels = call(aten.gt.Scalar, call(aten.sigmoid.default, call(aten.select.int, logits, 1, 0)),
                              decision.threshold)
            if decision.confidences is not None:
                limits = call(aten.stack.default, [call(aten.scalar_tensor.default, limit) for limit in decision.confidences])
                sure = call(aten.ge.Tensor, call(aten.amax.default, call(aten.softmax.int, logits, 1), [1]),
                            call(aten.take.default, limits, labels))
                labels = call(aten.where.ScalarOther, sure, labels, IGNORE)
            for dtype in _casts(decision.dtype):
                labels = call(aten.to.dtype, labels, getattr(torch, dtype))
        end.args = ((labels, ), )
        program.graph_signature.replace_all_uses(logits.name, labels.name)
        program.graph_module.recompile()
        decided = copy.copy(self)
        decided.program = program
        return decided

    def save(self, path: Path) -> None:
        """See :class:`Program`."""
        buffer = io.BytesIO()  # PyTorch terminates the process if it runs out of disk space itself.
        torch.export.save(self.program, buffer)
        path.write_bytes(buffer.getbuffer())


class OnnxProgram:
    """A network as an ONNX model, including its weights.

    Args:
        model: model with one output.
    """

    def __init__(self, model: 'onnx.ModelProto') -> None:
        self.model = model

    def with_labels(self, decision: Decision) -> 'OnnxProgram':
        """See :class:`Program`."""
        from onnx import ModelProto, TensorProto, helper
        model = ModelProto()
        model.CopyFrom(self.model)
        graph = model.graph
        logits = graph.output[0]
        dtypes = dict(uint8=TensorProto.UINT8, int64=TensorProto.INT64, float32=TensorProto.FLOAT)
        if decision.threshold is None:
            nodes = [helper.make_node('ArgMax', [logits.name], ['class_indices'], 'decide', axis=1, keepdims=0)]
        else:
            graph.initializer.append(helper.make_tensor('decision_threshold', TensorProto.FLOAT, (), [decision.threshold]))
            graph.initializer.append(helper.make_tensor('decision_channel', TensorProto.INT64, (), [0]))
            nodes = [helper.make_node('Gather', [logits.name, 'decision_channel'], ['single_logits'], 'select', axis=1),
                     helper.make_node('Sigmoid', ['single_logits'], ['probabilities'], 'squash'),
                     helper.make_node('Greater', ['probabilities', 'decision_threshold'], ['class_indices'], 'decide')]
        indices = 'class_indices'
        if decision.confidences is not None:
            as_input = next(each.version for each in model.opset_import if not each.domain) >= AXES_AS_INPUT
            constants = [('decision_confidences', TensorProto.FLOAT, decision.confidences),
                         *([('decision_axes', TensorProto.INT64, (1, ))] if as_input else [])]
            for name, kind, value in constants:
                graph.initializer.append(helper.make_tensor(name, kind, (len(value), ), value))
            graph.initializer.append(helper.make_tensor('decision_unknown', TensorProto.INT64, (), [IGNORE]))
            nodes += [helper.make_node('Softmax', [logits.name], ['probabilities'], 'normalize', axis=1),
                      helper.make_node('ReduceMax', ['probabilities', *(['decision_axes'] if as_input else [])],
                                       ['confidence'], 'rate', keepdims=0, axes=None if as_input else [1]),
                      helper.make_node('Gather', ['decision_confidences', indices], ['limits'], 'look_up'),
                      helper.make_node('GreaterOrEqual', ['confidence', 'limits'], ['sure'], 'doubt'),
                      helper.make_node('Where', ['sure', indices, 'decision_unknown'], ['known_indices'], 'abstain')]
            indices = 'known_indices'
        *before, last = _casts(decision.dtype)
        for dtype in before:
            nodes.append(helper.make_node('Cast', [indices], [f'{dtype}_indices'], f'cast_to_{dtype}', to=dtypes[dtype]))
            indices = f'{dtype}_indices'
        graph.node.extend([*nodes, helper.make_node('Cast', [indices], ['labels'], 'cast', to=dtypes[last])])
        sizes = [size.dim_param or size.dim_value for size in logits.type.tensor_type.shape.dim]
        labels = helper.make_tensor_value_info('labels', dtypes[last], [sizes[0], *sizes[2:]])
        del graph.output[:]
        graph.output.append(labels)
        return OnnxProgram(model)

    def save(self, path: Path) -> None:
        """See :class:`Program`."""
        path.write_bytes(self.model.SerializeToString())


def _casts(dtype: str) -> list[str]:
    """Dtypes through which class indices are converted. TensorRT converts only floating point to 8 bits."""
    return ['float32', dtype] if dtype == 'uint8' else [dtype]


class OpenVinoProgram:
    """A network as an OpenVINO model. For 16-bit precisions, OpenVINO does the rounding at run time.

    Args:
        model: model with one output.
        half: whether weights that are not in 8 bits are stored in 16 bits.
    """

    def __init__(self, model: 'openvino.Model', half: bool) -> None:
        self.model, self.half = model, half

    def with_labels(self, decision: Decision) -> 'OpenVinoProgram':
        """See :class:`Program`."""
        import numpy as np
        import openvino
        from openvino import opset13 as operations
        model = self.model.clone()
        logits = model.get_results()[0].input_value(0)
        axis = operations.constant(np.array([1]))
        if decision.threshold is None:
            labels = operations.squeeze(operations.topk(logits, np.int64(1), 1, 'max', 'value', 'i64').output(1), axis)
        else:
            probabilities = operations.sigmoid(operations.squeeze(logits, axis))
            labels = operations.greater(probabilities, operations.constant(np.float32(decision.threshold)))
        if decision.confidences is not None:
            # As integers, because save_model() would round them to 16 bits.
            scaled = [operations.convert(operations.constant(np.int32(np.multiply(value, 2**24))), 'f32')
                      for value in (decision.confidences, 1)]
            limits = operations.gather(operations.divide(*scaled), labels, np.int64(0))
            confidence = operations.reduce_max(operations.softmax(logits, 1), axis)
            labels = operations.select(operations.greater_equal(confidence, limits), labels, np.int64(IGNORE))
        labels = operations.convert(labels, dict(uint8='u8', int64='i64')[decision.dtype])
        labels.output(0).set_names({'labels'})
        return OpenVinoProgram(openvino.Model([labels], model.get_parameters(), model.get_friendly_name()), self.half)

    def save(self, path: Path) -> None:
        """See :class:`Program`."""
        import openvino
        weights = [node for node in self.model.get_ops() if node.get_type_name() == 'Constant']
        size = sum(math.prod(node.get_output_shape(0)) * node.get_output_element_type(0).size for node in weights)
        with telling_full_disk(path, size // 2 if self.half else size):
            openvino.save_model(self.model, path, compress_to_fp16=self.half)


class Exporter:
    """Exports a model that takes images (N, H, W, channels) and returns logits. Each form is exported once.

    Args:
        plan: deployment plan.
        model: fused model on the CPU; it is copied.
        size: height and width of the traced example, and of all images unless the plan leaves the size open.
    """

    def __init__(self, plan: 'DeployPlan', model: 'BaseModel', size: tuple[int, int]) -> None:
        self.plan, self.model, self.size = plan, model, size
        self.programs: dict[torch.dtype, ExportedProgram] = {}
        self.onnx_programs: dict[torch.dtype, ONNXProgram] = {}

    def graph(self, dtype: torch.dtype = torch.float32) -> Graph:
        """Build the graph as a PyTorch module."""
        model = copy.deepcopy(self.model)
        return self.plan.task.graph(model, self.plan.normalization, self.plan.request.channels, dtype).eval()

    def program(self, dtype: torch.dtype = torch.float32) -> ExportedProgram:
        """Export the graph as a PyTorch exported program.

        Raises:
            UserError: the plan leaves the size open, but the model treats the size of the example as a constant.
        """
        if dtype not in self.programs:
            request, graph = self.plan.request, self.graph(dtype)
            # torch.export would treat an open batch size of 1 as a constant.
            example = torch.zeros(request.fixed_batch or 2, *self.size, self.plan.normalization.channels,
                                  dtype=getattr(torch, self.plan.dtype))
            with torch.no_grad(), resize_without_warning():
                program = export_program(graph, example, dict.fromkeys(self.open_axes, Dim.DYNAMIC))
                fold_constants(program)
                if request.size is None:
                    check_open(program, example, type(graph.head).__name__)
            self.programs[dtype] = program
        return self.programs[dtype]

    @property
    def open_axes(self) -> dict[int, str]:
        """Axes of the images whose size is open, and their names."""
        request = self.plan.request
        fixed = (request.fixed_batch, request.size, request.size)
        return {axis: AXES[axis] for axis, size in enumerate(fixed) if size is None}

    def onnx(self, dtype: torch.dtype = torch.float32) -> ONNXProgram:
        """Export the graph as an ONNX program."""
        if dtype not in self.onnx_programs:
            program = cast(ONNXProgram, torch.onnx.export(
                self.program(dtype), dynamo=True, opset_version=OPSET, verbose=False, input_names=['images'],
                output_names=['logits'], dynamic_shapes=(self.open_axes, )))
            tidy(program.model)
            self.onnx_programs[dtype] = program
        return self.onnx_programs[dtype]

    def openvino(self, folder: Path, half: bool) -> OpenVinoProgram:
        """Convert the graph to OpenVINO.

        Args:
            folder: folder for a temporary file.
            half: see :class:`OpenVinoProgram`.
        """
        import openvino
        with TemporaryDirectory(dir=folder) as temporary:
            self.onnx().save(path := Path(temporary, 'source.onnx'))
            return OpenVinoProgram(openvino.convert_model(path), half)

    @cached_property
    def of_float_pixels(self) -> ExportedProgram:
        """The graph as an exported program of float32 pixels (1, channels, H, W), for one image of the example's size."""
        pixels = torch.zeros(1, self.plan.normalization.channels, *self.size)
        with torch.no_grad():
            program = torch.export.export(FloatPixels(self.graph()), (pixels, ))
            fold_constants(program)
        return program

    @cached_property
    def ncnn(self) -> NcnnProgram:
        """The graph as an ncnn program in float32, which takes one image of the example's size at a time."""
        return convert(FloatPixels(self.graph()), (self.plan.normalization.channels, *self.size))


def export_program(graph: Graph, example: Tensor, shape: dict[int, Any]) -> ExportedProgram:
    """Export a graph.

    Args:
        graph: graph to trace.
        example: example images (N, H, W, channels).
        shape: axes of the images that are dynamic.

    Raises:
        UserError: the graph treats the size of the example as a constant.
    """
    from torch._dynamo.exc import UserError as ConstraintError
    try:
        return torch.export.export(graph, (example, ), dynamic_shapes=(shape, ))
    except ConstraintError as error:
        raise fixed_size_error(type(graph.head).__name__, str(error).strip().splitlines()[0]) from None
