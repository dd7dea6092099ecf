"""Testing and predicting with what ``tools/deploy.py`` exported, through the same data sets and metrics."""
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor

from ..deploy.runtime import BACKENDS, PROGRAM, REPORT, Predictor, load
from ..errors import CheckpointError, UserError
from ..reading import trusted
from ..registry import MODELS
from .building import FUSED_CONFIG
from .classes import check_same_classes
from .dataset_configs import datasets_in
from .pipelines import without_normalize


def is_exported(checkpoint: str) -> bool:
    """Whether a checkpoint argument is an exported file, or a folder that holds only such."""
    path = Path(checkpoint)
    return path.suffix in BACKENDS or (path.is_dir() and (path / REPORT).is_file() and not (path / FUSED_CONFIG).is_file())


def load_exported(checkpoint: str) -> Predictor:
    """Load an exported file that was given as a checkpoint.

    Raises:
        UserError: it cannot be loaded, or is not the file that was exported.
        CheckpointError: it is a program, and checkpoints are not trusted.
    """
    refuse_program(Path(checkpoint))
    return load(checkpoint, verify=not trusted())


def refuse_program(path: Path) -> None:
    """Refuse a ``.pt2`` file, which can run any code, unless checkpoints are trusted.

    Raises:
        CheckpointError: it is one.
    """
    if path.suffix == PROGRAM and not trusted():
        raise CheckpointError(f'{path} is a program, which can run any code; if you know who made it, add --trust-checkpoint, '
                              'else use another format')


def window_of(config: Config) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Height and width of the windows to which the config's segmentor cuts images, and by which they move; None where not."""
    test_cfg = config.model.get('test_cfg') or {}
    return (test_cfg.crop_size, test_cfg.stride) if test_cfg.get('mode') == 'slide' else (None, None)


def exported_config(config: Config, checkpoint: str) -> dict:
    """The model config of an :class:`ExportedSegmentor` that cuts images as the config's segmentor does.

    The config's test pipelines lose their ``Normalize`` steps, which are part of what was exported.
    """
    normalize_no_more(config)
    window, stride = window_of(config)
    return dict(type='repvgg_seg.ExportedSegmentor', source=checkpoint, window=window, stride=stride)


def normalize_no_more(config: Config) -> None:
    """Remove the ``Normalize`` steps from the test pipelines of a config."""
    for dataset in datasets_in(config.test_dataloader.dataset):
        dataset.pipeline = without_normalize(dataset.pipeline)[0]


@MODELS.register_module()
class ExportedSegmentor(BaseModel):
    """An exported file in the place of a segmentor, for testing.

    Args:
        source: the file or folder, or what :func:`repvgg_seg.deploy.runtime.load` made of it.
        window: height and width to which larger images are cut; None for whole images.
        stride: by which the windows move.
    """

    def __init__(self, source: str | Predictor, window: tuple[int, int] | None = None,
                 stride: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.predictor = source if isinstance(source, Predictor) else load_exported(source)
        if self.predictor.artefact['output'] != 'labels':
            raise UserError(f'{source} was exported with --logits; export it without to test or predict with it here')
        self.window = window
        self.overlap = (window[0] - stride[0], window[1] - stride[1]) if window else (0, 0)
        if window and self.predictor.size and tuple(window) != self.predictor.size:
            raise UserError(f'{source} takes images of {self.predictor.size}, but the config tests in windows of '
                            f'{tuple(window)}; set model.test_cfg.crop_size, or export without --size')

    def forward(self, inputs: list[Tensor], data_samples: list, mode: str = 'predict') -> list:
        """Segment images.

        Args:
            inputs: uint8 BGR (C, H, W) each, as the test pipeline packs them.
            data_samples: of MMSegmentation, one for each image.
            mode: 'predict'; there is nothing to train.

        Returns:
            The samples with ``pred_sem_seg``, class indices (1, H, W) at the size of the original image.
        """
        for image, sample in zip(inputs, data_samples):
            pixels = image.permute(1, 2, 0).numpy()
            if self.predictor.channels == 'RGB':
                pixels = pixels[..., ::-1]
            labels = torch.from_numpy(self.predictor(pixels, self.window, self.overlap))[None, None]
            if labels.shape[2:] != torch.Size(sample.ori_shape):
                labels = F.interpolate(labels, size=sample.ori_shape, mode='nearest-exact')
            sample.pred_sem_seg = PixelData(data=labels[0].long())
        return data_samples

    def test_step(self, data: dict) -> list:
        """Segment a batch of a data loader; normalisation is part of what was exported."""
        return self(data['inputs'], data['data_samples'])

    val_step = test_step


def check_classes_of_export(model: ExportedSegmentor, classes: Sequence[str]) -> None:
    """Compare the classes of an exported segmentor with those of a data set.

    Raises:
        UserError: they differ.
    """
    check_same_classes('the exported segmentor', model.predictor.classes, 'the test set', classes)
