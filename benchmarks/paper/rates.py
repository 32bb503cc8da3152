"""Learning rates of a whole network by the maximal-update rule."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from tsattn.matrices import StructuredMatrix


def maximal_update_groups(
    model: nn.Module, learning_rate: float, *, base_width: int, inputs: Sequence[nn.Module] = ()
) -> list[dict[str, Any]]:
    """Parameter groups for Adam and its kin by the maximal-update rule.

    A map of ``n_in`` features learns at ``learning_rate * base_width / n_in`` (Yang et al. 2022,
    Tensor Programs V, table 3), each core of a structured matrix by its own fan-in (Qiu et al.
    2024). Parameters without a width on their input side (biases, norms, embeddings, ``inputs``)
    learn at ``learning_rate``. So a rate found at one width is a good one at others. Start values
    must follow the same rule: those of this package have variance proportional to 1 / fan-in; the
    last map of a network should start at zero.

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
    modules = set(model.modules())
    for module in inputs:
        if module not in modules:
            raise ValueError(
                f"inputs must be modules of the model; got {type(module).__name__}; leave it out or"
                " build it in"
            )
    input_parameters = {parameter for module in inputs for parameter in module.parameters()}
    factors: dict[nn.Parameter, float] = {}
    for parameter, factor in _factors(model, base_width):
        # The first factor of a shared parameter counts.
        factors.setdefault(parameter, 1.0 if parameter in input_parameters else factor)
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, factor in factors.items():
        groups.setdefault(factor, []).append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * factor}
        for factor, parameters in groups.items()
    ]


def _factors(model: nn.Module, base_width: int) -> Iterator[tuple[nn.Parameter, float]]:
    """Parameters and the factors of their rates; a parameter may come more than once."""
    for module in model.modules():
        factors: dict[str, float] = {}
        if isinstance(module, StructuredMatrix):
            factors = module.lr_multipliers(base_width)
            # Cores may lie in modules within the matrix.
            for name, parameter in module.named_parameters():
                yield parameter, factors[name]
        elif isinstance(module, nn.Linear):
            factors = {"weight": base_width / module.in_features}
        for name, parameter in module.named_parameters(recurse=False):
            yield parameter, factors.get(name, 1.0)
