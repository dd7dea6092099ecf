"""Child registries of MMEngine's, scope ``repvgg_seg``.

MMEngine imports this module by itself when a config says ``type='repvgg_seg.X'``, and the modules in ``locations`` when
it looks a name up for the first time.
"""
from importlib import import_module
from importlib.util import find_spec

from .core.environment import require_mm

try:
    from mmengine import registry as root
except ModuleNotFoundError:
    require_mm('mmengine')
    raise

# These modules need MMSegmentation; classification and detection do without it.
SEGMENTATION = {
    'models': ['repvgg_seg.models.psp_head', 'repvgg_seg.models.rep_fpn_head', 'repvgg_seg.engine.exported',
               'repvgg_seg.engine.distillation'],
    'datasets': [f'repvgg_seg.datasets.{name}' for name in ('paired', 'camvid', 'cityscapes', 'toy_streets')],
    'hooks': ['repvgg_seg.deploy.resrep'],
} if find_spec('mmseg') else {'models': [], 'datasets': [], 'hooks': []}


def _registry(name: str, parent: root.Registry, *locations: str) -> root.Registry:
    return root.Registry(name, parent=parent, scope='repvgg_seg', locations=list(locations))


MODELS = _registry('model', root.MODELS, *(f'repvgg_seg.models.{name}' for name in ('repvgg', 'variants', 'focal_loss')),
                   *SEGMENTATION['models'])
DATASETS = _registry('dataset', root.DATASETS, 'repvgg_seg.datasets.image_folder', *SEGMENTATION['datasets'])
TRANSFORMS = _registry('transform', root.TRANSFORMS, 'repvgg_seg.datasets.loading', 'repvgg_seg.datasets.transforms')
FUNCTIONS = _registry('function', root.FUNCTIONS, 'repvgg_seg.datasets.collating')
METRICS = _registry('metric', root.METRICS, 'repvgg_seg.engine.label_writer', 'repvgg_seg.engine.prediction_writer',
                    'repvgg_seg.engine.report.collecting')
OPTIM_WRAPPERS = _registry('optimizer_wrapper', root.OPTIM_WRAPPERS, 'repvgg_seg.engine.hardware')
OPTIM_WRAPPER_CONSTRUCTORS = _registry('optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS,
                                       'repvgg_seg.engine.equivalent_kernel')
HOOKS = _registry('hook', root.HOOKS, *(f'repvgg_seg.engine.{name}' for name in ('checkpointing', 'live_line', 'stopping')),
                  *SEGMENTATION['hooks'])
LOOPS = _registry('loop', root.LOOPS, 'repvgg_seg.engine.runner', 'repvgg_seg.engine.batches')

import_module('repvgg_seg.models')  # Puts the backbone into MMEngine's root registry, too; it needs the names above.
