"""Labels from the polygons and masks that annotation tools write: LabelMe and COCO."""
from .making import Made, make_labels

__all__ = ['Made', 'make_labels']
