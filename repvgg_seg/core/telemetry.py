"""Switching off what packages below us send about their use."""
import os
import sys

SWITCH = 'REPVGG_SEG_TELEMETRY'  # Set to 1, it leaves these packages as they are.
# Set for this process and those that it starts, unless the user has set them. The first two are read by packages that the
# tools use: ONNX Runtime and huggingface_hub.
VARIABLES = {'ORT_DISABLE_TELEMETRY': '1', 'HF_HUB_DISABLE_TELEMETRY': '1', 'DO_NOT_TRACK': '1'}
# Through this package OpenVINO and NNCF send; they do without where it cannot be imported.
SENDER = 'openvino_telemetry'


def switch_off() -> None:
    """Let no package send usage data from this process; to be called before they are imported."""
    if os.environ.get(SWITCH) == '1':
        return
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault(SENDER, None)  # type: ignore[arg-type]  # Python then raises ModuleNotFoundError.
