"""ToyStreets: drawn street scenes for trying everything without a download."""
import os
from typing import Any

from mmengine.dist import barrier, is_main_process

from ..registry import DATASETS
from .cityscapes import CityscapesDataset
from .toy import CLASSES, write_toy_streets


@DATASETS.register_module()
class ToyStreets(CityscapesDataset):
    """Procedurally drawn street scenes in the layout of Cityscapes, generated in ``data_root`` on first use.

    12 of the 19 Cityscapes classes occur, with their label ids.

    Args:
        data_root: folder of the dataset; it is generated there if necessary.
        **kwargs: other arguments of :class:`CityscapesDataset`.
    """
    METAINFO = dict(classes=tuple(name for name, _, _ in CLASSES), palette=[list(color) for _, _, color in CLASSES],
                    label_ids=tuple(label_id for _, label_id, _ in CLASSES))

    def __init__(self, data_root: str = 'data/toystreets', **kwargs: Any) -> None:
        if is_main_process() and not os.path.lexists(data_root):
            write_toy_streets(data_root)
        barrier()
        super().__init__(data_root=data_root, **kwargs)
