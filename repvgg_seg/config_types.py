"""The types of a config's parts, which MMEngine writes in two ways: as text, and in pure-Python configs as classes."""
from collections.abc import Mapping


def type_name(part: Mapping) -> str:
    """The ``type`` of a part as it was written, or the name of the class; empty where it has none."""
    kind = part.get('type', '')
    return kind if isinstance(kind, str) else kind.__name__
