"""Recomputing a module in the backward pass, which saves the memory for its intermediate results."""
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def recomputed(module: nn.Module, x: Tensor) -> Tensor:
    """Compute ``module(x)``, storing only ``x`` for the backward pass. Running statistics are updated once."""
    # A compiled graph already updates the statistics only once, and does not accept contexts.
    contexts: dict[str, Any] = {}
    if not torch.compiler.is_compiling():
        contexts['context_fn'] = partial(_contexts, module)
    return torch.utils.checkpoint.checkpoint(module, x, use_reentrant=False, **contexts)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norms from updating their running statistics while a forward pass is recomputed."""
    before = [(norm, norm.momentum, counter, counter.clone()) for norm in module.modules()
              if isinstance(norm, _BatchNorm) and (counter := norm.num_batches_tracked) is not None]
    for norm, *_ in before:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counter, batches in before:
            norm.momentum = momentum
            counter.copy_(batches)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts for computing a module in the forward pass, and for recomputing it in the backward pass."""
    return nullcontext(), frozen_statistics(module)
