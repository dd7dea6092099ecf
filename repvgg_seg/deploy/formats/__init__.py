"""The formats of exported files, one module each, and requests for them."""
from .format import PRECISIONS, Format
from .request import ExportRequest, check_request, native_precisions
from .table import FORMATS

__all__ = ['FORMATS', 'PRECISIONS', 'ExportRequest', 'Format', 'check_request', 'native_precisions']
