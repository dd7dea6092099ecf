"""Child registries of MMEngine's, scope ``repvgg_seg``.

MMEngine imports this module by itself when a config says ``type='repvgg_seg.X'``, and the modules in ``locations`` when
it looks a name up for the first time.
"""
from .environment import require_mm

require_mm('mmengine')

from mmengine import registry as root  # noqa: E402

MODELS = root.Registry('model', parent=root.MODELS, scope='repvgg_seg',
                       locations=['repvgg_seg.models.repvgg', 'repvgg_seg.models.psp_head'])
DATASETS = root.Registry('dataset', parent=root.DATASETS, scope='repvgg_seg', locations=['repvgg_seg.datasets'])
TRANSFORMS = root.Registry('transform', parent=root.TRANSFORMS, scope='repvgg_seg', locations=['repvgg_seg.datasets'])
METRICS = root.Registry('metric', parent=root.METRICS, scope='repvgg_seg',
                        locations=['repvgg_seg.engine.label_writer', 'repvgg_seg.engine.prediction_writer'])
OPTIM_WRAPPERS = root.Registry('optimizer_wrapper', parent=root.OPTIM_WRAPPERS, scope='repvgg_seg',
                               locations=['repvgg_seg.engine.hardware'])
OPTIM_WRAPPER_CONSTRUCTORS = root.Registry('optimizer wrapper constructor', parent=root.OPTIM_WRAPPER_CONSTRUCTORS,
                                           scope='repvgg_seg', locations=['repvgg_seg.engine.equivalent_kernel'])
