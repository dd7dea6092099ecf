from .camvid import CamVidDataset
from .cityscapes import CityscapesDataset
from .loading import LoadImage, LoadLabels
from .toy_streets import ToyStreets
from .transforms import RandomGaussianBlur

__all__ = ['CamVidDataset', 'CityscapesDataset', 'LoadImage', 'LoadLabels', 'RandomGaussianBlur', 'ToyStreets']
