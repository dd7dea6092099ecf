"""Explain an exception that a mistake in a config caused, by the setting that was being built when it was raised."""
import difflib
import re
import traceback
from collections.abc import Iterator, Mapping

from mmengine import registry
from mmengine.config import Config

from ..core.config_types import type_name
from .options import is_read, known_names, nearest, paths, value_at

# What MMEngine's and MMCV's functions named build... call the part of a config that they are given.
PARTS = ('cfg', 'dataloader')


def explain(error: Exception, config: Config, file: str) -> str | None:
    """Say which setting of a config an exception is about.

    Args:
        error: exception with its traceback.
        config: config of the command.
        file: name of its file, for the message.

    Returns:
        One line, or None if no part of the config was being built, or the cause may be something else than its settings.
    """
    part = being_built(error)
    if part is None or (place := place_of(part, config)) is None:
        return None
    kind, text = type_name(part) or 'DataLoader', str(error)
    if unexpected := re.search(r"unexpected keyword argument '(\w+)'", text):
        key = unexpected[1]
        if key not in part:
            return None
        names = known_names(config, value_at(config, place), place, {}) or set()
        return f'config {file}: {kind} does not take {place}.{key}{nearest(config, f"{place}.{key}", place, names - {key})}'
    if missing := re.search(r'missing \d+ required [\w-]+ arguments?: (.+)', text):
        return f'config {file}: {kind} needs {missing[1]}; add it to {place}'
    if isinstance(error, KeyError | TypeError) and (fault := unregistered(config, place)):
        return f'config {file}: {fault}'
    if isinstance(error, ValueError | AssertionError) and text:
        return f'config {file}: {kind} refuses the settings of {place}: {text}'
    return None


def being_built(error: Exception) -> Mapping | None:
    """The innermost part of a config that a function named ``build...`` was given; None if there is none."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_name.startswith('build'):
            for name in PARTS:
                if isinstance(part := frame.f_locals.get(name), Mapping):
                    return part
    return None


def place_of(part: Mapping, config: Config) -> str | None:
    """The dotted key of a part of a config; builders may have added or removed some of its settings."""
    nodes = {place: value_at(config, place) for place in paths(config) if is_read(place)}
    alike = {place: sum(part.get(key) == value for key, value in node.items())
             for place, node in nodes.items() if isinstance(node, Mapping) and is_same_kind(part, node)}
    return max(alike, key=alike.__getitem__, default=None)


def is_same_kind(part: Mapping, other: Mapping) -> bool:
    """Whether two parts have the same type, or, if they have none as those of data loaders, the same keys."""
    return part.get('type') == other.get('type') if 'type' in part else 'type' not in other and part.keys() >= other.keys()


def unregistered(config: Config, place: str) -> str | None:
    """Name the first type that no registry has, in a part of a config and the parts within it; None if there is none."""
    known = {name for each in vars(registry).values() if isinstance(each, registry.Registry) for name in names_in(each)}
    for key in [place, *paths(value_at(config, place), f'{place}.')]:
        node = value_at(config, key)
        if isinstance(node, Mapping) and isinstance(node.get('type'), str) and (name := type_name(node)) not in known:
            similar = difflib.get_close_matches(name, known, 1, cutoff=0.7)
            return (f'{key}.type is {node["type"]}, which is not registered; '
                    + (f'did you mean {similar[0]}?' if similar else 'name its module in custom_imports'))
    return None


def names_in(root: registry.Registry) -> Iterator[str]:
    """Names in a registry and in those of the packages that are imported, without scopes."""
    yield from root.module_dict
    for child in root.children.values():
        yield from names_in(child)
