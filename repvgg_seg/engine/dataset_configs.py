"""Datasets as a config describes them, inside the wrappers of MMEngine and MMSegmentation too."""
from collections.abc import Iterator, Mapping, Sequence

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope

from ..core.errors import UserError, some


def datasets_in(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The configs of the datasets that read files, inside any number of wrappers.

    Args:
        dataset: config of a dataset, or of a wrapper: ``ConcatDataset``, ``RepeatDataset``, ``ClassBalancedDataset`` or
            ``MultiImageMixDataset``.
    """
    inside = dataset.get('datasets') or dataset.get('dataset')
    if not inside:
        yield dataset
        return
    for part in [inside] if isinstance(inside, Mapping) else inside:
        yield from datasets_in(part)


def test_pipeline(config: Config) -> list:
    """The test pipeline, which is that of the first dataset in the test set."""
    return next(datasets_in(config.test_dataloader.dataset)).pipeline


def dataset_metainfo(config: Config) -> dict:
    """Classes and palette of the config's test set, without opening its files.

    Raises:
        UserError: it does not say them, or its parts say different ones.
    """
    init_default_scope(config.get('default_scope', 'mmseg'))
    first, *others = [_metainfo(dataset) for dataset in datasets_in(config.test_dataloader.dataset)]
    for other in others:
        if other['classes'] != first['classes']:
            raise UserError(f'the datasets in the test set have different classes: {some(first["classes"])} and '
                            f'{some(other["classes"])}; give all of them the same')
    return first


def named_classes(config: Config) -> Sequence[str]:
    """The classes that a classifier's config, or the class of its test set, names; none where they are the names of folders."""
    dataset = next(datasets_in(config.test_dataloader.dataset))
    given = dataset.get('classes')  # MMPretrain's way, a list or a file, beside that of MMEngine.
    metainfo = dict(dataset.get('metainfo') or {}, **({'classes': given} if given else {}))
    return class_of(dataset)._load_metainfo(metainfo).get('classes') or ()


def class_of(dataset: Mapping) -> type[BaseDataset]:
    """The class of a dataset, in the default scope.

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
    metainfo = kind._load_metainfo(given)  # Which reads classes from a file where a path is given.
    if 'palette' not in given and metainfo.get('palette'):  # Of the chosen classes, as the dataset itself does it.
        color_of = dict(zip(kind.METAINFO['classes'], metainfo['palette']))
        metainfo['palette'] = [color_of[name] for name in metainfo['classes'] if name in color_of]
    if absent := [name for name in ('classes', 'palette') if not metainfo.get(name)]:
        raise UserError(f'the test set has no {" and no ".join(absent)}; add metainfo=dict(classes=[...], '
                        'palette=[[red, green, blue], ...]) to test_dataloader.dataset')
    classes, colors = len(metainfo['classes']), len(metainfo['palette'])
    if classes != colors:
        raise UserError(f'the test set has {classes} classes and {colors} colors; give as many of both in its metainfo')
    return dict(classes=list(metainfo['classes']), palette=[list(color) for color in metainfo['palette']])
