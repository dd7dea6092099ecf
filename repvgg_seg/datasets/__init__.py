from .camvid import CamVidDataset
from .cityscapes import CityscapesDataset
from .image_folder import ImageFolder, ImageNet
from .loading import LoadImage, LoadLabels
from .toy_streets import ToyStreets
from .transforms import RandomGaussianBlur

__all__ = ['CamVidDataset', 'CityscapesDataset', 'ImageFolder', 'ImageNet', 'LoadImage', 'LoadLabels', 'RandomGaussianBlur',
           'ToyStreets']
