"""Cityscapes in its downloaded form: https://www.cityscapes-dataset.com."""
from typing import Any

from ..core.environment import require_mm
from ..core.images import IMAGE_SUFFIXES
from ..core.labels import IGNORE
from ..registry import DATASETS
from .paired import PairedSegDataset

require_mm('mmengine', 'mmcv', 'mmseg')

from mmseg.datasets import CityscapesDataset as _MMSegCityscapes  # noqa: E402

# Label ids of the 19 evaluated classes, in the order of the train ids (cityscapesScripts, helpers/labels.py).
TRAIN_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
LABEL_IDS = range(34)
LICENSE_PLATE = 255  # label id -1, stored as an unsigned byte


@DATASETS.register_module()
class CityscapesDataset(PairedSegDataset):
    """Cityscapes with ``leftImg8bit/`` and ``gtFine/`` as unzipped, without any preparation step.

    Raw ``*_gtFine_labelIds.png`` files are mapped to the 19 train ids when they are read; if there is a prepared
    ``*_gtFine_labelTrainIds.png`` beside one, it is used instead.

    Args:
        **kwargs: arguments of MMSegmentation's ``BaseSegDataset``; e.g. ``data_root='data/cityscapes'`` and
            ``data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')``.
    """
    METAINFO = dict(**_MMSegCityscapes.METAINFO, label_ids=TRAIN_LABEL_IDS)
    LAYOUT = 'leftImg8bit/{train,val}/CITY/*_leftImg8bit.png and gtFine/{train,val}/CITY/*_gtFine_labelIds.png'

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(img_suffixes=[f'_leftImg8bit{suffix}' for suffix in IMAGE_SUFFIXES],
                         seg_map_suffixes=('_gtFine_labelTrainIds.png', '_gtFine_labelIds.png'), **kwargs)
        ids = dict(zip(self.METAINFO['classes'], self.METAINFO['label_ids']))
        self._metainfo['label_ids'] = tuple(ids[name] for name in self._metainfo['classes'])

    def raw_label_map(self, label_path: str) -> dict[int, int]:
        label_ids = self.METAINFO['label_ids']
        if label_path.lower().endswith('_labeltrainids.png'):
            return {**{index: index for index in range(len(label_ids))}, IGNORE: IGNORE}
        return {**{raw: IGNORE for raw in (*LABEL_IDS, LICENSE_PLATE)},
                **{raw: index for index, raw in enumerate(label_ids)}}
