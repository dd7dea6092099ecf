"""What the package uses of other packages although its name is private: all of it stands here, and a change of it fails."""
import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.hooks import CheckpointHook
from mmengine.logging import HistoryBuffer
from mmengine.model import ImgDataPreprocessor
from mmengine.optim import CosineAnnealingMomentum, LinearLR, OptimWrapper, _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from mmseg.models.decode_heads.decode_head import BaseDecodeHead

PACKAGE = Path(__file__).parent.parent / 'repvgg_seg'


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def source(function) -> str:
    return inspect.getsource(function)


DOCUMENTED = {'_replace'}  # Of named tuples.

# Private name -> whether upstream still has it, and means by it what we take it for.
UPSTREAM = {
    # MMEngine.
    '_default_greater_keys': lambda: 'mIoU' in CheckpointHook._default_greater_keys and 'self._default_greater_keys' in source(
        CheckpointHook.__init__),
    '_init_rule': lambda: parameters(CheckpointHook._init_rule) == ['self', 'rules', 'key_indicators'],
    '_save_checkpoint_with_step': lambda: (
        parameters(CheckpointHook._save_checkpoint_with_step) == ['self', 'runner', 'step', 'meta']
        # Both the regular checkpoint and the one that follows a better validation go through it.
        and 'self._save_checkpoint_with_step(' in source(CheckpointHook._save_checkpoint)
        and 'self._save_checkpoint_with_step(' in source(CheckpointHook._save_best_checkpoint)),
    '_resume': lambda: 'self._resume = resume' in source(Runner.__init__) and 'self._resume' in source(Runner.load_or_resume),
    '_has_loaded': lambda: 'if self._has_loaded:' in source(Runner.load_or_resume),
    '_decide_current_val_interval': lambda: all(parameters(loop._decide_current_val_interval) == ['self']
                                                for loop in (EpochBasedTrainLoop, IterBasedTrainLoop)),
    '_InfiniteDataloaderIterator': lambda: parameters(_InfiniteDataloaderIterator) == ['dataloader'],
    '_dataloader': lambda: 'self._dataloader = dataloader' in source(_InfiniteDataloaderIterator.__init__),
    '_accumulative_counts': lambda: 'self._accumulative_counts = accumulative_counts' in source(OptimWrapper.__init__),
    '_ParamScheduler': lambda: all(issubclass(kind, _ParamScheduler) for kind in (LinearLR, CosineAnnealingMomentum)),
    '_get_base_files': lambda: parameters(Config._get_base_files) == ['filename'],
    '_metainfo': lambda: 'self._metainfo' in source(BaseDataset.metainfo.fget),
    '_load_metainfo': lambda: (inspect.ismethod(BaseDataset._load_metainfo)
                               and BaseDataset._load_metainfo(dict(classes=['a'])) == dict(classes=['a'])),
    '_indices': lambda: BaseDataset(lazy_init=True)._indices is None,
    '_statistics_methods': lambda: {'min', 'max', 'mean', 'current'} <= set(
        (HistoryBuffer(), HistoryBuffer._statistics_methods)[1]),
    # MMSegmentation.
    '_channel_conversion': lambda: ImgDataPreprocessor(bgr_to_rgb=True)._channel_conversion is True,
    '_transform_inputs': lambda: parameters(BaseDecodeHead._transform_inputs) == ['self', 'inputs'],
    # PyTorch.
    '_BatchNorm': lambda: issubclass(torch.nn.SyncBatchNorm, torch.nn.modules.batchnorm._BatchNorm),
    '_modules': lambda: [*torch.nn.Sequential(torch.nn.ReLU())._modules] == ['0'],
    '_python_dispatch': lambda: hasattr(import_module('torch.utils._python_dispatch'), 'TorchDispatchMode'),
    '_dynamo': lambda: issubclass(import_module('torch._dynamo.exc').UserError, Exception),
    '_inductor': lambda: ({'package_path', 'inductor_configs'} <= {*parameters(torch._inductor.aoti_compile_and_package)}
                          and 'path' in parameters(torch._inductor.aoti_load_package)
                          and 'cpp.march' in import_module('torch._inductor.config').get_config_copy()
                          and not parameters(import_module('torch._inductor.cpp_builder').get_cpp_compiler)),
    '_is_mkldnn_bf16_supported': lambda: isinstance(torch.ops.mkldnn._is_mkldnn_bf16_supported(), bool),
    '_is_mkldnn_fp16_supported': lambda: isinstance(torch.ops.mkldnn._is_mkldnn_fp16_supported(), bool),
    '_ops': lambda: isinstance(torch.ops.aten.add.Tensor, torch._ops.OpOverload),
    '_schema': lambda: torch.ops.aten.add_.Tensor._schema.is_mutable and not torch.ops.aten.add.Tensor._schema.is_mutable,
    # ExecuTorch, where it is installed.
    '_unsafe_reset_threadpool': lambda: not find_spec('executorch') or hasattr(
        import_module('executorch.extension.pybindings.portable_lib'), '_unsafe_reset_threadpool'),
}


def is_private(name: str) -> bool:
    return name.startswith('_') and not name.startswith('__')


def own_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a module defines: functions, classes, variables, and attributes that it sets."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def private_names(tree: ast.AST) -> Iterator[str]:
    """Private names that a module uses: attributes, and what it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (part for alias in node.names for part in alias.name.split('.'))
            yield from (getattr(node, 'module', None) or '').split('.')


def test_no_other_private_name_is_used():
    trees = {path: ast.parse(path.read_text(encoding='utf-8')) for path in sorted(PACKAGE.rglob('*.py'))}
    own = {name for tree in trees.values() for name in own_names(tree)} - UPSTREAM.keys()
    used = {name: path for path, tree in trees.items() for name in private_names(tree) if is_private(name)}
    known = own | UPSTREAM.keys() | DOCUMENTED
    unknown = {name: str(path.relative_to(PACKAGE)) for name, path in used.items() if name not in known}
    assert not unknown, f'private names of other packages, of which UPSTREAM knows nothing: {unknown}'


@pytest.mark.parametrize('name', UPSTREAM)
def test_upstream_is_as_we_know_it(name):
    assert UPSTREAM[name](), f'{name} is no longer what the package takes it for'
