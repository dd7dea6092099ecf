"""Limits of 8-bit labels."""
from .errors import UserError

IGNORE = 255  # The value of an ignored pixel.


def check_class_count(count: int, owner: str) -> None:
    """Check that 8-bit labels have a value for every class.

    Args:
        count: number of classes.
        owner: what the classes belong to, for the message.

    Raises:
        UserError: there are more than 255.
    """
    if count > IGNORE:
        raise UserError(f'{owner} has {count} classes; segmentation takes at most {IGNORE}, because labels have 8 bits, and '
                        f'the value {IGNORE} means ignored')
