"""What the paper's ablations (Tables 6 and 7) put in the place of its block, and QARepVGG's block.

Accuracies are top-1 in per cent of B0 on ImageNet after 120 epochs, from the paper; with the paper's own block it has 75.14.
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
from .kernels import DiracConv, TrivialConv
from .residual import ResidualRepVGG

__all__ = ['AsymmetricConv', 'DiracConv', 'IdentityOnly', 'IdentityWithoutNorm', 'NormAfterSum', 'PlainConv', 'PointwiseOnly',
           'QARepConv', 'ReLUInBranches', 'ResidualRepVGG', 'TrivialConv']
