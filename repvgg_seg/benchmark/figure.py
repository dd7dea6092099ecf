"""Plot accuracy over speed, like the paper's Figure 1."""
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ..core.errors import UserError
from ..engine.curves import COLORS
from .classifiers import PAPER
from .rounds import Measurement
from .tables import shorten

DPI = 150
# Styles of families in the paper, whose members are connected. Other points are not.
STYLES = {name.partition('-')[0]: 's--' for name in PAPER} | {'RepVGG': 'o-'}
MARKER = 6  # Half the width of a marker, in pixels.
# Candidate offsets of a label from its point, in typographic points. The first one at which it covers nothing else is used.
OFFSETS = [(x, y) for distance in (5, 12, 19) for y in (distance, -distance) for x in (5, 0, -5)]


class Point(NamedTuple):
    """A network of the figure.

    Args:
        family: networks of which the legend names one.
        label: text beside the point.
        accuracy: in percent.
    """
    family: str
    label: str
    accuracy: float


class Contents(NamedTuple):
    """What the figure shows.

    Args:
        points: points by the names of their measurements.
        ylabel: label of the accuracy.
    """
    points: Mapping[str, Point]
    ylabel: str


def contents(models: Sequence[str], accuracies: Sequence[float] | None, out: Path) -> Contents:
    """What can be drawn, before hours of timing.

    Args:
        models: names of networks, see :mod:`repvgg_seg.benchmark.networks`.
        accuracies: accuracy of each in percent; None for that of the paper, if it has one.
        out: path of the picture.

    Returns:
        Points in families: those of the paper, e.g. RepVGG; with given accuracies, the runtimes.

    Raises:
        UserError: no accuracy is known, not every model has one, or the file has no picture suffix.
    """
    if out.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'cannot draw {out}; expected a name that ends with .png, .pdf or .svg')
    if accuracies is None:
        points = {}
        for name in set(models) & set(PAPER):
            family, _, label = name.partition('-')
            points[name] = Point(family, label, PAPER[name].top1)
        if not points:
            raise UserError('--figure without --accuracy is for classifiers whose accuracy is in the paper, e.g. RepVGG-A0; '
                            f'got {", ".join(models)}')
        return Contents(points, "ImageNet top-1 accuracy in % (the paper's)")
    if len(accuracies) != len(models):
        raise UserError(f'networks: {len(models)}, values of --accuracy: {len(accuracies)}; give one for each network')
    points = {}
    for name, accuracy in zip(models, accuracies):
        *forms, label = shorten(name).split(':')
        points[name] = Point(' '.join(forms) or 'PyTorch', label, accuracy)
    return Contents(points, 'accuracy in %')


def draw(measurements: Sequence[Measurement], out: Path, label: str, shown: Contents) -> None:
    """Draw accuracy over measured speed.

    Args:
        measurements: measurements; those of which no accuracy is known are ignored.
        out: path of the picture.
        label: label of the speed axis.
        shown: what is drawn.
    """
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    families: dict[str, list[tuple[float, Point]]] = {}
    for measurement in measurements:
        if point := shown.points.get(measurement.name):
            families.setdefault(point.family, []).append((measurement.rate, point))
    texts: dict[tuple[float, float], str] = {}
    for color, (family, members) in zip(COLORS, families.items()):
        members.sort()
        axes.plot([speed for speed, _ in members], [point.accuracy for _, point in members],
                  STYLES.get(family, 'o'), color=color, label=family)
        texts.update({(speed, point.accuracy): point.label for speed, point in members})
    axes.set(xlabel=label, ylabel=shown.ylabel, xscale='log')
    axes.margins(x=0.2)  # For labels beside the outermost points.
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter('{x:g}')
    axes.grid(alpha=0.3, which='both')
    axes.legend()
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    label_points(axes, texts)
    figure.savefig(out, dpi=DPI)


def label_points(axes: Axes, points: Mapping[tuple[float, float], str]) -> None:
    """Write a label beside each point so that it covers no other label, no point, and not the legend.

    Args:
        axes: axes that have been drawn, so that positions are known.
        points: labels by the x and y of their points, in data coordinates.
    """
    legend = axes.get_legend()
    taken = [legend.get_window_extent()] if legend else []
    for point in points:
        x, y = axes.transData.transform(point)
        taken.append(Bbox.from_extents(x - MARKER, y - MARKER, x + MARKER, y + MARKER))
    for point, text in points.items():
        for right, up in OFFSETS:
            label = axes.annotate(text, point, (right, up), textcoords='offset points', fontsize=8, va='center',
                                  ha='left' if right > 0 else 'right' if right < 0 else 'center')
            box = label.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            label.remove()
