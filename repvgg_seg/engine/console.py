"""MMEngine's runner with a short console, which leaves a config alone that is in the work dir already."""
import logging
from pathlib import Path

import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import Runner as _MMEngineRunner
from torch import nn

from ..configs import files_of_config
from ..files import identity
from ..noise import is_for_users
from .safe_loading import load_safely


class ConciseRunner(_MMEngineRunner):
    """MMEngine's, which says on the console in one line what runs where, and which file has the rest."""

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger."""
        logger = super().build_logger(*args, **kwargs)
        files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        for handler in logger.handlers:
            if handler not in files:
                handler.addFilter(is_for_users)
        device = get_device()
        device = torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads'
        details = f'; environment, config and hooks: {files[0].baseFilename}' if files else ''
        logger.info(f'{Path(self.cfg.filename or "config").name} with PyTorch {torch.__version__} on {device}{details}')
        return logger

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; what it, or a hook, loads by MMEngine is read safely."""
        load_safely()
        return super().build_model(model)

    def dump_config(self) -> None:
        """Write the config into the work dir, but over no file that it was read from."""
        files = files_of_config(self.cfg)
        if not files or identity(Path(self.work_dir, files[0].name)) not in map(identity, files):
            super().dump_config()
