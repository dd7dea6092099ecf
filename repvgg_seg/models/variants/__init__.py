"""Alternatives to the paper's block: those of its ablations (Tables 6 and 7), QARepVGG's block, and one for pruning.

Accuracies are the paper's: top-1 in percent of B0 on ImageNet after 120 epochs. With the paper's own block it is 75.14.
"""
from .branches import (
           AsymmetricConv,
           IdentityOnly,
           IdentityWithoutNorm,
           NormAfterSum,
           PlainConv,
           PointwiseOnly,
           QARepConv,
           ReLUInBranches,
)
from .compacted import CompactedConv
from .kernels import DiracConv, TrivialConv
from .residual import ResidualRepVGG

__all__ = ['AsymmetricConv', 'CompactedConv', 'DiracConv', 'IdentityOnly', 'IdentityWithoutNorm', 'NormAfterSum', 'PlainConv',
           'PointwiseOnly', 'QARepConv', 'ReLUInBranches', 'ResidualRepVGG', 'TrivialConv']
