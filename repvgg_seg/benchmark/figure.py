"""Plot accuracy over speed, like the paper's Figure 1."""
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ..core.errors import UserError
from ..engine.curves import COLORS
from .classifiers import PAPER
from .rounds import Measurement

DPI = 150
MARKER = 6  # Half the width of a marker, in pixels.
# Candidate offsets of a label from its point, in typographic points. The first one at which it covers nothing else is used.
OFFSETS = [(x, y) for distance in (5, 12, 19) for y in (distance, -distance) for x in (5, 0, -5)]


def check_figure(models: Sequence[str], out: Path) -> None:
    """Check before hours of timing that a figure can be drawn.

    Raises:
        UserError: no model is in the paper's tables, or the file has no picture suffix.
    """
    if not set(models) & set(PAPER):
        raise UserError(f'--figure is for classifiers whose accuracy is in the paper, e.g. RepVGG-A0; got {", ".join(models)}')
    if out.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'cannot draw {out}; expected a name that ends with .png, .pdf or .svg')


def draw(measurements: Sequence[Measurement], out: Path, label: str) -> None:
    """Draw the classifiers among the measurements: top-1 accuracy from the paper, speed as measured.

    Args:
        measurements: measurements; those of models that are not in the paper's tables are ignored.
        out: path of the picture.
        label: label of the speed axis.
    """
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    families: dict[str, list[Measurement]] = {}
    points: dict[tuple[float, float], str] = {}
    for measurement in measurements:
        if measurement.name in PAPER:
            families.setdefault(measurement.name.partition('-')[0], []).append(measurement)
    for color, (family, members) in zip(COLORS, families.items()):
        members.sort(key=lambda member: member.rate)
        speeds, accuracies = [member.rate for member in members], [PAPER[member.name].top1 for member in members]
        axes.plot(speeds, accuracies, 'o-' if family == 'RepVGG' else 's--', color=color, label=family)
        points.update({(speed, accuracy): member.name.partition('-')[2]
                       for member, speed, accuracy in zip(members, speeds, accuracies)})
    axes.set(xlabel=label, ylabel="ImageNet top-1 accuracy in % (the paper's)", xscale='log')
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter('{x:g}')
    axes.grid(alpha=0.3, which='both')
    axes.legend()
    figure.set_dpi(DPI)
    figure.draw_without_rendering()
    label_points(axes, points)
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
