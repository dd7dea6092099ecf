"""Accuracy over speed, in the manner of the paper's Figure 1."""
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ..core.errors import UserError
from ..engine.curves import COLORS
from .classifiers import PAPER
from .rounds import Measurement


def check_figure(models: Sequence[str], out: Path) -> None:
    """Check that there is something to draw, before hours of timing.

    Raises:
        UserError: no model is in the paper's tables, or the file has no suffix of a picture.
    """
    if not set(models) & set(PAPER):
        raise UserError(f'--figure is of classifiers whose accuracy the paper has, e.g. RepVGG-A0; got {", ".join(models)}')
    if out.suffix not in ('.png', '.pdf', '.svg'):
        raise UserError(f'cannot draw {out}; expected a name that ends with .png, .pdf or .svg')


def draw(measurements: Sequence[Measurement], out: Path, label: str) -> None:
    """Draw the classifiers among some measurements: top-1 accuracy from the paper, speed as measured.

    Args:
        measurements: those of other things are left out.
        out: picture to write.
        label: of the axis of speed.
    """
    figure = Figure(figsize=(7, 5), layout='constrained')
    axes = figure.subplots()
    families: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        if measurement.name in PAPER:
            families.setdefault(measurement.name.partition('-')[0], []).append(measurement)
    for color, (family, members) in zip(COLORS, families.items()):
        members.sort(key=lambda member: member.rate)
        speeds, accuracies = [member.rate for member in members], [PAPER[member.name].top1 for member in members]
        axes.plot(speeds, accuracies, 'o-' if family == 'RepVGG' else 's--', color=color, label=family)
        for member, speed, accuracy in zip(members, speeds, accuracies):
            axes.annotate(member.name.partition('-')[2], (speed, accuracy), (4, 4), textcoords='offset points', fontsize=8)
    axes.set(xlabel=label, ylabel="ImageNet top-1 accuracy in % (the paper's)", xscale='log')
    axes.xaxis.set_major_formatter('{x:g}')
    axes.xaxis.set_minor_formatter('{x:g}')
    axes.grid(alpha=0.3, which='both')
    axes.legend()
    figure.savefig(out, dpi=150)
