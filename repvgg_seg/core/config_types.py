"""The types of a config's parts, which MMEngine writes as text, or as classes in pure-Python configs."""
from collections.abc import Mapping


def type_name(part: Mapping) -> str:
    """The name of a part's ``type``, without scope or module, as in ``repvgg_seg.RepVGG``; empty if there is none."""
    kind = part.get('type', '')
    return kind.rpartition('.')[2] if isinstance(kind, str) else kind.__name__
