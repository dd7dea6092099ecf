"""Find pretrained weights for a backbone."""
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from ...core.configs import CONFIGS, shipped_names
from ...core.errors import CheckpointError
from ...models.pretrained import load_pretrained

SCRATCH = 'none'


def find_weights(arch: str, asked: str | None = None) -> tuple[str | None, str]:
    """Look for weights that can be loaded into a backbone, and download them if necessary.

    Args:
        arch: arch of the backbone.
        asked: file, folder or URL; 'none' to train from scratch; by default the weights of the shipped Cityscapes config.

    Returns:
        Path or URL of the weights (None if there are none), and one sentence that explains the choice.

    Raises:
        CheckpointError: the requested weights cannot be loaded.
    """
    if asked == SCRATCH:
        return None, 'Training starts from scratch, as requested.'
    sources = [asked] if asked else usual_weights(arch)
    init_default_scope('mmseg')
    backbone, reasons = MODELS.build(dict(type='repvgg_seg.RepVGG', arch=arch)), []
    for source in sources:
        try:
            load_pretrained(backbone, source)
        except CheckpointError as error:
            if asked:
                raise
            reasons.append(str(error).removeprefix('no pretrained weights: ').partition(';')[0])
        else:
            return source, 'Training starts from pretrained weights; the heads have a higher learning rate than the backbone.'
    why = '; '.join(reasons) or f'no weights of RepVGG-{arch} are known'
    return None, f'Training starts from scratch ({why}); use init --weights PATH to start from a file.'


def usual_weights(arch: str) -> list[str]:
    """Locations in which the Cityscapes config of an arch looks for weights."""
    name = f'pspnet_repvgg_{arch.lower()}_cityscapes'
    if name not in shipped_names():
        return [f'work_dirs/repvgg_{arch.lower()}_imagenet']
    found = Config.fromfile(CONFIGS / f'{name}.py').model.backbone.init_cfg.checkpoint
    return [found] if isinstance(found, str) else list(found)
