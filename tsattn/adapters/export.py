"""Fitted forecasters as programs that run without tsattn: network, scaling and transforms as ONNX
or torch.
"""

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from tsattn.data.windows import History, known_rows, least_rows
from tsattn.forecaster import refuse_covariates
from tsattn.forecasters.fitted import UNSCALED_HEADS
from tsattn.forecasters.network import NetworkForecaster
from tsattn.limits import IN_SINGLE
from tsattn.nn.heads import AnyHead
from tsattn.nn.models import build_model
from tsattn.silence import ignored, silenced
from tsattn.storage import write_atomic

if TYPE_CHECKING:
    from torch.export import ExportedProgram

# Version of what stands in the metadata and of what goes in and out.
FORMAT = 1
# Operators of this set are known to every runtime of the last years.
_OPSET = 18
# Series on which an export is compared with the forecaster, and how far they may differ, as a share
# of the values.
_PROBES = 8
_TOLERANCE = 1e-5
_FACTS_FILE = "facts.json"
# What torch and its libraries tell of each step of an export, for their own developers.
_CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


class _Served(nn.Module):
    """From windows in original units to points in original units: what ``predict_windows`` does
    around its network.

    The scale is computed in float64 as there, so that a level that is large beside the movement
    costs no digits.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, forecaster: NetworkForecaster) -> None:
        super().__init__()
        config = forecaster.config_
        # A network of its own, on the CPU, so that the forecaster's is not touched.
        with IN_SINGLE:
            self.network = build_model(config, generator=torch.Generator().manual_seed(0))
        self.network.load_state_dict(
            {name: value.cpu() for name, value in forecaster.network_.state_dict().items()}
        )
        unscaled = config.head in UNSCALED_HEADS
        self.masked, self.equivariant = config.masked, config.equivariant and not unscaled
        self.head = forecaster.fitted_.head is not None
        self.transform, self.horizon = forecaster.fitted_.transform.name, forecaster.horizon
        shape = (1, 1, forecaster.panel_.n_channels)
        for name, neutral in (("mean", 0.0), ("scale", 1.0)):
            value = torch.full(shape, neutral, dtype=torch.float64)
            if not (unscaled or self.equivariant):
                known = np.broadcast_to(getattr(forecaster.fitted_.scaler, name), shape)
                value = torch.as_tensor(known.copy()).double()
            self.register_buffer(name, value)
        self.eval().requires_grad_(False)

    def forward(self, windows: Tensor) -> Tensor:
        """``[batch, context, channels]`` to ``[batch, horizon, channels]``; NaN for what cannot be
        forecast.
        """
        usable = self._usable(windows)
        x = self._to_learning(windows.double())
        level, spread = self._level_and_spread(x)
        scaled = (x - level) / torch.where(spread > 0, spread, torch.ones_like(spread))
        points = self.network(scaled.float()).double()[:, : self.horizon]
        if self.head:
            points = cast(AnyHead, self.network.head).point(points)
        return torch.where(usable, self._to_original(points * spread + level), torch.nan).float()

    def _usable(self, x: Tensor) -> Tensor:
        """Windows and channels that ``predict_windows`` would neither refuse nor hand to another
        network [B, 1, C].
        """
        known = x.isfinite()
        if self.masked:
            usable = known.any(1, keepdim=True) & (known | x.isnan()).all(1, keepdim=True)
            begun = (~x.isnan()).any(2, keepdim=True).cumsum(1) > 0
            usable = usable & (begun.sum(1, keepdim=True) >= least_rows(x.shape[1]))
        else:
            usable = known.all(1, keepdim=True)
        return usable if self.transform is None else usable & ~(x < 0).any(1, keepdim=True)

    def _level_and_spread(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.equivariant:
            return self.mean, self.scale
        known = x.isfinite()
        count = known.sum(1, keepdim=True).clamp(min=1)
        level = x.where(known, 0.0).sum(1, keepdim=True) / count
        spread = ((x - level).where(known, 0.0).square().sum(1, keepdim=True) / count).sqrt()
        size = x.where(known, 0.0).abs().amax(1, keepdim=True)
        return level, torch.where(spread <= 1e-12 * size, torch.zeros_like(spread), spread)

    def _to_learning(self, x: Tensor) -> Tensor:
        if self.transform == "log1p":
            return x.log1p()
        return x.sqrt() if self.transform == "sqrt" else x

    def _to_original(self, y: Tensor) -> Tensor:
        if self.transform is None:
            return y
        y = torch.where(y < 0, torch.zeros_like(y), y)
        if self.transform == "log1p":
            return y.expm1()
        return y.square() if self.transform == "sqrt" else y


def export_program(forecaster: NetworkForecaster) -> "ExportedProgram":
    """The forecaster as a program of ``torch.export``, from windows to points, both in original
    units.

    ``program.module()(windows)`` takes float32 ``[batch, context, channels]``, any batch of at
    least one, and gives the float32 ``[batch, horizon, channels]`` of
    :meth:`~tsattn.AttentionForecaster.predict_windows`: scaling, reversible normalisation and
    ``target_transform`` are inside, and of a head its points: the median of quantiles, the mean of
    a distribution. Series of a long table have one channel. Windows that ``predict_windows``
    refuses (not finite, or negative under a transform) come back as NaN in the channel concerned,
    and so do, in all channels, those that it hands to the pretrained network because fewer than 8
    rows are left after missing ones at the front. A decoder's steps are written out one after the
    other. The program runs on the CPU.

    Tracing switches a flag of the whole process: attention that other threads compute meanwhile
    takes another way to the same numbers.

    Args:
        forecaster: A fitted :class:`tsattn.AttentionForecaster` or
            :class:`tsattn.LinearForecaster`.

    Raises:
        TypeError: If it is no such forecaster.
        ValueError: If it has not been fitted, reads covariates, its ``horizon`` exceeds the trained
            one, or the program would not give the same numbers on the last contexts of its series.
    """
    _check_fitted(forecaster)
    batch = torch.export.Dim("batch", min=1)
    # Gradients on: a decoder then takes the way without caches, which can be traced.
    with _quiet(), torch.inference_mode(False), torch.enable_grad():
        example = torch.zeros(2, forecaster.context_, forecaster.panel_.n_channels)
        program = torch.export.export(
            _Served(forecaster), (example,), dynamic_shapes=({0: batch},), strict=False
        )
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # source paths of this machine are nobody's business
    _check_same(forecaster, program)
    return program


def export_pt2(forecaster: NetworkForecaster, path: str | Path) -> None:
    """Write :func:`export_program` into a file that ``torch.export.load`` opens without tsattn.

    The facts of :func:`export_onnx` are in its extra file ``facts.json``.

    Args:
        forecaster: Fitted.
        path: The file, named ``.pt2`` by custom; an older one is replaced in one step.

    Raises:
        TypeError, ValueError: As :func:`export_program`.
    """
    program = export_program(forecaster)
    facts = json.dumps(_facts(forecaster))
    whole = io.BytesIO()  # torch's own writer ends the process where a disk is full
    with _quiet():
        torch.export.save(program, whole, extra_files={_FACTS_FILE: facts})
    write_atomic(Path(path), lambda aside: aside.write_bytes(whole.getvalue()))


def export_onnx(forecaster: NetworkForecaster, path: str | Path) -> None:
    """Write the forecaster into one ONNX file, which onnxruntime serves without torch.

    Input ``windows`` and output ``points`` are those of :func:`export_program`. The metadata of the
    file say what goes in: ``format``, ``model``, ``context``, ``horizon``, ``channels``,
    ``frequency``, ``table`` (``long`` or ``wide``), and ``channel_names``, a JSON list.

    Args:
        forecaster: A fitted :class:`tsattn.AttentionForecaster` or
            :class:`tsattn.LinearForecaster`.
        path: The file; an older one is replaced in one step.

    Raises:
        ImportError: If onnx or onnxscript is missing.
        TypeError, ValueError: As :func:`export_program`.
    """
    for name in ("onnx", "onnxscript"):
        if find_spec(name) is None:
            raise ImportError(
                f"export_onnx needs {name}, which is not installed; install tsattn[onnx]"
            )
    made = _to_onnx(export_program(forecaster))
    for node in made.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces with paths
        for value in node.outputs:
            value.metadata_props.clear()
    facts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in _facts(forecaster).items()}
    made.model.metadata_props.update(facts)
    write_atomic(Path(path), lambda aside: made.save(str(aside), external_data=False))


def _to_onnx(program: "ExportedProgram") -> Any:
    """The program in operators of ONNX, checked by onnx and refused where ONNX has no
    words for it.
    """
    from onnx.checker import ValidationError, check_model
    from onnx.shape_inference import InferenceError

    for module in (
        "onnxscript.optimizer",
        "onnxscript.rewriter",
        "torch.onnx._internal.exporter._core",
    ):
        import_module(module)  # so that their loggers are there before they are asked to be quiet
    try:
        with _quiet():
            made: Any = torch.onnx.export(
                _spelt_out(program),
                dynamo=True,
                verbose=False,
                opset_version=_OPSET,
                input_names=["windows"],
                output_names=["points"],
                dynamic_shapes=({0: "batch"},),
            )
        check_model(made.model_proto, full_check=True)
    except (torch.onnx.OnnxExporterError, ValidationError, InferenceError) as error:
        why = str(error.__cause__ or error).partition("\n")[0]
        raise ValueError(f"this network has no ONNX form ({why}); use export_pt2") from error
    return made


def _facts(forecaster: NetworkForecaster) -> dict[str, Any]:
    panel = forecaster.panel_
    return {
        "format": FORMAT,
        "model": forecaster.alias_,
        "context": forecaster.context_,
        "horizon": forecaster.horizon,
        "channels": panel.n_channels,
        "frequency": panel.freq,
        "table": panel.dialect.kind,
        "channel_names": [str(name) for name in panel.channels],
    }


def _check_fitted(forecaster: NetworkForecaster) -> None:
    if not isinstance(forecaster, NetworkForecaster):
        raise TypeError(
            "only AttentionForecaster and LinearForecaster have a network to export; got"
            f" {type(forecaster).__name__}; save other models with their own libraries"
        )
    if not hasattr(forecaster, "network_"):
        raise ValueError(
            f"{type(forecaster).__name__} has not been fitted; call fit before exporting it"
        )
    refuse_covariates(forecaster, "an exported program")
    forecaster._own_steps()


def _check_same(forecaster: NetworkForecaster, program: "ExportedProgram") -> None:
    """Refuse a program that gives other numbers than the forecaster on what it saw last."""
    panel = forecaster.panel_
    rows = panel.starts[1:, None] + np.arange(-forecaster.context_, 0)
    contexts = (
        History(panel)
        .filled[np.maximum(rows, panel.starts[:-1, None])[:_PROBES]]
        .astype(np.float32)
    )
    contexts[np.broadcast_to(np.isnan(contexts).all(1, keepdims=True), contexts.shape)] = (
        0.0  # nothing known at all
    )
    contexts[known_rows(contexts) < least_rows(forecaster.context_)] = 0.0  # another network's
    with torch.no_grad():
        ours = program.module()(torch.as_tensor(contexts)).numpy()
    theirs = forecaster.predict_windows(contexts)[0]
    gap = np.abs(ours - theirs).max()
    size = np.abs(theirs).max()
    if not gap <= _TOLERANCE * size:
        raise ValueError(
            f"{type(forecaster).__name__} cannot be exported: the program is off by {gap:.3g} for"
            f" forecasts of up to {size:.3g}; export a plain AttentionForecaster or"
            " LinearForecaster"
        )


def _spelt_out(program: "ExportedProgram") -> "ExportedProgram":
    """The same program in operators that ONNX has, where it is known to lack some."""
    aten = torch.ops.aten
    known = torch.export.default_decompositions()
    # ONNX has sums over letters, but wants as many leading axes of all factors; it has no counts
    # that are a tensor.
    lacking = (aten.einsum.default, aten.repeat_interleave.self_Tensor)
    if not set(lacking) & {node.target for node in program.graph.nodes}:
        return program
    table = {operator: known[operator] for operator in lacking}
    with _quiet():
        return program.run_decompositions(
            {**table, aten.repeat_interleave.Tensor: _repeated_indices}
        )


def _repeated_indices(repeats: Tensor, *, output_size: int) -> Tensor:
    """Index i ``repeats[i]`` times over: that of the first running sum above each place."""
    places = torch.arange(output_size, device=repeats.device)
    return (places[:, None] >= repeats.cumsum(0)).sum(1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Write float32, and keep what torch says to its own developers to ourselves, by loggers there
    are at this time.
    """
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_CHATTY)]
    with silenced(*names), ignored((FutureWarning, ".*LeafSpec")), IN_SINGLE:
        yield
