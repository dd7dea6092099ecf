from importlib import import_module

_MODULES = {
    'CamVidDataset': 'camvid', 'CityscapesDataset': 'cityscapes', 'ImageFolder': 'image_folder', 'ImageNet': 'image_folder',
    'LoadImage': 'loading', 'LoadLabels': 'loading', 'PairedSegDataset': 'paired', 'RandomGaussianBlur': 'transforms',
    'ToyStreets': 'toy_streets'}
__all__ = list(_MODULES)


def __getattr__(name: str) -> type:
    # Segmentation datasets need MMSegmentation and classification datasets do not, so they are imported on access (PEP 562).
    if name in _MODULES:
        return getattr(import_module(f'.{_MODULES[name]}', __name__), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
