"""Safe reading of checkpoints that MMEngine itself loads, such as the ``Pretrained`` weights of a head."""
from collections.abc import Callable

from mmengine import runner

from ..core.errors import CheckpointError
from ..core.reading import read_checkpoint
from ..models.weights import state_dict_of

SCHEMES = ('', 'http://', 'https://', 'pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://')
LISTS: dict[tuple[str, ...], Callable[[], dict]] = {  # Prefixes of names -> function that returns the URLs.
    ('modelzoo://', 'torchvision://'): runner.get_torchvision_models,
    ('open-mmlab://', 'openmmlab://'): runner.get_external_models,
    ('mmcls://', ): runner.get_mmcls_models,
}


def load_safely() -> None:
    """Make MMEngine read checkpoints with :func:`load_from_repvgg_seg` for the rest of this process."""
    prefixes = [*SCHEMES, *(prefix for group in LISTS for prefix in group)]
    runner.CheckpointLoader.register_scheme(prefixes, load_from_repvgg_seg, force=True)


def load_from_repvgg_seg(filename: str, map_location: object = None) -> dict:
    """Read a checkpoint with :func:`.read_checkpoint`. MMEngine logs the name of this function without ``load_from_``.

    Args:
        filename: path, URL, or a name such as ``open-mmlab://resnet50_v1c`` whose URL MMEngine knows.
        map_location: ignored; the tensors are on the CPU.

    Returns:
        The checkpoint, with its weights as ``state_dict``.

    Raises:
        CheckpointError: the name is unknown, or the file cannot be read or contains no weights.
    """
    checkpoint = read_checkpoint(_without_alias(filename))
    state = state_dict_of(checkpoint, filename)
    if filename.startswith('mmcls://'):  # The backbone of a classifier.
        state = {name.removeprefix('backbone.'): value for name, value in state.items() if name.startswith('backbone.')}
    return {**checkpoint, 'state_dict': state}


def _without_alias(name: str) -> str:
    for prefixes, urls in LISTS.items():
        if name.startswith(prefixes):
            model = name.partition('://')[2]
            url = urls().get(runner.get_deprecated_model_names().get(model, model))
            if url is None:
                raise CheckpointError(f'checkpoint {name} is none that MMEngine has the URL of; give a file or a URL')
            return url
    return name
