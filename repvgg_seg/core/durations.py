"""Durations for people."""


def in_words(seconds: float) -> str:
    """Format a time, given in seconds, in seconds, minutes or hours."""
    unit, length = next((unit, length) for unit, length in (('hours', 3600), ('minutes', 60), ('seconds', 1))
                        if seconds >= 1.5 * length or length == 1)
    return f'{round(seconds / length, 1 if unit == "hours" else None):g} {unit}'
