"""Compare networks: time, images per second, speed relative to the first one, and FLOP rate relative to a matrix product."""
from collections.abc import Sequence
from functools import partial

from ..core.errors import UserError
from .networks import DTYPES, MATRIX_PRODUCT, Setting, is_config, make, split_name
from .rounds import Measurement, Subject
from .runtimes import RUNTIMES
from .tables import cell, shorten, timed


def subjects(texts: Sequence[str], setting: Setting) -> list[Subject]:
    """The networks and, if PyTorch has the precision, a matrix product, as subjects.

    Raises:
        UserError: a name is unknown, or there are settings to change, but no config.
    """
    names = [split_name(text)[1] for text in texts]
    if setting.options and not any(map(is_config, names)):
        raise UserError(f'--cfg-options changes settings of configs, but {", ".join(texts)} is none; leave it out')
    product = [MATRIX_PRODUCT] if setting.precision in DTYPES else []
    return [Subject(text, partial(make, text, setting), 1 if text == MATRIX_PRODUCT else setting.batch)
            for text in (*texts, *product)]


def table(measurements: Sequence[Measurement]) -> list[dict[str, str]]:
    """Table rows of the measurements of :func:`subjects`."""
    networks = [measurement for measurement in measurements if measurement.name != MATRIX_PRODUCT]
    rate = next((product.info['flops'] / product.median for product in measurements if product.name == MATRIX_PRODUCT), None)
    rows = []
    for measurement in networks:
        flops = measurement.info.get('flops')
        rows.append({
            'network': shorten(measurement.name), **timed(measurement, networks[0]), 'images/s': f'{measurement.rate:.2f}',
            # The peak memory of a process that also exported the network says nothing about the runtime.
            **({'peak memory (MB)': ''} if split_name(measurement.name)[0] & set(RUNTIMES) else {}),
            'GFLOP/s': cell(flops and 2 * flops / measurement.median / 1e6, '.0f'),
            **({'of a matrix product': cell(flops and flops / measurement.median / rate, '.0%')} if rate else {})})
    return rows
