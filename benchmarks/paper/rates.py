"""Learning rates of a whole network by the maximal-update rule."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from tsattn.matrices import StructuredMatrix


def maximal_update_groups(
    model: nn.Module, learning_rate: float, *, base_width: int, inputs: Sequence[nn.Module] = ()
) -> list[dict[str, Any]]:
    """Parameter groups for Adam and its kin by the maximal-update rule.

    A map of ``n_in`` features moves at ``learning_rate * base_width / n_in`` (Yang et al. 2022,
    Tensor Programs V, table 3), each core of a structured matrix by a fan-in of its own (Qiu et al.
    2024), and what has no width on its input side (biases, norms, embeddings, ``inputs``) at
    ``learning_rate``. So a rate that was found at one width serves at others. Start values must
    follow the same rule: those of this package have variance proportional to 1 / fan-in; the last
    map of a network should start at zero.

    Args:
        model: The network.
        learning_rate: The rate found at ``base_width``.
        base_width: Inputs of the dense maps at which the rate was found, at least 1.
        inputs: Modules of the model that read data, whose input sides do not grow with the network.

    Returns:
        One group for each rate, in the order of first use; together they hold every parameter once.

    Raises:
        ValueError: If ``base_width`` is below 1, or an entry of ``inputs`` is no part of the model.

    Example:
        >>> model = nn.Linear(128, 4)
        >>> groups = maximal_update_groups(model, 0.5, base_width=64)
        >>> [(group["lr"], len(group["params"])) for group in groups]
        [(0.25, 1), (0.5, 1)]
    """
    if base_width < 1:
        raise ValueError(
            f"base_width must be at least 1; got {base_width}; give the width the rate was found at"
        )
    parts = set(model.modules())
    if foreign := [type(module).__name__ for module in inputs if module not in parts]:
        raise ValueError(
            f"inputs must be modules of the model; got {foreign[0]}; leave it out or build it in"
        )
    fixed = {id(parameter) for module in inputs for parameter in module.parameters()}
    groups: dict[float, list[nn.Parameter]] = {}
    seen: set[int] = set()
    for parameter, factor in _factors(model, base_width):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            groups.setdefault(1.0 if id(parameter) in fixed else factor, []).append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * factor}
        for factor, parameters in groups.items()
    ]


def _factors(model: nn.Module, base_width: int) -> Iterator[tuple[nn.Parameter, float]]:
    for module in model.modules():
        factors: dict[str, float] = {}
        if isinstance(module, StructuredMatrix):
            factors = module.lr_multipliers(base_width)
            yield from ((parameter, factors[name]) for name, parameter in module.named_parameters())
        elif isinstance(module, nn.Linear):
            factors = {"weight": base_width / module.in_features}
        yield from (
            (parameter, factors.get(name, 1.0))
            for name, parameter in module.named_parameters(recurse=False)
        )
