from typing import TYPE_CHECKING

from .repvgg import RepVGG

if TYPE_CHECKING:
    from .psp_head import FactorizedPSPHead
    from .rep_fpn_head import RepFPNHead

__all__ = ['FactorizedPSPHead', 'RepFPNHead', 'RepVGG']


def __getattr__(name: str) -> object:
    # The heads need MMSegmentation and the backbone does not, so a head is imported on first access (PEP 562).
    if name == 'FactorizedPSPHead':
        from .psp_head import FactorizedPSPHead
        return FactorizedPSPHead
    if name == 'RepFPNHead':
        from .rep_fpn_head import RepFPNHead
        return RepFPNHead
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
