"""Disabling the usage reports of dependencies."""
import os
import sys

SWITCH = 'REPVGG_SEG_TELEMETRY'  # If set to 1, nothing is disabled.
# Set for this process and its child processes, unless the user has set them. They are read by ONNX Runtime, huggingface_hub,
# and packages that a training can log to: MLflow and W&B, which reports its own errors.
VARIABLES = {'ORT_DISABLE_TELEMETRY': '1', 'HF_HUB_DISABLE_TELEMETRY': '1', 'DO_NOT_TRACK': '1',
             'MLFLOW_DISABLE_TELEMETRY': 'true', 'WANDB_ERROR_REPORTING': 'false'}
# OpenVINO and NNCF send through this package; if it cannot be imported, they work without it.
SENDER = 'openvino_telemetry'


def switch_off() -> None:
    """Prevent all packages from sending usage data from this process; must be called before they are imported."""
    if os.environ.get(SWITCH) == '1':
        return
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault(SENDER, None)  # type: ignore[arg-type]  # Makes Python raise ModuleNotFoundError.
