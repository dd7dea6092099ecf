"""Networks side by side: time, images a second, the ratio to the first, and how near to a matrix product they compute."""
from collections.abc import Sequence
from functools import partial

from .networks import MATRIX_PRODUCT, Setting, make, split_name
from .rounds import Measurement, Subject
from .runtimes import RUNTIMES
from .tables import cell, shorten, timed


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
        flops = measurement.info.get('flops')
        rows.append({
            'network': shorten(measurement.name), **timed(measurement, networks[0]), 'images/s': f'{measurement.rate:.2f}',
            # That of a process which exported the network says nothing of the runtime.
            **({'peak memory (MB)': ''} if split_name(measurement.name)[0] & set(RUNTIMES) else {}),
            'GFLOP/s': cell(flops and 2 * flops / measurement.median / 1e6, '.0f'),
            'of a matrix product': cell(flops and flops / measurement.median / rate, '.0%')})
    return rows
