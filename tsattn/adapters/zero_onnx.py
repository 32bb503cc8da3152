"""Export of the pretrained forecaster as one ONNX file, for series and horizons of any length."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from tsattn.adapters.export import quiet, to_onnx
from tsattn.adapters.refusals import refuse_covariates, refuse_folder
from tsattn.checks import check_installed
from tsattn.forecasters.pretrained import MAX_HORIZON, PretrainedForecaster
from tsattn.kernels.geometry import make_geometry
from tsattn.kernels.reference import level_scores
from tsattn.limits import plain_torch
from tsattn.nn.attention import Attention
from tsattn.nn.blocks import TransformerBlock
from tsattn.nn.scores import GroupLevelScore, Places
from tsattn.pretrained.network import (
    RecentPart,
    ZeroNetwork,
    changes_since,
    read_recent,
    share_of_changes,
)
from tsattn.pretrained.outliers import find_outliers
from tsattn.pretrained.period import MAX_PERIOD, Seasons, detect_seasons, running_max
from tsattn.storage import write_bytes
from tsattn.terminal import progress_line

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto
    from torch.export import ExportedProgram

# Version of the metadata, and of the inputs and the output of a program.
FORMAT = 1
# Series are padded to one of these numbers of steps, or to those that the network reads.
_SHAPES = (256,)
# The next ones are those of tsattn.data.windows and tsattn.forecasters.pretrained.
# Parts of a window, each of which must touch a bound.
_N_PARTS = 4
_COUNT_PARTS = 2
_BOUND_PERIOD = 20
_LEAST_VALUES = 32
_FALL_CHANGES = 4
_GRID_STEPS = 64
_EQUAL_VALUES = 1e-9
_OFF_GRID = 1e-6
_EQUAL_ROWS = 28
_INPUTS = ("windows", "horizon", "season", "n_ahead")
_OUTPUT = "quantiles"


class _GroupAttention(nn.Module):
    """Attention by groups in plain operators, for any number of tokens.

    Args:
        attention: The layer whose numbers it gives.
    """

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention
        self.score = cast(GroupLevelScore, attention.score)
        levels = self.score.levels
        example = torch.zeros(1, self.score.n_heads, 1, self.score.d_key)
        n_groupings = len(levels.ranks) - 1
        group = torch.zeros(1, dtype=torch.long)
        groups = (group,) * n_groupings
        # Only its factors are read, which do not depend on the number of tokens.
        self.geometry = make_geometry(
            example, example, levels=levels, groups=groups, scale=self.score.scale
        )

    def forward(
        self, x: Tensor, *, key_mask: Tensor, places: Places, n_last: int | None = None
    ) -> Tensor:
        q, k = self.score.features_at(x, places, n_last)
        scores = level_scores(q, k, geometry=self.geometry, groups=places.groups)
        is_hidden = ~key_mask[:, None, None]
        masked_scores = scores.masked_fill(is_hidden, -torch.inf)
        weights = masked_scores.softmax(dim=-1)
        values = self.attention._values(x)
        return self.attention._join_heads(weights @ values)


class _PaddedForecaster(nn.Module):
    """The pretrained forecaster without shapes that depend on values, for series padded to one
    length.

    Args:
        network: The network.
        n_steps: Steps that a series is padded to; earlier ones are not read.
        nonnegative: As in :class:`tsattn.PretrainedForecaster`.
    """

    def __init__(self, network: ZeroNetwork, n_steps: int, nonnegative: bool) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        for block in self.network.stack.blocks:
            layer = cast(TransformerBlock, block)
            layer.attention = cast(Any, _GroupAttention(layer.attention))
        self.n_steps = n_steps
        self.nonnegative = nonnegative
        self.middle = network.quantile_levels.index(0.5)
        periods = torch.arange(MAX_PERIOD + 1)
        nothing = torch.zeros(len(periods))
        is_clear = nothing > 0
        # All seasons that may be found.
        seasons = Seasons(periods, periods, nothing, nothing, is_clear)
        tokens = network.season_tokens(seasons)
        # More tokens than a series has are hidden by the masks.
        token_steps = tokens.steps // tokens.count
        self.least_token_steps = int(token_steps.min())
        n_context = -(-n_steps // self.least_token_steps)
        self.n_context = min(n_context, network.config.max_tokens)

    def forward(self, windows: Tensor, horizon: Tensor, season: Tensor, n_ahead: int) -> Tensor:
        """``[B, F, Q]`` after windows ``[B, T]``.

        It is NaN where ``predict_windows`` refuses a window, and beyond the horizon of a series.

        Args:
            windows: In original units.
            horizon: Steps ahead of each series, ``[B]``.
            season: Rows of the season that its frequency usually has, ``[B]``; 0 for none.
            n_ahead: The longest horizon F.
        """
        n_windows, n_rows = windows.shape
        padding = windows.new_full((n_windows, self.n_steps), torch.nan)
        padded = torch.cat([padding, windows], dim=1)
        # The last steps, as many as there are of padding.
        x = padded[:, n_rows:]
        has_value = x.isfinite().any(1)
        # Runtimes ask in float32 what isinf asks.
        is_infinite = x.abs() == torch.inf
        is_usable = has_value & ~is_infinite.any(1)
        x = torch.where(is_infinite, torch.nan, x)
        clean = _without_outliers(x)
        recent, seasons = self._look(clean, horizon, season)
        lag = seasons.clear_cycle().clamp_min(1)
        past_changes = _without_outliers(changes_since(recent, lag))
        changes, change_seasons = self._look(past_changes, horizon, season)
        # One batch of both: the network is half of the program if it is in it once.
        both = torch.cat([recent, changes])
        both_seasons = Seasons.joined([seasons, change_seasons])
        answers = self._read(both, both_seasons, horizon.repeat(2), n_ahead)
        levels = answers[:n_windows]
        changes_ahead = answers[n_windows:]
        added = self.network.added_up(recent, changes_ahead, lag, MAX_HORIZON)
        share = share_of_changes(recent, lag, horizon)[:, None, None]
        mixed = levels + share * (added - levels)
        levels = torch.where(share > 0, mixed, levels)
        levels = self._around_last(levels, x, season)
        levels = _nearest(levels, clean, self.nonnegative)
        is_ahead = torch.arange(n_ahead) < horizon[:, None]
        has_answer = is_usable[:, None] & is_ahead
        return torch.where(has_answer[..., None], levels, torch.nan)

    def _look(self, x: Tensor, horizon: Tensor, season: Tensor) -> tuple[Tensor, Seasons]:
        """As :meth:`ZeroNetwork.look`, of series without outliers."""
        likely = season[:, None]
        seasons = detect_seasons(x, likely)
        x, is_cut = read_recent(x, seasons.period, horizon)
        lengths = RecentPart().lengths
        if self.n_steps <= min(lengths):
            return x, seasons
        longest = max(lengths)
        recent_seasons = detect_seasons(x[:, -longest:], likely)
        *pairs, clear_pair = zip(recent_seasons.fields(), seasons.fields(), strict=True)
        fields = [torch.where(is_cut, from_recent, from_whole) for from_recent, from_whole in pairs]
        # Runtimes cannot choose between flags.
        recent_clear, whole_clear = clear_pair
        clear_if_cut = is_cut & recent_clear
        clear_if_whole = ~is_cut & whole_clear
        fields.append(clear_if_cut | clear_if_whole)
        return x, Seasons(*fields)

    def _read(self, x: Tensor, seasons: Seasons, horizon: Tensor, n_ahead: int) -> Tensor:
        """Quantiles of the network ``[B, F, Q]``."""
        # Rounded up.
        n_future = (n_ahead + self.least_token_steps - 1) // self.least_token_steps
        index = torch.arange(-self.n_context, n_future)
        tokens = replace(self.network.season_tokens(seasons), index=index)
        steps = horizon[:, None]
        slots, mean, spread = self.network.read(x, seasons, tokens, n_future, steps)
        future_tokens = replace(tokens, index=torch.arange(n_future))
        return self.network.by_step(slots, future_tokens, mean, spread, n_ahead)

    def _around_last(self, levels: Tensor, x: Tensor, season: Tensor) -> Tensor:
        """Quantiles moved to the last value of windows that have ended, as
        :func:`tsattn.data.windows.last_of_ended` says.
        """
        observed = x.isfinite()
        row = torch.arange(self.n_steps)
        last_row = running_max(torch.where(observed, row, 0))
        filled = x.gather(1, last_row)
        is_change = filled.diff(dim=1).abs() > 0
        # The first step changes nothing.
        changed = torch.nn.functional.pad(is_change, (1, 0))
        n_observed = observed.long().cumsum(1)
        # Number of the observed value with which the run of equal values at each step begins.
        start = running_max(torch.where(changed, n_observed, 0))
        n_equal = n_observed - start + 1
        n_equal = torch.where(start > 0, n_equal, 0)
        in_last = start == start[:, -1:]
        n_last = n_equal[:, -1]
        n_before = torch.where(in_last, 0, n_equal).amax(1)
        least_equal = (2 * season).clamp_min(_EQUAL_ROWS)
        is_long = n_last >= least_equal
        is_longest = n_last > n_before
        is_recent = observed[:, -_EQUAL_ROWS:].any(1)
        has_ended = is_long & is_longest & is_recent
        last_value = filled[:, -1, None, None]
        median = levels[..., self.middle, None]
        moved = levels + (last_value - median)
        smallest = torch.where(observed, x, torch.inf).amin(1)
        is_nonnegative = smallest[:, None, None] >= 0
        moved = torch.where(is_nonnegative, moved.clamp_min(0.0), moved)
        return torch.where(has_ended[:, None, None], moved, levels)


def _without_outliers(x: Tensor) -> Tensor:
    is_outlier = find_outliers(x)
    return torch.where(is_outlier, torch.nan, x)


def _nearest(levels: Tensor, x: Tensor, nonnegative: bool) -> Tensor:
    """Quantiles ``[B, F, Q]`` moved to the values that may follow windows ``[B, T]``, as
    :class:`tsattn.data.windows.Values` says.
    """
    observed = x.isfinite()
    count = observed.sum(1, keepdim=True)
    has_enough = count >= _LEAST_VALUES
    # Missing values stand above all others, or below them.
    upwards = torch.where(observed, x, torch.inf)
    downwards = torch.where(observed, x, -torch.inf)
    smallest = upwards.amin(1, keepdim=True)
    largest = downwards.amax(1, keepdim=True)
    number = observed.long().cumsum(1) - 1
    part = _N_PARTS * number // count.clamp_min(1)
    part_number = torch.arange(_N_PARTS)[:, None]
    in_part = part[:, None] == part_number

    def touches(end: Tensor) -> Tensor:
        is_at_end = (x == end)[:, None]
        return (in_part & is_at_end).sum(2)

    def repeat(counts: Tensor) -> Tensor:
        fewest = counts.amin(1, keepdim=True)
        # The part that touches the end least often stands for all.
        n_touches = _N_PARTS * fewest
        return has_enough & (_BOUND_PERIOD * n_touches >= count)

    step, has_grid = _grid(x, upwards, smallest, largest)
    has_grid = has_enough & has_grid
    n_lowest = touches(smallest)
    n_touching_parts = (n_lowest > 0).sum(1, keepdim=True)
    are_counts = has_grid & (smallest == 0) & (n_touching_parts >= _COUNT_PARTS)
    has_lower = repeat(n_lowest) | are_counts | _have_fallen(x, smallest)
    lower = torch.where(has_lower, smallest, -torch.inf)
    if nonnegative:
        lower = torch.where(smallest >= 0, lower.clamp_min(0.0), lower)
    has_upper = repeat(touches(largest))
    upper = torch.where(has_upper, largest, torch.inf)
    origin = torch.where(has_grid, smallest, 0.0)[..., None]
    unit = torch.where(has_grid, step, 1.0)[..., None]
    grid_steps = ((levels - origin) / unit).round()
    on_grid = origin + unit * grid_steps
    allowed = torch.where(has_grid[..., None], on_grid, levels)
    raised = torch.maximum(allowed, lower[..., None])
    return torch.minimum(raised, upper[..., None])


def _grid(x: Tensor, upwards: Tensor, smallest: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """Step of the grid on which windows ``[B, T]`` lie, and whether they do, ``[B, 1]`` each.

    ``upwards`` are the same windows, infinite where a value is missing.
    """
    observed = x.isfinite()
    count = observed.sum(1, keepdim=True)
    value_range = largest - smallest
    ascending = upwards.sort(dim=1).values
    gaps = ascending.diff(dim=1)
    is_gap = gaps > _EQUAL_VALUES * value_range
    gaps = torch.where(is_gap, gaps, torch.inf)
    step = gaps.amin(1, keepdim=True)
    has_step = step < torch.inf
    position = (x - smallest) / step
    distance = (position - position.round()).abs()
    is_off = observed & (distance > _OFF_GRID)
    is_off_grid = is_off.any(1, keepdim=True)
    most_steps = (count / 2).clamp_max(_GRID_STEPS)
    is_small = value_range <= step * most_steps
    return step, is_small & ~is_off_grid & has_step


def _have_fallen(x: Tensor, smallest: Tensor) -> Tensor:
    """Whether windows ``[B, T]`` have fallen to zero, ``[B, 1]``, as
    :class:`tsattn.data.windows.Values` says.
    """
    last_are_zero = (x[:, -2:] == 0).all(1, keepdim=True)
    ends_at_zero = (smallest == 0) & last_are_zero
    is_positive = x > 0
    is_pair = is_positive[:, 1:] & is_positive[:, :-1]
    sizes = x.diff(dim=1).abs()
    changes = torch.where(is_pair, sizes, 0.0)
    n_pairs = is_pair.sum(1, keepdim=True)
    mean_change = changes.sum(1, keepdim=True) / n_pairs.clamp_min(1)
    row = torch.arange(x.shape[1])
    positive_rows = torch.where(is_positive, row, 0)
    last_row = positive_rows.amax(1, keepdim=True)
    last_positive = x.gather(1, last_row)
    is_fall = last_positive >= _FALL_CHANGES * mean_change
    return ends_at_zero & (n_pairs > 0) & is_fall


@plain_torch()
def export_zero_onnx(
    forecaster: PretrainedForecaster, path: str | Path, *, verbose: bool = False
) -> None:
    """Write the pretrained forecaster into one ONNX file, which onnxruntime runs without torch.
    That takes a minute or more.

    The inputs are ``windows``, float64 ``[batch, rows]`` in original units, NaN where a value is
    missing or a series begins later; ``horizon``, int64 ``[batch]`` from 1 to ``max_horizon``; and
    ``season``, int64 ``[batch]``: the rows of the season that the frequency usually has, 0 for
    none. The output ``quantiles``, float64 ``[batch, longest horizon, levels]``, is that of
    :meth:`~tsattn.forecaster.Forecaster.predict_windows` for the last ``context`` rows; earlier
    rows are not read. The median is the point. A series has the same answer in every batch. It is
    NaN beyond its horizon, and if its window has no finite value or an infinite one.

    The file has the metadata ``format``, ``model``, ``context``, ``max_horizon``, ``season`` and
    ``levels``, a JSON list of the probabilities.

    Args:
        forecaster: Its network is written, also a fine-tuned one, with ``nonnegative``.
        path: The file; an older file is replaced in one step.
        verbose: Show progress on stderr where that is a terminal.

    Raises:
        ImportError: If onnx or onnxscript is missing.
        TypeError: If it is no :class:`tsattn.PretrainedForecaster`.
        ValueError: If it is not fitted or reads covariates, or ``path`` is a folder.
    """
    refuse_folder(path)
    check_installed("export_zero_onnx", ("onnx", "onnxscript"), "'tsattn[onnx]'")
    _check_fitted(forecaster)
    network = forecaster.network_
    context = network.config.token_context
    sizes = [size for size in _SHAPES if size < context]
    sizes.append(context)
    graphs = {}
    title = Path(path).name if verbose else None
    with progress_line(title, n_steps=len(sizes) + 1) as line:
        for number, size in enumerate(sizes):
            line.show(number, f"tracing {size} rows")
            module = _PaddedForecaster(network, size, forecaster.nonnegative).eval()
            traced = _traced(module)
            axes = ({0: "batch", 1: "rows"}, {0: "batch"}, {0: "batch"}, None)
            program = to_onnx(traced, list(_INPUTS), _OUTPUT, axes, optimize=False)
            graphs[size] = program.model_proto
        line.show(len(sizes), "joining")
        model = _joined(graphs)
    facts = {
        "format": FORMAT,
        "model": forecaster.alias_,
        "context": context,
        "max_horizon": MAX_HORIZON,
        "season": forecaster.season_,
        "levels": list(network.quantile_levels),
    }
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=name, value=text)
    content = model.SerializeToString()
    write_bytes(Path(path), content)


def _check_fitted(forecaster: PretrainedForecaster) -> None:
    if not isinstance(forecaster, PretrainedForecaster):
        raise TypeError(
            "export_zero_onnx writes a PretrainedForecaster; got"
            f" {type(forecaster).__name__}; use export_onnx for a trained network"
        )
    forecaster.check_fitted()
    refuse_covariates(forecaster, "an exported program")


def _traced(module: _PaddedForecaster) -> "ExportedProgram":
    """The program of torch, for any batch, rows and horizon."""
    windows = torch.zeros(2, 3, dtype=torch.float64)
    # Several tokens ahead: an axis of one element would be taken for a fixed one.
    n_ahead = 48
    horizon = torch.tensor([n_ahead, 1])
    # Another tensor: two inputs that are one would become one.
    season = torch.tensor([0, 7])
    batch = torch.export.Dim("batch", min=1)
    rows = torch.export.Dim("rows", min=1)
    any_number = torch.export.Dim.DYNAMIC
    dynamic_shapes = ({0: batch, 1: rows}, {0: batch}, {0: batch}, any_number)
    example = (windows, horizon, season, n_ahead)
    with quiet(), torch.inference_mode(False), torch.no_grad():
        return torch.export.export(module, example, dynamic_shapes=dynamic_shapes, strict=False)


def _joined(models: "dict[int, ModelProto]") -> "ModelProto":
    """One model that answers by the first of models whose size holds the rows of the windows.

    Models share their weights.
    """
    from onnx import TensorProto, helper

    *smaller, (largest_size, largest_model) = models.items()
    initializers: dict[bytes, TensorProto] = {}
    branch = _branch(largest_size, largest_model, initializers)
    nodes = [
        helper.make_node("Shape", ["windows"], ["n_rows"], start=1, end=2),
        helper.make_node("ReduceMax", ["horizon"], ["n_ahead"], keepdims=0),
    ]
    for size, model in reversed(smaller):
        limit = helper.make_tensor(f"size_{size}", TensorProto.INT64, [1], [size])
        fits = f"fits_{size}"
        answer = f"answer_{size}"
        smaller_branch = _branch(size, model, initializers)
        # The graph so far answers windows that have more rows.
        choice = [
            helper.make_node("Constant", [], [limit.name], value=limit),
            helper.make_node("LessOrEqual", ["n_rows", limit.name], [fits]),
            helper.make_node(
                "If",
                [fits],
                [answer],
                then_branch=smaller_branch,
                else_branch=branch,
            ),
        ]
        output = helper.make_tensor_value_info(answer, TensorProto.DOUBLE, None)
        branch = helper.make_graph(choice, f"up_to_{size}", [], [output])
    nodes += branch.node
    answer = branch.output[0].name
    renaming = helper.make_node("Identity", [answer], [_OUTPUT])
    nodes.append(renaming)
    axes = ["batch", "horizon", "levels"]
    output = helper.make_tensor_value_info(_OUTPUT, TensorProto.DOUBLE, axes)
    # The longest horizon is computed from the others.
    inputs = [value for value in largest_model.graph.input if value.name != "n_ahead"]
    weights = list(initializers.values())
    graph = helper.make_graph(nodes, "zero", inputs, [output], weights)
    return helper.make_model(
        graph, opset_imports=largest_model.opset_import, ir_version=largest_model.ir_version
    )


def _branch(
    size: int, model: "ModelProto", initializers: "dict[bytes, TensorProto]"
) -> "GraphProto":
    """The graph of a model with names of its own, its weights among the initializers of all."""
    from onnx import helper
    from onnx.shape_inference import infer_shapes

    graph = infer_shapes(model).graph
    types = {}
    for value in graph.value_info:
        types[value.name] = value.type.tensor_type.elem_type
    names = {name: name for name in _INPUTS}
    for tensor in graph.initializer:
        name = tensor.name
        # Weights of other names may be equal.
        tensor.name = ""
        content = tensor.SerializeToString()
        shared = initializers.setdefault(content, tensor)
        if shared is tensor:
            tensor.name = f"weight_{len(initializers)}"
        names[name] = shared.name
    for node in graph.node:
        # Runtimes warn that they cannot fold this operator.
        if node.op_type == "CastLike" and node.output[0] in types:
            node.op_type = "Cast"
            kind = types[node.output[0]]
            attribute = helper.make_attribute("to", kind)
            node.attribute.append(attribute)
            del node.input[1:]
        node.name = f"{node.name}_{size}"
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                # An input that is left out has no name.
                if name:
                    new_name = f"{name}_{size}"
                    values[place] = names.setdefault(name, new_name)
    output = graph.output[0]
    output.name = names[output.name]
    nodes = list(graph.node)
    return helper.make_graph(nodes, f"steps_{size}", [], [output])
