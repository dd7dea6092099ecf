"""MMEngine's runner with a short console output, which does not overwrite a config that is already in the work dir."""
import logging
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import Runner as _MMEngineRunner
from mmengine.visualization import Visualizer
from torch import nn

from ..core.configs import files_of_config
from ..core.errors import UserError
from ..core.files import identity
from ..core.noise import keep_from_console
from ..core.seeds import SEEDS
from .safe_loading import load_safely


class ConciseRunner(_MMEngineRunner):
    """MMEngine's runner, which prints one line: what runs where, and which file contains the rest of the log.

    Attributes:
        is_temporary: whether the work dir will be removed, so that no file contains the rest of the log.
        started: number of runs that this process started in each second.
    """
    is_temporary = False
    started: ClassVar[Counter[str]] = Counter()

    def setup_env(self, env_cfg: dict) -> None:
        """Set up the environment, and make the time that names the run unique in this process.

        MMEngine counts seconds, and a run continues the log and the best score of an earlier run with its name.
        """
        super().setup_env(env_cfg)
        self.started[second := self.timestamp] += 1
        if (count := self.started[second]) > 1:
            self._timestamp = f'{second}_{count}'

    def set_randomness(self, seed: int | None = None, *args: Any, **kwargs: Any) -> None:
        """Set the seed of the run; None for a random one.

        Raises:
            UserError: the seed is not one that NumPy accepts.
        """
        if seed is not None and not (type(seed) is int and seed in SEEDS):
            raise UserError(f'randomness.seed is {seed!r}; expected a whole number from 0 to {SEEDS[-1]}, or None for a '
                            'random one')
        super().set_randomness(seed, *args, **kwargs)

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger."""
        logger = super().build_logger(*args, **kwargs)
        keep_from_console(logger)
        files = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        device = get_device()
        device = torch.cuda.get_device_name() if device == 'cuda' else f'{device}, {torch.get_num_threads()} threads'
        details = f'; environment, config and hooks: {files[0].baseFilename}' if files and not self.is_temporary else ''
        logger.info(f'{Path(self.cfg.filename or "config").name} with PyTorch {torch.__version__} on {device}{details}')
        return logger

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer under the name of the run.

        Under the name in the config, MMEngine would return that of an earlier run in this process, with the folder of that run.
        """
        if isinstance(visualizer, dict):
            visualizer = {**visualizer, 'name': self.experiment_name}
        return super().build_visualizer(visualizer)

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build the model; checkpoints that it or a hook loads through MMEngine are read safely."""
        load_safely()
        return super().build_model(model)

    def dump_config(self) -> None:
        """Write the config to the work dir without overwriting a file from which it was read."""
        files = files_of_config(self.cfg)
        if not files or identity(Path(self.work_dir, files[0].name)) not in map(identity, files):
            super().dump_config()
