"""Check the config of a segmentor before the model is built."""
import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence, Sized

from mmengine.config import Config

from ..core.config_types import type_name
from ..core.errors import UserError
from ..core.labels import check_class_count
from ..core.tasks import SEGMENTATION, task_of

CHANNELS = 3  # Number of image channels if the backbone's config does not specify it.


def check_model(config: Config) -> None:
    """Check that the numbers in the config of a segmentor agree; a classifier is not checked.

    Args:
        config: complete config.

    Raises:
        UserError: there are more than 255 classes, the length of a ``class_weight`` differs from the number of classes,
            ``mean`` and ``std`` do not match the channels of the backbone, or weights are given by a key that the backbone
            does not have.
    """
    model = config.model
    check_pretrained(model)
    for place in ('decode_head', 'auxiliary_head'):
        heads = model.get(place) or []
        for head in [heads] if isinstance(heads, Mapping) else heads:
            if isinstance(classes := head.get('num_classes'), int):
                check_class_count(classes, f'{type_name(head)} (model.{place})')
                check_class_weights(head, place, head.get('out_channels') or classes)
    preprocessor = preprocessor_of(config)
    if type_name(preprocessor) == 'SegDataPreProcessor':
        check_normalization(preprocessor, channels_of(model))


def check_pretrained(model: Mapping) -> None:
    """Check that the weights of a RepVGG are given by ``init_cfg``, not by ``pretrained`` as in old MMSegmentation configs.

    Raises:
        UserError: they are given by ``pretrained``.
    """
    backbone = model.get('backbone') or {}
    if type_name(backbone) != 'RepVGG':
        return
    if 'pretrained' in backbone:
        place, path, remedy = 'model.backbone.pretrained', backbone['pretrained'], 'leave model.backbone.pretrained out'
    elif task_of(model) == SEGMENTATION and model.get('pretrained') is not None:  # MMPretrain's classifiers load it.
        place, path, remedy = 'model.pretrained', model['pretrained'], 'set model.pretrained=None'
    else:
        return
    raise UserError(f'{place} is {path!r}, but RepVGG takes its weights from init_cfg; set '
                    f"model.backbone.init_cfg=dict(type='Pretrained', checkpoint=PATH), and {remedy}")


def preprocessor_of(config: Config) -> MutableMapping:
    """Settings of the data preprocessor, in the model's config or, as in MMPretrain's configs, next to it."""
    return config.model.get('data_preprocessor') or config.get('data_preprocessor') or {}


def channels_of(model: Mapping) -> int:
    """Number of image channels that the backbone in a model's config expects."""
    return (model.get('backbone') or {}).get('in_channels', CHANNELS)


def check_class_weights(head: Mapping, place: str, outputs: int) -> None:
    """Compare the number of class weights in the losses of a head with its number of output channels.

    Raises:
        UserError: they differ, or a file of class weights does not exist.
    """
    from mmseg.models.losses.utils import get_class_weight
    for loss in losses_in(head):
        weights = loss.get('class_weight')
        if isinstance(weights, str) and not os.path.isfile(weights):
            raise UserError(f'class_weight of {type_name(loss)} in model.{place} is the file {weights}, which does not exist')
        weights = get_class_weight(weights)
        if isinstance(weights, Sized) and len(weights) != outputs:
            raise UserError(f'class_weight of {type_name(loss)} in model.{place} has {len(weights)} values, the head has '
                            f'{outputs} classes; give one value for each class')


def losses_in(part: object) -> Iterator[Mapping]:
    """Yield the losses with a ``class_weight`` in a part of a config."""
    if isinstance(part, Mapping):
        if part.get('class_weight') is not None:
            yield part
        for inner in part.values():
            yield from losses_in(inner)
    elif isinstance(part, (list, tuple)):
        for inner in part:
            yield from losses_in(inner)


def check_normalization(preprocessor: Mapping, channels: int) -> None:
    """Compare the lengths of ``mean`` and ``std`` with the channels of the images.

    Raises:
        UserError: they do not match.
    """
    mean, std = preprocessor.get('mean'), preprocessor.get('std')
    if mean is None and std is None:
        return
    lengths = [len(values) if isinstance(values, Sequence) else 0 for values in (mean, std)]
    # MMEngine accepts one value for all channels, or three values.
    fitting = (1, channels) if channels in (1, 3) else (1, )
    if lengths[0] != lengths[1] or lengths[0] not in fitting:
        advice = (f'give {" or ".join(map(str, dict.fromkeys(fitting)))} of each' if channels in (1, 3) else
                  'MMEngine takes one value for all channels; for one each, leave both out and add dict(type=\'Normalize\', '
                  'mean=[...], std=[...], to_rgb=False) to the pipelines')
        raise UserError(f'model.data_preprocessor has {lengths[0]} values in mean and {lengths[1]} in std, the backbone takes '
                        f'images of {channels} channel(s) (in_channels); {advice}')
