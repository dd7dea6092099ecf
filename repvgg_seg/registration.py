"""Plain ``type='RepVGG'`` in MMEngine's root registry, without importing MMEngine or PyTorch before anyone else does."""
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODULE = 'repvgg_seg.registry'  # Importing it registers the backbone.


def register_with_mmengine() -> None:
    """Register the backbone now if MMEngine has been imported, else as soon as it is."""
    if sys.modules.get('mmengine') is not None:
        import_module(MODULE)
    else:
        sys.meta_path.insert(0, _AfterMMEngine())


class _AfterMMEngine(MetaPathFinder):
    """Leaves every import to the other finders, and makes that of MMEngine register the backbone at its end."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != 'mmengine':
            return None
        specs = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            import_module(MODULE)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
