"""Exports of fitted forecasters as ONNX or torch programs, which run without tsattn."""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tsattn.adapters.refusals import refuse_covariates, refuse_folder
from tsattn.checks import check_installed
from tsattn.data.windows import History, known_rows, least_rows
from tsattn.forecasters.fitted import UNSCALED_HEADS
from tsattn.forecasters.network import NetworkForecaster
from tsattn.limits import IN_SINGLE, plain_torch
from tsattn.nn.heads import AnyHead
from tsattn.nn.models import build_model
from tsattn.silence import ignored, silenced
from tsattn.storage import write_atomic, write_bytes

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# Version of the metadata, and of the input and the output of a program.
FORMAT = 1
# Every runtime of the last years knows the operators of this set.
_OPSET = 18
# Series on which an export is compared with the forecaster.
_N_PROBES = 8
# Largest difference, as a share of the largest forecast.
_TOLERANCE = 1e-5
# A spread below this share of the largest value is rounding dust of a constant window.
_DUST = 1e-12
_FACTS_FILE = "facts.json"
# Warnings about how torch and onnx work inside, and bounds of float64 that are infinite in float32.
_NOISY_WARNINGS = (
    (FutureWarning, ".*LeafSpec"),
    (UserWarning, "# The axis name"),
    (RuntimeWarning, "overflow encountered in cast"),
)
# Loggers that report each step of an export to the developers of torch.
_NOISY_LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")


class _Served(nn.Module):
    """A network with its scaling and transform, from windows to points in original units.

    It computes what ``predict_windows`` does. The scale is computed in float64 as there, so that a
    large mean costs the variation no digits.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, forecaster: NetworkForecaster) -> None:
        super().__init__()
        config = forecaster.config_
        fitted = forecaster.fitted_
        # A copy on the CPU, so that the forecaster's network stays as it is.
        generator = torch.Generator().manual_seed(0)
        with IN_SINGLE:
            self.network = build_model(config, generator=generator)
        weights = forecaster.network_.state_dict()
        weights = {name: value.cpu() for name, value in weights.items()}
        self.network.load_state_dict(weights)
        is_scaled = config.head not in UNSCALED_HEADS
        self.masked = config.masked
        self.equivariant = is_scaled and not forecaster.looks_across
        self.has_head = fitted.head is not None
        self.transform = fitted.transform.name
        self.horizon = forecaster.horizon
        shape = (1, 1, _n_channels(forecaster))
        mean = np.zeros(shape)
        scale = np.ones(shape)
        if is_scaled and not self.equivariant:
            mean = np.broadcast_to(fitted.scaler.mean, shape)
            scale = np.broadcast_to(fitted.scaler.scale, shape)
        self.register_buffer("mean", torch.as_tensor(mean.copy()).double())
        self.register_buffer("scale", torch.as_tensor(scale.copy()).double())
        self.eval().requires_grad_(False)

    def forward(self, windows: Tensor) -> Tensor:
        """``[B, T, C]`` to ``[B, F, C]``; NaN where ``predict_windows`` gives no forecast of this
        network.
        """
        is_usable = self._is_usable(windows)
        x = self._to_learning(windows.double())
        mean, spread = self._mean_and_spread(x)
        # A window without spread becomes zeros over one.
        divisor = torch.where(spread > 0, spread, torch.ones_like(spread))
        scaled = (x - mean) / divisor
        points = self.network(scaled.float()).double()
        points = points[:, : self.horizon]
        if self.has_head:
            head = cast(AnyHead, self.network.head)
            points = head.point(points)
        forecast = self._to_original(points * spread + mean)
        forecast = torch.where(is_usable, forecast, torch.nan)
        return forecast.float()

    def _is_usable(self, x: Tensor) -> Tensor:
        """Whether ``predict_windows`` forecasts a channel by this network, ``[B, 1, C]``.

        It refuses some windows, and forecasts others by the pretrained network.
        """
        observed_mask = x.isfinite()
        if self.masked:
            has_value = observed_mask.any(1, keepdim=True)
            is_missing = x.isnan()
            has_no_infinity = (observed_mask | is_missing).all(1, keepdim=True)
            # Rows count from the first one with a value in any channel.
            row_has_value = (~is_missing).any(2, keepdim=True)
            begun = row_has_value.cumsum(1) > 0
            n_rows = begun.sum(1, keepdim=True)
            is_long = n_rows >= least_rows(x.shape[1])
            is_usable = has_value & has_no_infinity & is_long
        else:
            is_usable = observed_mask.all(1, keepdim=True)
        if self.transform is None:
            return is_usable
        # Negative values are refused under a transform.
        has_negative = (x < 0).any(1, keepdim=True)
        return is_usable & ~has_negative

    def _mean_and_spread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.equivariant:
            return self.mean, self.scale
        observed_mask = x.isfinite()
        n_observed = observed_mask.sum(1, keepdim=True).clamp(min=1)
        values = x.where(observed_mask, 0.0)
        mean = values.sum(1, keepdim=True) / n_observed
        errors = (x - mean).where(observed_mask, 0.0)
        variance = errors.square().sum(1, keepdim=True) / n_observed
        spread = variance.sqrt()
        size = values.abs().amax(1, keepdim=True)
        is_constant = spread <= _DUST * size
        spread = torch.where(is_constant, torch.zeros_like(spread), spread)
        return mean, spread

    def _to_learning(self, x: Tensor) -> Tensor:
        if self.transform == "log1p":
            return x.log1p()
        if self.transform == "sqrt":
            return x.sqrt()
        return x

    def _to_original(self, y: Tensor) -> Tensor:
        if self.transform is None:
            return y
        y = torch.where(y < 0, torch.zeros_like(y), y)
        if self.transform == "log1p":
            return y.expm1()
        if self.transform == "sqrt":
            return y.square()
        return y


@plain_torch()
def export_program(forecaster: NetworkForecaster) -> "ExportedProgram":
    """The forecaster as a program of ``torch.export``, from windows to points in original units.

    ``program.module()(windows)`` takes float32 ``[batch, context, channels]`` with a batch of at
    least one, and returns the float32 ``[batch, horizon, channels]`` of
    :meth:`~tsattn.AttentionForecaster.predict_windows`. The program includes scaling, reversible
    normalisation and ``target_transform``. The points of a head are the median of quantiles or the
    mean of a distribution. Channels are independent, unless the series look at one another: then
    they are the channels of one window. The program runs on the CPU. It unrolls the steps of a
    decoder.

    A channel of a window is NaN in the result if ``predict_windows`` refuses it: if it is not
    finite, or negative under a transform. All channels are NaN if fewer than 8 rows are left after
    missing rows at the front, since ``predict_windows`` forecasts such windows by the pretrained
    network.

    Tracing sets a flag of the whole process. Attention that other threads compute meanwhile uses
    another backend, which gives the same numbers.

    Args:
        forecaster: A fitted :class:`tsattn.AttentionForecaster` or
            :class:`tsattn.LinearForecaster`.

    Raises:
        TypeError: If it is no such forecaster.
        ValueError: If it is not fitted, reads covariates, has a ``horizon`` above the trained one,
            or if the program gives other numbers on the last contexts of its series.
    """
    _check_fitted(forecaster)
    batch = torch.export.Dim("batch", min=1)
    # With gradients on, a decoder uses no caches, which could not be traced.
    with quiet(), torch.inference_mode(False), torch.enable_grad():
        example = torch.zeros(2, forecaster.context_, _n_channels(forecaster))
        served = _Served(forecaster)
        program = torch.export.export(
            served, (example,), dynamic_shapes=({0: batch},), strict=False
        )
    _remove_stack_traces(program)
    _check_same(forecaster, program)
    return program


def _remove_stack_traces(program: "ExportedProgram") -> None:
    """Remove the source paths of this machine."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


@plain_torch()
def export_pt2(forecaster: NetworkForecaster, path: str | Path) -> None:
    """Write :func:`export_program` into a file that ``torch.export.load`` opens without tsattn.

    Its extra file ``facts.json`` has the metadata of :func:`export_onnx`.

    Args:
        forecaster: A fitted forecaster.
        path: The file, which usually ends in ``.pt2``; an older file is replaced in one step.

    Raises:
        TypeError, ValueError: As :func:`export_program`, and if ``path`` is a folder.
    """
    refuse_folder(path)
    program = export_program(forecaster)
    facts = json.dumps(_facts(forecaster))
    # In memory first: torch's writer of files ends the process where a disk is full.
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={_FACTS_FILE: facts})
    content = buffer.getvalue()
    write_bytes(Path(path), content)


@plain_torch()
def export_onnx(forecaster: NetworkForecaster, path: str | Path) -> None:
    """Write the forecaster into one ONNX file, which onnxruntime runs without torch.

    The input ``windows`` and the output ``points`` are those of :func:`export_program`. The file
    has the metadata ``format``, ``model``, ``context``, ``horizon``, ``channels``, ``frequency``
    and ``channel_names``, a JSON list, which is empty where channels are independent.

    Args:
        forecaster: A fitted :class:`tsattn.AttentionForecaster` or
            :class:`tsattn.LinearForecaster`.
        path: The file; an older file is replaced in one step.

    Raises:
        ImportError: If onnx or onnxscript is missing.
        TypeError, ValueError: As :func:`export_program`, and if ``path`` is a folder.
    """
    refuse_folder(path)
    check_installed("export_onnx", ("onnx", "onnxscript"), "'tsattn[onnx]'")
    onnx_program = to_onnx(export_program(forecaster), ["windows"], "points", ({0: "batch"},))
    metadata = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in _facts(forecaster).items()
    }
    onnx_program.model.metadata_props.update(metadata)

    def write(temporary: Path) -> None:
        onnx_program.save(str(temporary), external_data=False)

    write_atomic(Path(path), write)


def to_onnx(
    program: "ExportedProgram",
    inputs: list[str],
    output: str,
    dynamic_shapes: tuple[Any, ...],
    optimize: bool = True,
) -> Any:
    """A program in operators of ONNX, checked by onnx, without paths of this machine.

    Args:
        program: The program.
        inputs: Names of its inputs.
        output: Name of its output.
        dynamic_shapes: Names of the axes of each input that have any size.
        optimize: Fold constants, which takes long in a large program; runtimes fold them too.

    Raises:
        ValueError: If ONNX lacks an operator.
    """
    from onnx.checker import ValidationError, check_model
    from onnx.shape_inference import InferenceError

    # Imported before quiet, which silences the loggers that exist.
    for module in (
        "onnxscript.optimizer",
        "onnxscript.rewriter",
        "torch.onnx._internal.exporter._core",
    ):
        import_module(module)
    try:
        with quiet():
            onnx_program: Any = torch.onnx.export(
                _with_onnx_operators(program),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=inputs,
                output_names=[output],
                dynamic_shapes=dynamic_shapes,
                optimize=optimize,
            )
        check_model(onnx_program.model_proto, full_check=True)
    except (torch.onnx.OnnxExporterError, ValidationError, InferenceError) as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ValueError(f"this network has no ONNX form ({reason}); use export_pt2") from error
    # The properties hold stack traces with paths of this machine.
    for node in onnx_program.model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    return onnx_program


def _n_channels(forecaster: NetworkForecaster) -> int:
    """Channels of a window: the series that look at one another, or one."""
    return forecaster.config_.mixed_channels or 1


def _facts(forecaster: NetworkForecaster) -> dict[str, Any]:
    names = forecaster.fitted_.ids if forecaster.looks_across else ()
    return {
        "format": FORMAT,
        "model": forecaster.alias_,
        "context": forecaster.context_,
        "horizon": forecaster.horizon,
        "channels": _n_channels(forecaster),
        "frequency": forecaster.panel_.freq,
        "channel_names": [str(name) for name in names],
    }


def _check_fitted(forecaster: NetworkForecaster) -> None:
    if not isinstance(forecaster, NetworkForecaster):
        raise TypeError(
            "only AttentionForecaster and LinearForecaster have a network to export; got"
            f" {type(forecaster).__name__}; export_zero_onnx writes a PretrainedForecaster, and"
            " save() any other"
        )
    if not hasattr(forecaster, "network_"):
        raise ValueError(
            f"{type(forecaster).__name__} has not been fitted; call fit before exporting it"
        )
    refuse_covariates(forecaster, "an exported program")
    config = forecaster.config_
    by_window = config.equivariant or config.head in UNSCALED_HEADS
    if not (by_window or forecaster.looks_across):
        raise ValueError(
            "an exported program does not know the series of a window, and scale='series' scales"
            " windows by their series; fit with Training(scale='window')"
        )
    forecaster._own_steps()


def _check_same(forecaster: NetworkForecaster, program: "ExportedProgram") -> None:
    """Refuse a program with other forecasts than the forecaster's for the ends of its series."""
    contexts = _last_contexts(forecaster)
    windows = torch.as_tensor(contexts)
    with torch.no_grad():
        module = program.module()
        exported = module(windows).numpy()
    expected, _ = forecaster.predict_windows(contexts)
    gap = np.abs(exported - expected).max()
    size = np.abs(expected).max()
    if not gap <= _TOLERANCE * size:
        raise ValueError(
            f"{type(forecaster).__name__} cannot be exported: the program is off by {gap:.3g} for"
            f" forecasts of up to {size:.3g}; export a plain AttentionForecaster or"
            " LinearForecaster"
        )


def _last_contexts(forecaster: NetworkForecaster) -> np.ndarray:
    """The last rows of some series, ``[B, T, C]``."""
    panel = forecaster.panel_.grouped() if forecaster.looks_across else forecaster.panel_
    ends = panel.starts[1:, None]
    first_rows = panel.starts[:-1, None]
    rows = ends + np.arange(-forecaster.context_, 0)
    # A series shorter than the context repeats its first row.
    rows = np.maximum(rows, first_rows)
    rows = rows[:_N_PROBES]
    contexts = History(panel).filled[rows].astype(np.float32)
    is_empty = np.isnan(contexts).all(1, keepdims=True)
    empty_values = np.broadcast_to(is_empty, contexts.shape)
    contexts[empty_values] = 0.0
    # predict_windows would forecast these by the pretrained network.
    is_short = known_rows(contexts) < least_rows(forecaster.context_)
    contexts[is_short] = 0.0
    return contexts


def _with_onnx_operators(program: "ExportedProgram") -> "ExportedProgram":
    """The same program without two operators that ONNX lacks."""
    aten = torch.ops.aten
    # ONNX's sums over letters need the same leading axes in all factors. It has no repetition with
    # counts from a tensor.
    missing_operators = (aten.einsum.default, aten.repeat_interleave.self_Tensor)
    program_operators = {node.target for node in program.graph.nodes}
    if program_operators.isdisjoint(missing_operators):
        return program
    decompositions = torch.export.default_decompositions()
    table = {operator: decompositions[operator] for operator in missing_operators}
    table[aten.repeat_interleave.Tensor] = _repeated_indices
    with quiet():
        return program.run_decompositions(table)


def _repeated_indices(repeats: Tensor, *, output_size: int) -> Tensor:
    """Each index i ``repeats[i]`` times: the first whose running sum exceeds the place."""
    places = torch.arange(output_size, device=repeats.device)
    is_past = places[:, None] >= repeats.cumsum(0)
    return is_past.sum(1)


@contextmanager
def quiet() -> Iterator[None]:
    """Make float32 tensors, and silence the loggers of an export that exist now."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_NOISY_LOGGERS)]
    with silenced(*names), ignored(*_NOISY_WARNINGS), IN_SINGLE:
        yield
