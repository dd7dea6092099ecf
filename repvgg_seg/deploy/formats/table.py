"""All formats, by the names that ``--formats`` takes."""
from . import aotinductor, coreml, executorch, litert, ncnn, onnx, opencv, openvino, pt2, pth, safetensors, web

FORMATS = {'pth': pth.FORMAT, 'safetensors': safetensors.FORMAT, 'onnx': onnx.FORMAT, 'openvino': openvino.FORMAT,
           'pt2': pt2.FORMAT, 'ncnn': ncnn.FORMAT, 'opencv': opencv.FORMAT, 'litert': litert.FORMAT,
           'executorch': executorch.FORMAT, 'web': web.FORMAT, 'aotinductor': aotinductor.FORMAT,
           'coreml': coreml.FORMAT}
