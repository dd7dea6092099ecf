"""Numbers as arguments of commands: types for argparse whose errors say what was expected."""
import argparse
from collections.abc import Callable
from math import isfinite
from typing import TypeVar

from ..core.seeds import SEEDS

Number = TypeVar('Number', int, float)


def number(kind: type[Number], expected: str, accepts: Callable[[Number], bool] = isfinite) -> Callable[[str], Number]:
    """Make a type for argparse.

    Args:
        kind: type of the numbers.
        expected: which numbers are accepted, as a noun phrase for the error.
        accepts: function that tells whether a number is accepted.
    """
    def parse(text: str) -> Number:
        try:
            if accepts(value := kind(text)):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f'expected {expected}, got {text}')
    return parse


whole = number(int, 'a whole number')
real = number(float, 'a number')
positive = number(int, 'a whole number, 1 or more', lambda value: value > 0)
seed = number(int, f'a whole number from 0 to {SEEDS[-1]}', SEEDS.__contains__)
port = number(int, 'a whole number from 0 to 65535', range(65536).__contains__)
above_zero = number(float, 'a number above 0', lambda value: isfinite(value) and value > 0)
share = number(float, 'a number above 0 and below 1', lambda value: 0 < value < 1)
fraction = number(float, 'a number from 0 to 1', lambda value: 0 <= value <= 1)
percentage = number(float, 'a number from 0 to 100', lambda value: 0 <= value <= 100)


def positive_or_any(text: str) -> int | None:
    """A positive whole number, or None for ``any``."""
    return None if text == 'any' else number(int, "'any' or a whole number, 1 or more", lambda value: value > 0)(text)
