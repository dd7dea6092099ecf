"""Networks are built without a default scope, whatever ran before."""
import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def no_default_scope() -> None:
    DefaultScope._instance_dict.clear()
