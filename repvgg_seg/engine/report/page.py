"""The page of a report: one HTML file including style and script, which can be opened from disk without a network."""
import json
from pathlib import Path

import jinja2

HERE = Path(__file__).parent
MINUS = '\N{MINUS SIGN}'


def render(report: dict) -> str:
    """Render the page as HTML.

    Args:
        report: contents of ``report.json``.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, signed=signed, limits=limits)
    style, script = (HERE / 'page.css').read_text(encoding='utf-8'), (HERE / 'page.js').read_text(encoding='utf-8')
    # HTML ends a script element at "</", even inside a JavaScript string.
    data = json.dumps(report, separators=(',', ':')).replace('<', r'\u003c')
    return environment.get_template('page.html').render(report=report, data=data, style=style, script=script)


def number(value: float | None, digits: int = 2) -> str:
    """Format a number; None becomes a dash."""
    return '\N{EN DASH}' if value is None else f'{value:.{digits}f}'.replace('-', MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """Format a change with its sign; None becomes a dash."""
    return '\N{EN DASH}' if value is None else f'{value:+.{digits}f}'.replace('-', MINUS)


def limits(values: list[float] | None) -> str:
    """Format the limits of an interval of changes; None becomes a dash."""
    return '\N{EN DASH}' if values is None else f'{signed(values[0])} to {signed(values[1])}'
