"""Ridge regressions from their normal equations."""

import torch
from torch import Tensor


def ridge(scatter: Tensor, products: Tensor, penalty: Tensor | float) -> Tensor:
    """Weights ``w`` for which ``w' S w - 2 w' p + sum(penalty * w**2)`` is least:
    ``(S + diag(penalty))^-1 p``.

    Args:
        scatter: Products of the features with one another, ``[..., n, n]``: symmetric, no
            eigenvalue below zero.
        products: Products of the features with m targets, ``[..., n, m]``.
        penalty: Of each squared weight, ``[..., n]`` or one number, above zero.

    Returns:
        ``[..., n, m]``, in the precision of ``scatter``.

    Example:
        >>> ridge(torch.eye(2), torch.tensor([[4.0], [2.0]]), 1.0).ravel()
        tensor([2., 1.])
    """
    penalties = torch.as_tensor(penalty, dtype=scatter.dtype, device=scatter.device)
    shape = torch.broadcast_shapes(penalties.shape, scatter.shape[:-1])
    system = scatter.expand(*shape, scatter.shape[-1]).clone()
    system.diagonal(dim1=-2, dim2=-1).add_(penalties)
    return torch.cholesky_solve(products, torch.linalg.cholesky(system))
