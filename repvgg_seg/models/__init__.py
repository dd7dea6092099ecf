from typing import TYPE_CHECKING

from .repvgg import RepVGG

if TYPE_CHECKING:
    from .psp_head import FactorizedPSPHead

__all__ = ['FactorizedPSPHead', 'RepVGG']


def __getattr__(name: str) -> object:
    # The head needs MMSegmentation, the backbone does not: it is imported when asked for (PEP 562).
    if name == 'FactorizedPSPHead':
        from .psp_head import FactorizedPSPHead
        return FactorizedPSPHead
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
