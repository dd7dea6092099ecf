"""What labels of 8 bits can hold."""
from .errors import UserError

IGNORE = 255  # The value of a pixel that does not count.


def check_class_count(count: int, owner: str) -> None:
    """Check that all classes have a value in labels of 8 bits.

    Args:
        count: number of classes.
        owner: what has them, for the message.

    Raises:
        UserError: there are more than 255.
    """
    if count > IGNORE:
        raise UserError(f'{owner} has {count} classes; segmentation takes at most {IGNORE}, because labels have 8 bits, and '
                        f'the value {IGNORE} means ignored')
