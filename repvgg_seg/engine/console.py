"""MMEngine's runner with a short console output, which does not overwrite a config that is already in the work dir."""
import logging
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import Runner as _MMEngineRunner
from torch import nn

from ..core.configs import files_of_config
from ..core.files import identity
from ..core.noise import is_for_users
from .safe_loading import load_safely


class ConciseRunner(_MMEngineRunner):
    """MMEngine's runner, which prints one line: what runs where, and which file contains the rest of the log.

    Attributes:
        is_temporary: whether the work dir will be removed, so that no file contains the rest of the log.
    """
    is_temporary = False

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger."""
        logger = super().build_logger(*args, **kwargs)
        files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        for handler in logger.handlers:
            if handler not in files:
                handler.addFilter(is_for_users)
        device = get_device()
        device = torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads'
        details = f'; environment, config and hooks: {files[0].baseFilename}' if files and not self.is_temporary else ''
        logger.info(f'{Path(self.cfg.filename or "config").name} with PyTorch {torch.__version__} on {device}{details}')
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; checkpoints that it or a hook loads through MMEngine are read safely."""
        load_safely()
        return super().build_model(model)

    def dump_config(self) -> None:
        """Write the config to the work dir without overwriting a file from which it was read."""
        files = files_of_config(self.cfg)
        if not files or identity(Path(self.work_dir, files[0].name)) not in map(identity, files):
            super().dump_config()
