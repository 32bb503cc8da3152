"""Tensors and facts of fitted networks, and of what covariates add to a forecaster."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from tsattn.data.encoding import CovariateEncoder
from tsattn.data.panel import Panel
from tsattn.data.stored import require
from tsattn.data.transforms import TargetTransform
from tsattn.data.windows import Scaler
from tsattn.evaluate.intervals import KnownScales, StepIntervals
from tsattn.forecasters.covariate_regression import OUTDATED, PREFIX, CovariateRegression
from tsattn.forecasters.fitted import FittedNetwork
from tsattn.limits import IN_SINGLE
from tsattn.nn.config import LINEAR_KINDS, ModelConfig
from tsattn.nn.models import build_model
from tsattn.store import Facts, Saved, Tensors, check_weights

# Fields of a configuration that sizes of tensors follow from.
_SIZES = ("d_model", "n_heads", "n_layers", "d_ff", "patch_len", "patch_stride")
# Fields that count the covariates that a network reads.
_READS = ("n_past", "n_known", "n_static")


def network_tensors(model: FittedNetwork, panel: Panel) -> Tensors:
    """Tensors of a fitted network.

    Args:
        model: The network with its scales and intervals.
        panel: The series that are saved with it.
    """
    weights = model.network.state_dict()
    tensors = {f"network.{name}": value for name, value in weights.items()}
    tensors |= {
        "scaler.mean": torch.as_tensor(model.scaler.mean),
        "scaler.scale": torch.as_tensor(model.scaler.scale),
    }
    if model.intervals is not None:
        tensors["intervals.errors"] = torch.as_tensor(model.intervals.errors)
    if model.sizes is not None:
        places = model.sizes.places(panel, panel.starts[1:])
        # Series that were not calibrated have no place.
        has_place = places[:, None] >= 0
        scales_at_places = model.sizes.scales[places]
        scales = np.where(has_place, scales_at_places, np.nan)
        tensors["intervals.scales"] = torch.as_tensor(scales)
        tensors["intervals.per_step"] = torch.as_tensor(model.sizes.per_step)
    covariate_tensors = regression_tensors(model.covariate_regression)
    return tensors | covariate_tensors


def regression_tensors(regression: CovariateRegression | None) -> Tensors:
    """Tensors of what covariates add to a forecaster."""
    arrays = {} if regression is None else regression.arrays()
    return {name: torch.as_tensor(array) for name, array in arrays.items()}


def regression_facts(regression: CovariateRegression | None) -> Facts:
    """Facts of what covariates add to a forecaster."""
    return {} if regression is None else {"covariate_regression": regression.facts()}


def regression_from(saved: Saved, encoder: CovariateEncoder | None) -> CovariateRegression | None:
    """What covariates add to a forecaster, out of the files.

    Raises:
        ValueError: If something is not what was saved; also LookupError or TypeError.
    """
    require("leftovers" not in saved.facts, OUTDATED)
    facts = saved.facts.get("covariate_regression")
    has_facts = facts is not None
    has_encoder = encoder is not None
    require(has_facts == has_encoder, "covariates that are not read")
    if facts is None or encoder is None:
        return None
    arrays = {}
    for name, tensor in saved.tensors.items():
        if name.startswith(PREFIX):
            arrays[name] = tensor.numpy()
    return CovariateRegression.rebuilt(encoder, facts, arrays)


def network_from(saved: Saved, panel: Panel, encoder: CovariateEncoder | None) -> FittedNetwork:
    """The network out of the files.

    Args:
        saved: The files.
        panel: The series that were saved with it.
        encoder: How their covariates are read.

    Raises:
        ValueError: If something is not what was saved; also LookupError or TypeError.
    """
    facts = saved.facts
    config = ModelConfig.from_dict(facts["network"])
    longest = int(panel.lengths.max())
    require(longest <= config.context, "series are longer than the context")
    regression = None
    if config.backbone in LINEAR_KINDS:
        regression = regression_from(saved, encoder)
        encoder = None
    sizes = dict.fromkeys(_READS, 0) if encoder is None else encoder.sizes
    network_sizes = {name: getattr(config, name) for name in _READS}
    require(sizes == network_sizes, "covariates do not fit the network")
    mixed = config.mixed_channels > 0
    require(config.mixed_channels in (0, panel.n_series), "series do not fit the network")
    network = _network(saved, config, len(panel.values))
    # Mixed channels are the columns of one table, other series stand one below another.
    series_shape = (panel.n_series, 1)
    scaler_shape = (1, panel.n_series) if mixed else series_shape
    scaler = _scaler("scaler", saved, scaler_shape)
    return FittedNetwork(
        network,
        config,
        scaler,
        _transform(facts),
        encoder,
        _intervals(saved, config),
        ids=pd.Index(panel.ids),
        by_place=mixed,
        covariate_regression=regression,
        sizes=_sizes(saved, panel),
    )


def _network(saved: Saved, config: ModelConfig, n_rows: int) -> nn.Module:
    """The network of a configuration with the saved weights."""
    weights = saved.part("network.")
    size_names = ["context", "horizon"]
    if config.backbone not in LINEAR_KINDS:
        size_names += [*_SIZES, *_READS]
    model_sizes = {name: getattr(config, name) for name in size_names}
    check_weights(weights, model_sizes, n_rows=n_rows)
    with IN_SINGLE:
        # The weights that are drawn are replaced at once.
        generator = torch.Generator().manual_seed(0)
        network = build_model(config, generator=generator)
    network.load_state_dict(weights)
    return network


def _transform(facts: Mapping[str, Any]) -> TargetTransform:
    """The map of the target."""
    if "transform" in facts:
        return TargetTransform(facts["transform"])
    # Files of format 1 have the transform among the settings.
    return TargetTransform(facts["parameters"].get("target_transform"))


def _scaler(name: str, saved: Saved, shape: tuple[int, int]) -> Scaler:
    mean = saved.numbers(f"{name}.mean", shape)
    scale = saved.numbers(f"{name}.scale", shape)
    require(bool(np.isfinite([mean, scale]).all()), f"{name} is not finite")
    require(bool((scale > 0).all()), f"{name} has a scale that is not above 0")
    return Scaler(mean, scale)


def _intervals(saved: Saved, config: ModelConfig) -> StepIntervals | None:
    if "intervals.errors" not in saved.tensors:
        return None
    # One error a window, step and channel.
    shape = (-1, config.horizon, config.mixed_channels or 1)
    return StepIntervals(saved.numbers("intervals.errors", shape))


def _sizes(saved: Saved, panel: Panel) -> KnownScales | None:
    """Size of the errors of each series; NaN where it was not calibrated."""
    if not {"intervals.scales", "intervals.per_step"} & saved.tensors.keys():
        return None
    scales = saved.numbers("intervals.scales", (panel.n_series, 1))
    per_step = saved.numbers("intervals.per_step", (1,))
    is_calibrated = ~np.isnan(scales[:, 0])
    require(bool(is_calibrated.any()), "no series has a scale of errors")
    scales = scales[is_calibrated]
    for part in (scales, per_step):
        is_valid = (part > 0) & np.isfinite(part)
        require(bool(is_valid.all()), "scales of errors are not above 0 and finite")
    all_ids = pd.Index(panel.ids)
    return KnownScales(all_ids[is_calibrated], scales, per_step)
