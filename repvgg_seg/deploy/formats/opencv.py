"""ONNX files in the form that is fastest in OpenCV: one image of one size, without dilated convolutions."""
from .format import Format
from .onnx import export

FORMAT = Format('.opencv.onnx', ('fp32', ), export, ('onnx', 'onnxscript', 'cv2'), 'onnx', any_size=False, batches=False,
                undilate=True, abstains=True)
