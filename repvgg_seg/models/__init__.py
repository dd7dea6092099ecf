from typing import TYPE_CHECKING

from .repvgg import RepVGG

if TYPE_CHECKING:
    from .psp_head import FactorizedPSPHead

__all__ = ['FactorizedPSPHead', 'RepVGG']


def __getattr__(name: str) -> object:
    # The head needs MMSegmentation and the backbone does not, so the head is imported on first access (PEP 562).
    if name == 'FactorizedPSPHead':
        from .psp_head import FactorizedPSPHead
        return FactorizedPSPHead
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
