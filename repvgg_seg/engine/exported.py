"""Testing and predicting with what ``tools/deploy.py`` exported, through the same data sets and metrics."""
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor

from ..deploy.runtime import BACKENDS, REPORT, load
from ..errors import UserError
from ..registry import MODELS
from .building import FUSED_CONFIG


def is_exported(checkpoint: str) -> bool:
    """Whether a checkpoint argument is an exported file, or a folder that holds only such."""
    path = Path(checkpoint)
    return path.suffix in BACKENDS or (path.is_dir() and (path / REPORT).is_file() and not (path / FUSED_CONFIG).is_file())


def exported_config(config: Config, checkpoint: str) -> dict:
    """The model config of an :class:`ExportedSegmentor` that cuts images as the config's segmentor does."""
    test_cfg = config.model.get('test_cfg') or {}
    window, stride = (test_cfg.get(name) if test_cfg.get('mode') == 'slide' else None for name in ('crop_size', 'stride'))
    return dict(type='repvgg_seg.ExportedSegmentor', path=checkpoint, window=window, stride=stride)


@MODELS.register_module()
class ExportedSegmentor(BaseModel):
    """An exported file in the place of a segmentor, for testing.

    Args:
        path: the file or folder.
        window: height and width to which larger images are cut; None for whole images.
        stride: by which the windows move.
    """

    def __init__(self, path: str, window: tuple[int, int] | None = None, stride: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.predictor = load(path)
        if self.predictor.artefact['output'] != 'labels':
            raise UserError(f'{path} was exported with --logits; export it without to test or predict with it here')
        self.window = window
        self.overlap = min(window[0] - stride[0], window[1] - stride[1]) if window else 64

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str = 'predict') -> list:
        """Segment images.

        Args:
            inputs: uint8 BGR (3, H, W) each, as the test pipeline packs them.
            data_samples: of MMSegmentation, one for each image.
            mode: 'predict'; there is nothing to train.

        Returns:
            The samples with ``pred_sem_seg``, class indices (1, H, W) at the size of the original image.
        """
        for image, sample in zip(inputs, data_samples):
            pixels = image.permute(1, 2, 0).numpy()
            labels = self.predictor(pixels if self.predictor.channels == 'BGR' else pixels[..., ::-1].copy(), self.window,
                                    self.overlap)
            labels = torch.from_numpy(labels)[None, None]
            if labels.shape[2:] != torch.Size(sample.ori_shape):
                labels = F.interpolate(labels, size=sample.ori_shape, mode='nearest')
            sample.pred_sem_seg = PixelData(data=labels[0].long())
        return data_samples

    def test_step(self, data: dict) -> list:
        """Segment a batch of a data loader; normalisation is part of what was exported."""
        return self(data['inputs'], data['data_samples'])

    val_step = test_step
