"""Structured matrices: products with fewer numbers than entries, as modules that act on the last
axis.
"""

from tsattn.matrices.family import BTT, MLBTC, MLR, STRUCTURES, LowRank, Monarch, make_matrix
from tsattn.matrices.levels import Level
from tsattn.matrices.products import Butterfly, Kronecker, default_factors
from tsattn.matrices.structured import Dense, StructuredMatrix

__all__ = [
    "BTT",
    "MLBTC",
    "MLR",
    "STRUCTURES",
    "Butterfly",
    "Dense",
    "Kronecker",
    "Level",
    "LowRank",
    "Monarch",
    "StructuredMatrix",
    "default_factors",
    "make_matrix",
]
