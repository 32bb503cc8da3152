"""A fitted pretrained forecaster in a folder: its settings, its weights, and the end of each series."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from tsattn.data.calendar import parse_freq
from tsattn.data.columns import MISSING
from tsattn.data.stored import check_panel, panel_facts, require
from tsattn.forecasters.saving import plain_value, read_model, tail_from, tail_tensors, write_model
from tsattn.pretrained.weights import build_network

if TYPE_CHECKING:
    from tsattn.forecasters.pretrained import PretrainedForecaster

_SIZES = ("d_model", "d_ff", "n_heads", "n_layers", "max_len")
_ForecasterT = TypeVar("_ForecasterT", bound="PretrainedForecaster")


def save_pretrained(forecaster: "PretrainedForecaster", path: Path) -> None:
    """Write a fitted forecaster; the weights go along, so that it forecasts alike under every later version.

    Args:
        forecaster: Fitted.
        path: A new folder, an empty one, or an older save.

    Raises:
        ValueError: If ids, column names or a time zone are of a kind that files cannot hold, or the folder holds
            something else.
    """
    network = forecaster.network_
    panel = forecaster.panel_.last(network.config.max_context)
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()} | tail_tensors(panel)
    parameters = {name: plain_value(value) for name, value in forecaster.get_params().items() if name != "weights"}
    facts = {
        "parameters": parameters,
        "network": network.config.to_dict(),
        "panel": panel_facts(panel),
        "panel_in": forecaster.panel_in_,
    }
    write_model(path, type(forecaster).__name__, tensors, facts)


def load_pretrained(cls: type[_ForecasterT], path: Path) -> _ForecasterT:
    """Read what :func:`save_pretrained` wrote; ``weights`` of the result is the network that was saved.

    Args:
        cls: The class that was saved.
        path: The folder.

    Raises:
        ValueError: If files are missing, damaged, of another class or of a newer format.
    """

    def rebuild(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> _ForecasterT:
        weights = {name.removeprefix("network."): v for name, v in tensors.items() if name.startswith("network.")}
        _check_weights(weights, facts["network"])
        network = build_network(facts["network"], weights)
        forecaster = cls(**facts["parameters"], weights=network)
        _check_parameters(forecaster)
        require(type(facts["panel_in"]) is bool, "panel_in")
        panel = tail_from(facts["panel"], tensors)
        check_panel(panel)
        forecaster.panel_, forecaster.panel_in_ = panel, facts["panel_in"]
        forecaster.network_ = network
        return forecaster

    return read_model(path, cls.__name__, rebuild)


def _check_weights(weights: dict[str, torch.Tensor], settings: dict[str, Any]) -> None:
    """Refuse weights that are no numbers, and sizes that no tensor has, before memory is taken for them."""
    for name, tensor in weights.items():
        require(bool(torch.isfinite(tensor).all()), f"weights {name} are not finite")
    largest = max((len(weights), *(n for tensor in weights.values() for n in tensor.shape)))
    for name in _SIZES:
        require(settings.get(name, 1) <= largest, f"{name} = {settings.get(name)} fits no tensor")


def _check_parameters(forecaster: "PretrainedForecaster") -> None:
    """Refuse settings that would fail only when a forecast is asked."""
    for name in ("id_col", "time_col", "target_col", "alias"):
        value = getattr(forecaster, name)
        require(value is None or type(value) in (str, int), f"{name} = {value!r:.40}")
    require(type(forecaster.nonnegative) is bool, f"nonnegative = {forecaster.nonnegative!r:.40}")
    n_threads = forecaster.n_threads
    require(n_threads is None or (type(n_threads) is int and n_threads >= 1), f"n_threads = {n_threads!r:.40}")
    require(forecaster.missing in MISSING, f"missing = {forecaster.missing!r:.40}")
    if forecaster.freq is not None:
        parse_freq(forecaster.freq)
