"""Read the datasets of a config, including those inside wrappers of MMEngine and MMSegmentation."""
from collections.abc import Iterator, Mapping, Sequence

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from ..core.errors import UserError, some


def datasets_in(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yield the configs of the datasets that read files, inside any number of wrappers.

    Args:
        dataset: config of a dataset or of a wrapper: ``ConcatDataset``, ``RepeatDataset``, ``ClassBalancedDataset`` or
            ``MultiImageMixDataset``.
    """
    inside = dataset.get('datasets') or dataset.get('dataset')
    if not inside:
        yield dataset
        return
    for part in [inside] if isinstance(inside, Mapping) else inside:
        yield from datasets_in(part)


def test_pipeline(config: Config) -> list:
    """Test pipeline of a config, which is that of the first dataset in the test set."""
    return next(datasets_in(config.test_dataloader.dataset)).pipeline


def dataset_metainfo(config: Config) -> dict:
    """Classes and palette of the config's test set, without opening its files.

    Raises:
        UserError: the config does not specify them, or the parts of the test set have different classes.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    first, *others = [_metainfo(dataset) for dataset in datasets_in(config.test_dataloader.dataset)]
    for other in others:
        if other['classes'] != first['classes']:
            raise UserError(f'the datasets in the test set have different classes: {some(first["classes"])} and '
                            f'{some(other["classes"])}; give all of them the same')
    return first


def named_classes(config: Config) -> Sequence[str]:
    """Classes named by a classifier's config or by its dataset class; empty if the names of folders determine them."""
    dataset = next(datasets_in(config.test_dataloader.dataset))
    given = dataset.get('classes')  # MMPretrain's key, a list or a file, in addition to MMEngine's.
    metainfo = dict(dataset.get('metainfo') or {}, **({'classes': given} if given else {}))
    return class_of(dataset)._load_metainfo(metainfo).get('classes') or ()


def class_of(dataset: Mapping) -> type[BaseDataset]:
    """Python class of a dataset, in the default scope.

    Raises:
        UserError: no class has that name.
    """
    if not isinstance(dataset['type'], str):
        return dataset['type']
    with DATASETS.switch_scope_and_registry(None) as registry:
        kind = registry.get(dataset['type'])
    if kind is None:
        raise UserError(f'the config has a dataset of the unknown type {dataset["type"]}; correct it')
    return kind


def _metainfo(dataset: Mapping) -> dict:
    kind = class_of(dataset)
    given = dataset.get('metainfo') or {}
    metainfo = kind._load_metainfo(given)  # Reads classes from a file if a path is given.
    if 'palette' not in given and metainfo.get('palette'):  # Colors of the selected classes, as in the dataset itself.
        color_of = dict(zip(kind.METAINFO['classes'], metainfo['palette']))
        metainfo['palette'] = [color_of[name] for name in metainfo['classes'] if name in color_of]
    if absent := [name for name in ('classes', 'palette') if not metainfo.get(name)]:
        raise UserError(f'the test set has no {" and no ".join(absent)}; add metainfo=dict(classes=[...], '
                        'palette=[[red, green, blue], ...]) to test_dataloader.dataset')
    classes, colors = len(metainfo['classes']), len(metainfo['palette'])
    if classes != colors:
        raise UserError(f'the test set has {classes} classes and {colors} colors; give the same number of both in its metainfo')
    return dict(classes=list(metainfo['classes']), palette=[list(color) for color in metainfo['palette']])
