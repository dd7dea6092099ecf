"""Make label files from the polygons and masks of annotation tools, in the formats of LabelMe and COCO."""
from .making import Made, make_labels

__all__ = ['Made', 'make_labels']
