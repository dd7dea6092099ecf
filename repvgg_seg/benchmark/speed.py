"""Networks side by side: time, images a second, the ratio to the first, and how near to a matrix product they compute."""
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .networks import MATRIX_PRODUCT, Setting, make, split_name
from .rounds import Measurement, Subject


def subjects(texts: Sequence[str], setting: Setting) -> list[Subject]:
    """The networks, and a matrix product.

    Raises:
        UserError: an unknown name.
    """
    for text in texts:
        split_name(text)
    return [Subject(text, partial(make, text, setting), 1 if text == MATRIX_PRODUCT else setting.batch)
            for text in (*texts, MATRIX_PRODUCT)]


def table(measurements: Sequence[Measurement]) -> list[dict[str, str]]:
    """Rows of the measurements, of which the last is the matrix product."""
    *networks, product = measurements
    rate = product.info['flops'] / product.median
    rows = []
    for measurement in networks:
        low, high = measurement.quartiles
        flops = measurement.info.get('flops')
        rows.append({
            'network': shorten(measurement.name), 'ms': f'{measurement.median:.1f}', 'quartiles': f'{low:.1f} to {high:.1f}',
            'images/s': f'{measurement.rate:.2f}', 'times faster': f'{networks[0].median / measurement.median:.2f}',
            'GFLOP/s': f'{2 * flops / measurement.median / 1e6:.0f}' if flops else '',
            'of a matrix product': f'{flops / measurement.median / rate:.0%}' if flops else '',
            'peak memory (MB)': f'{measurement.peak_bytes / 1e6:.0f}' if measurement.peak_bytes is not None else ''})
    return rows


def shorten(text: str) -> str:
    """Without folder and suffix of a config."""
    *forms, name = text.split(':')
    return ':'.join([*forms, Path(name).stem if name.endswith('.py') else name])
