"""Determining which OpenMMLab packages are installed, and whether they can work together."""
from contextlib import suppress
from functools import cache
from importlib import metadata

from .errors import InstallationError

# Import name -> (the maintained distribution, the original distributions). Both install the same import name, so mixing them
# overwrites files of one with files of the other.
MM_DISTRIBUTIONS = {
    'mmengine': ('onedl-mmengine', ('mmengine', 'mmengine-lite')),
    'mmcv': ('onedl-mmcv', ('mmcv', 'mmcv-lite', 'mmcv-full')),
    'mmseg': ('onedl-mmsegmentation', ('mmsegmentation', )),
    'mmpretrain': ('onedl-mmpretrain', ('mmpretrain', )),
}

# Beginning of the warning that mmcv without compiled operators issues on import; nothing here needs these operators.
WITHOUT_OPERATORS = 'Fail to import ``MultiScaleDeformableAttention``'


@cache  # Called for each norm layer that is built.
def installed_distributions() -> frozenset[str]:
    """The installed distributions among :data:`MM_DISTRIBUTIONS`."""
    installed = set()
    for maintained, original in MM_DISTRIBUTIONS.values():
        for name in (maintained, *original):
            with suppress(metadata.PackageNotFoundError):
                metadata.distribution(name)
                installed.add(name)
    return frozenset(installed)


def require_mm(*packages: str) -> None:
    """Check that OpenMMLab packages are installed, all from the same family.

    Args:
        packages: import names, keys of :data:`MM_DISTRIBUTIONS`.

    Raises:
        InstallationError: a package is missing, or original and ``onedl-*`` distributions are mixed. The message has the
            command that fixes it.
    """
    installed = installed_distributions()
    maintained = sorted(new for new, _ in MM_DISTRIBUTIONS.values() if new in installed)
    original = sorted(old for _, olds in MM_DISTRIBUTIONS.values() for old in olds if old in installed)
    if maintained and original:
        raise InstallationError(
            f'original ({", ".join(original)}) and onedl ({", ".join(maintained)}) OpenMMLab packages are installed side by '
            'side and overwrite each other; keep one family, for example: '
            f'pip uninstall -y {" ".join(original + maintained)} && pip install -r requirements.txt')
    missing = [name for name in packages
               if MM_DISTRIBUTIONS[name][0] not in installed and not set(MM_DISTRIBUTIONS[name][1]) & installed]
    if missing:
        command = ('pip install ' + ' '.join(MM_DISTRIBUTIONS[name][1][0] for name in missing)
                   if original else "pip install 'repvgg_seg[mm]'")
        raise InstallationError(f'{", ".join(missing)} not installed, but needed here; run: {command}')
