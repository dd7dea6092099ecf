"""CamVid in the 11-class split that SegNet (arXiv:1511.00561) established."""
from ..core.labels import IGNORE
from ..registry import DATASETS
from .paired import PairedSegDataset

VOID = 11


@DATASETS.register_module()
class CamVidDataset(PairedSegDataset):
    """CamVid: ``train/NAME.png``, ``trainannot/NAME.png``, and so on for ``val`` and ``test``; images may have other formats.

    Labels are class indices 0 to 10; 11 is void and ignored.

    Args:
        **kwargs: arguments of MMSegmentation's ``BaseSegDataset``; e.g. ``data_root='data/camvid'`` and
            ``data_prefix=dict(img_path='train', seg_map_path='trainannot')``.
    """
    METAINFO = dict(
        classes=('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign symbol', 'fence', 'car', 'pedestrian',
                 'bicyclist'),
        palette=[[128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
                 [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192]])
    LAYOUT = 'train/, trainannot/, val/ and valannot/ with images and label PNG files of the same names'

    def raw_label_map(self, label_path: str) -> dict[int, int]:
        return {**{index: index for index in range(VOID)}, VOID: IGNORE}
