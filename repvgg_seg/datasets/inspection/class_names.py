"""Read files of class names, with or without colors, in several common formats."""
import re
from pathlib import Path
from typing import NamedTuple

from ...core.errors import DataError
from ..lists import read_list
from ..meanings import Color

USUAL_NAMES = ('classes.txt', 'class_names.txt', 'labels.txt', 'label_colors.txt', 'labelmap.txt', 'class_dict.csv',
               'classes.csv')
COLOR = re.compile(r'(?<![\w.])(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})(?![\w.])')
HEX_COLOR = re.compile(r'#([0-9a-fA-F]{6})\b')
HEADER = re.compile(r'(#\s|(class(es)?|name|label)\s*[,;:]\s*(r|red|color))', re.IGNORECASE)


class NamedClass(NamedTuple):
    """A named class.

    Args:
        name: name of the class.
        color: RGB color of the class; None if the file does not give it.
    """
    name: str
    color: Color | None


def find_classes_file(root: Path) -> Path | None:
    """Find the file of class names in a folder if it has a common name."""
    return next((root / name for name in USUAL_NAMES if (root / name).is_file()), None)


def read_classes(path: Path) -> list[NamedClass]:
    """Read the classes in a file, one per line: a name, or a name and a color.

    Args:
        path: path of the file. Colors are three numbers before or after the name (``road 128 64 128``, ``road,128,64,128``,
            CVAT's ``road:128,64,128::``), or hexadecimal (``road #804080``). Comments and a header line are skipped.

    Raises:
        DataError: the file cannot be read, a line has no name, or a name occurs twice.
    """
    classes: dict[str, NamedClass] = {}
    for line in read_list(path):
        if HEADER.match(line):
            continue
        color, name = None, line
        if found := COLOR.search(line):
            color = (int(found[1]), int(found[2]), int(found[3]))
            name = line[:found.start()] + line[found.end():]
        elif found := HEX_COLOR.search(line):
            color = (int(found[1][:2], 16), int(found[1][2:4], 16), int(found[1][4:], 16))
            name = line[:found.start()] + line[found.end():]
        name = name.strip(' \t,;:"')
        if not name or color is not None and max(color) > 255:
            raise DataError(f'{path} has the line {line!r}; expected the name of a class, or its name and color as in "road '
                            '128 64 128"')
        if name in classes:
            raise DataError(f'{path} has the class {name} twice; give each class one line')
        classes[name] = NamedClass(name, color)
    if not classes:
        raise DataError(f'{path} names no class; expected one name on each line')
    return [*classes.values()]
