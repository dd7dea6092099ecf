"""Matching labels with images."""
import os
from collections import defaultdict
from collections.abc import Sequence

from ..core.errors import DataError, some
from ..core.files import identity
from .files import stem_of, walk


class Labels:
    """The label files below a folder.

    Args:
        root: folder of the label files; it need not exist.
        suffixes: suffixes of label files after the stem of their image, in order of preference.
    """

    def __init__(self, root: str, suffixes: Sequence[str]) -> None:
        self.root, self.suffixes = root, suffixes
        self.names: dict[str, list[str]] = defaultdict(list)
        self.identities: set[tuple[int, int] | None] = set()
        for entry in walk(root) if os.path.isdir(root) else ():
            if stem_of(entry.name, suffixes) is not None and os.path.isfile(entry.path):
                name = os.path.relpath(entry.path, root)
                self.names[name.lower()].append(name)
                self.identities.add(identity(entry.path))

    def of(self, stem: str) -> str | None:
        """Find the label file of an image; None if it has none.

        Args:
            stem: path of the image, relative to its folder and without suffix.

        Raises:
            DataError: there are two label files whose suffixes differ only in case.
        """
        for suffix in self.suffixes:
            if found := [name for name in self.names.get((stem + suffix).lower(), ()) if name.startswith(stem)]:
                paths = [os.path.join(self.root, name) for name in found]
                if len(paths) > 1:
                    raise DataError(f'{paths[0]} and {paths[1]} are both the label of the image {stem}; remove one of them')
                return paths[0]
        return None

    def expected(self, stem: str) -> str:
        """Path where a label is expected, for a message."""
        return os.path.join(self.root, stem + ('.png' if '.png' in self.suffixes else self.suffixes[-1]))

def pair(root: str, images: Sequence[str], suffixes: Sequence[str], labels: Labels) -> list[tuple[str, str]]:
    """Find the label of each image.

    Args:
        root: folder of the images.
        images: paths of the images relative to ``root``, sorted. Label files among them are recognized and left out: ``a.png``
            or ``a_mask.png`` beside ``a.jpg``, or all files in a folder of labels.
        suffixes: suffixes of the images.
        labels: label files to match.

    Returns:
        Paths of images and their labels, in the order of the images.

    Raises:
        DataError: an image has no label, would be its own label, or shares its label with another image.
    """
    pairs: dict[str, str] = {}
    without, own = [], []
    for image in images:
        path, stem = os.path.join(root, image), stem_of(image, suffixes) or ''
        label = labels.of(stem)
        if label is not None and identity(path) == identity(label):
            own.append(path)
        elif identity(path) in labels.identities:
            continue
        elif label is None:
            without.append((path, labels.expected(stem)))
        else:
            pairs[path] = label
    taken = set(map(identity, pairs.values()))
    if alone := [path for path in own if identity(path) not in taken]:
        raise DataError(f'{len(alone)} of {len(images)} images would be their own labels: {some(alone)}; put the labels into a '
                        'folder of their own, or give their endings in seg_map_suffixes')
    if without:
        image, label = without[0]
        raise DataError(f'{len(without)} of {len(pairs) + len(without)} images have no label: '
                        f'{image} needs {label}; add the labels or remove the images')
    image_of: dict[str, str] = {}
    for image, label in pairs.items():
        if label in image_of:
            raise DataError(f'{image_of[label]} and {image} would have the same label, {label}; rename one of the images and '
                            'give it a label, or remove it')
        image_of[label] = image
    return list(pairs.items())
