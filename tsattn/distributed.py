"""Work on several processes or machines: forecasts, backtests and grids in pieces; DDP settings."""

import base64
import itertools
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tsattn.checks import check_choice, check_installed, check_whole
from tsattn.data.columns import TableLike
from tsattn.data.future import rows_of_some
from tsattn.data.panel import Panel, require_length, skip_bad, tell_skipped
from tsattn.data.windows import History, Scaler
from tsattn.evaluate.backtest import (
    BacktestPlan,
    BacktestResult,
    Forecasters,
    backtest,
    fit_copy,
    judge_fits,
    read_by,
)
from tsattn.evaluate.rolling import Rolled, judge_windows, require_starts
from tsattn.forecaster import Forecaster, check_forecaster
from tsattn.forecasts import Data, Forecast
from tsattn.storage import one_line
from tsattn.training.processes import DDPSettings

__all__ = ["DDPSettings", "backtest_many", "distributed_map", "predict_many"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Engine by name, and the packages that it needs beside fugue.
_ENGINES = {
    "native": (),
    "ray": ("ray", "pyarrow", "duckdb"),  # fugue skips Ray in silence without the other two
    "dask": ("dask", "distributed"),
    "spark": ("pyspark",),
}
# Errors about the input of the caller. They come back from a worker as they were raised there.
_RELAYED = (ValueError, TypeError, OSError, ImportError)
_PIECES = ("fold", "series")


def distributed_map(
    function: Callable[[_Item], _Result], items: Iterable[_Item], *, engine: Any = None
) -> list[_Result]:
    """``[function(item) for item in items]``, on several processes or machines.

    Args:
        function: Any callable that pickles; lambdas and functions of scripts do. It runs once for
            each item, or again where an engine loses a worker.
        items: Arguments of the function. Each should take seconds, not milliseconds.
        engine: ``None`` works in this process, one item after another. A number is the number of
            processes of this machine. ``"ray"``, ``"dask"`` and ``"spark"``, their clients and
            sessions, and whatever else fugue takes, work through fugue. A name uses the running
            session of the engine, or starts one on this machine that stays until Python ends.
            Scripts that start one need the guard ``if __name__ == "__main__":``. The log lines of
            an engine are not changed.

    Returns:
        The results in the order of the items.

    Raises:
        ValueError: If the engine is unknown. An error of ``function`` is raised once all items are
            done, the first in their order. The same holds for TypeError, OSError and ImportError;
            each engine has its own way with other errors.
        ImportError: If fugue or the engine is not installed.

    Example:
        >>> distributed_map(abs, [-2, 3])
        [2, 3]
    """
    all_items = list(items)
    engine = _checked_engine(engine)
    if engine is None:
        return [function(item) for item in all_items]
    if isinstance(engine, int):
        outcomes = _on_processes(function, all_items, engine)
    else:
        outcomes = _on_fugue(function, all_items, engine)
    for error, _ in outcomes:
        if error is not None:
            raise error
    return [result for _, result in outcomes]


def predict_many(
    forecaster: Forecaster,
    data: Data,
    *,
    engine: Any = None,
    n_chunks: int | None = None,
    future: TableLike | None = None,
    **options: Any,
) -> pd.DataFrame | Forecast:
    """``forecaster.predict(data)`` on chunks of series.

    Args:
        forecaster: A fitted forecaster; each chunk gets a copy. Its forecast of a series must not
            depend on other series.
        data: Series to forecast. A wide frame is one series and stays whole.
        engine: As in :func:`distributed_map`.
        n_chunks: Number of chunks; ``None`` takes as many as the engine works on at a time.
        future: Values of covariates after the ends, as in ``predict``.
        **options: ``level``, ``quantiles``, ``horizon`` and other arguments of ``predict``.

    Returns:
        The result of ``predict``. Numbers differ only by the rounding of sums, since batches have
        another size.

    Raises:
        TypeError: If the forecaster is a name or a class.
        ValueError: As ``predict``, or if ``n_chunks`` is below 1.
    """
    check_forecaster(forecaster)
    forecaster.check_fitted()
    panel = forecaster.series(data)
    if not isinstance(data, Panel):
        reason = f"the context of {forecaster.alias_}"
        _, panel = skip_bad(
            panel,
            lambda part: require_length(part, forecaster.min_context, reason),
            forecaster.schema.bad,
        )
        tell_skipped(panel)
    # A forecast does not depend on rows before the context, unless missing values are filled from
    # them.
    has_missing = np.isnan(panel.values).any()
    short = panel if has_missing else panel.last(forecaster.max_context)
    chunks = []
    for first, stop in _chunk_bounds(panel.n_series, engine, n_chunks):
        series = short.some(first, stop)
        chunk_future = None if future is None else rows_of_some(future, panel, first, stop)
        chunks.append((series, chunk_future))
    predict_chunk = partial(_predict, forecaster, options)
    forecasts = distributed_map(predict_chunk, chunks, engine=engine)
    forecast = _joined(forecasts, panel)
    return forecast if isinstance(data, Panel) else forecast.to_frame()


def backtest_many(
    forecasters: Forecasters,
    data: Data,
    *,
    by: str = "fold",
    engine: Any = None,
    n_chunks: int | None = None,
    **options: Any,
) -> BacktestResult:
    """:func:`tsattn.evaluate.backtest.backtest` in pieces.

    Args:
        forecasters: As in ``backtest``.
        data: As in ``backtest``.
        by: ``"fold"`` makes a piece of each fit of each forecaster, with the windows up to the next
            fit. ``"series"`` makes the fits in this process, one after another, and judges the
            windows of each in chunks of series. It serves forecasters with a quick fit and a slow
            forecast.
        engine: As in :func:`distributed_map`; each piece gets a copy of the series.
        n_chunks: Number of chunks of series, for ``by="series"``; ``None`` takes as many as the
            engine works on at a time.
        **options: ``n_windows``, ``step_size``, ``refit``, ``level`` and the others of
            ``backtest``.

    Returns:
        The result of ``backtest``. By fold, forecasts are the same bit for bit under the same
        number of threads. By series, they differ by the rounding of sums, since batches have
        another size. Scores are sums over pieces, and differ by rounding.

    Raises:
        ValueError: As ``backtest``, or if ``by`` or ``n_chunks`` is not usable.
    """
    check_choice("by", by, _PIECES)
    _checked_engine(engine)
    if n_chunks is not None and by == "fold":
        raise ValueError(
            f"n_chunks deals series out, and by='fold' deals fits out; got n_chunks = {n_chunks!r}:"
            " use one"
        )
    if n_chunks is not None:
        check_whole("n_chunks", n_chunks)
    judge = partial(_by_series, engine, n_chunks)
    if by == "fold":
        judge = partial(_by_fold, engine)
    return backtest(forecasters, data, judge=judge, **options)


# --- engines --------------------------------------------------------------------------------------


def _checked_engine(engine: Any) -> Any:
    """The engine, or the int where it is a number of processes."""
    if engine is None:
        return None
    if isinstance(engine, str) and engine.isdecimal():
        engine = int(engine)
    if isinstance(engine, Integral):
        if isinstance(engine, bool) or engine < 1:
            raise ValueError(f"engine as a number of processes must be at least 1; got {engine!r}")
        return int(engine)
    name = engine if isinstance(engine, str) else type(engine).__name__
    engine_packages: tuple[str, ...] = ()
    if isinstance(engine, str):
        if engine not in _ENGINES:
            names = ", ".join(_ENGINES)
            raise ValueError(
                f"engine must be a number of processes or one of {names}; got {engine!r}"
            )
        engine_packages = _ENGINES[engine]
    feature = f"engine {name!r}"
    extra = "'tsattn[distributed]'"
    for package in ("fugue", "cloudpickle", *engine_packages):
        # The extra leaves Spark out.
        install = f"{extra} pyspark" if package == "pyspark" else extra
        check_installed(feature, [package], install)
    return engine


def _parallelism(engine: Any) -> int:
    """Number of pieces that an engine works on at a time."""
    engine = _checked_engine(engine)
    if engine is None:
        return 1
    if isinstance(engine, int):
        return engine
    from fugue.execution.factory import make_execution_engine

    execution_engine = make_execution_engine(engine)
    n_pieces = int(execution_engine.get_current_parallelism())
    return max(1, n_pieces)


# The error of a call that the caller gets, and the result.
_Outcome = tuple[BaseException | None, Any]


def _on_processes(
    function: Callable[[_Item], _Result], items: list[_Item], n_processes: int
) -> list[_Outcome]:
    from concurrent.futures.process import BrokenProcessPool

    import joblib

    # Without memory maps, because a function may write to its arguments.
    run = joblib.Parallel(n_jobs=n_processes, backend="loky", max_nbytes=None, batch_size=1)
    attempt = joblib.delayed(_attempt)
    try:
        outcomes = run(attempt(function, item) for item in items)
    except BrokenProcessPool as error:
        reason = one_line(error)[:60]
        raise OSError(
            f"one of {n_processes} processes was killed ({reason}), as happens where"
            " memory runs out; take fewer processes or smaller pieces, or an engine that goes on,"
            " such as 'dask' or 'ray'"
        ) from None
    return outcomes


def _on_fugue(
    function: Callable[[_Item], _Result], items: list[_Item], engine: Any
) -> list[_Outcome]:
    """Outcomes of a fugue map over a table with one item a row, and one row a partition."""
    import fugue.api

    if not items:
        return []
    n_items = len(items)
    packed_items = [_packed(item) for item in items]
    table = pd.DataFrame({"place": np.arange(n_items), "item": packed_items})
    # fugue's own engine has one partition, and warns where more are requested.
    partition = None if engine == "native" else "per_row"
    answer = fugue.api.transform(
        table,
        _answer_rows,
        schema="place:long,answer:str",
        params={"function": _packed(function)},
        partition=partition,
        engine=engine,
        as_local=True,
    )
    rows = fugue.api.as_pandas(answer).sort_values("place")
    if rows["place"].tolist() != list(range(n_items)):
        raise RuntimeError(f"the engine answered {len(rows)} of {n_items} items; look at its logs")
    return [_unpacked(text) for text in rows["answer"]]


def _answer_rows(rows: Iterable[dict[str, Any]], function: str) -> Iterable[dict[str, Any]]:
    unpacked_function = _unpacked(function)
    for row in rows:
        item = _unpacked(row["item"])
        outcome = _attempt(unpacked_function, item)
        yield {"place": row["place"], "answer": _packed(outcome)}


def _attempt(function: Callable[[Any], Any], item: Any) -> _Outcome:
    try:
        return None, function(item)
    except _RELAYED as error:
        return error, None


def _packed(value: Any) -> str:
    """A pickle as text, because not every engine keeps bytes."""
    import cloudpickle

    return base64.b64encode(cloudpickle.dumps(value)).decode("ascii")


def _unpacked(text: str) -> Any:
    content = base64.b64decode(text)
    return pickle.loads(content)


# --- pieces ---------------------------------------------------------------------------------------


def _chunk_bounds(n_series: int, engine: Any, n_chunks: int | None) -> list[tuple[int, int]]:
    """The first series of each chunk and of the next one. Chunks have about the same size."""
    if n_chunks is None:
        n_chunks = _parallelism(engine)
    else:
        check_whole("n_chunks", n_chunks)
    n_chunks = min(n_chunks, n_series)  # so that none is empty
    spread = np.linspace(0, n_series, n_chunks + 1)
    bounds = spread.astype(int).tolist()
    return list(itertools.pairwise(bounds))


def _predict(
    forecaster: Forecaster, options: Mapping[str, Any], chunk: tuple[Panel, TableLike | None]
) -> Forecast:
    panel, future = chunk
    # Not every forecaster has the argument.
    if future is not None:
        options = {**options, "future": future}
    forecast = forecaster.predict(panel, **options)
    if not isinstance(forecast, Forecast):
        raise TypeError(
            f"predict must answer a Panel with a Forecast; got {type(forecast).__name__}"
        )
    return forecast


def _joined(parts: Sequence[Forecast], panel: Panel) -> Forecast:
    """Join the forecasts of several chunks of the series of a panel."""
    first, *others = parts
    is_mean = None
    if first.is_mean is not None:
        is_mean = np.concatenate([part.is_mean for part in parts])
    source = first.source
    if source is not None:
        source = replace(source, panel=panel)
    quantiles = {}
    for quantile in first.quantiles:
        bounds = [part.quantiles[quantile] for part in parts]
        quantiles[quantile] = np.concatenate(bounds)
    return replace(
        first,
        point=np.concatenate([part.point for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        times=first.times.append([part.times for part in others]),
        cutoffs=first.cutoffs.append([part.cutoffs for part in others]),
        quantiles=quantiles,
        source=source,
        is_mean=is_mean,
    )


# Name of a forecaster, its series, and its windows.
_Slot = tuple[str, slice, slice]


def _by_fold(engine: Any, plan: BacktestPlan) -> dict[str, Rolled]:
    """Judge each fit of each forecaster as a piece."""
    pieces = []
    slots = []
    for name in plan.named:
        for fit, (first, stop) in enumerate(_windows_of_fits(plan)):
            pieces.append((name, fit))
            slots.append((name, slice(None), slice(first, stop)))
    parts = distributed_map(partial(_judge_fold, plan), pieces, engine=engine)
    return _gathered(plan, slots, parts)


def _windows_of_fits(plan: BacktestPlan) -> list[tuple[int, int]]:
    """The first window of each fit and of the next one."""
    n_windows = plan.origins.shape[1]
    return list(itertools.pairwise([*plan.fits, n_windows]))


def _judge_fold(plan: BacktestPlan, piece: tuple[str, int]) -> Rolled:
    name, fit = piece
    return judge_fits(plan, name, History(plan.panel), fit, fit + 1)


def _by_series(engine: Any, n_chunks: int | None, plan: BacktestPlan) -> dict[str, Rolled]:
    """Make each fit in this process, and judge its windows in chunks of series."""
    chunks = _chunk_bounds(plan.panel.n_series, engine, n_chunks)
    pieces = []
    slots = []
    for name, forecaster in plan.named.items():
        panel = read_by(forecaster.masks, plan.panel)
        for start, stop in _windows_of_fits(plan):
            origins = plan.origins[:, start]
            # All series have one length, and as many rows after the fit.
            n_judged = int(panel.lengths[0] - origins[0])
            fitted = fit_copy(name, forecaster, panel.until(origins), n_judged)
            require_starts(fitted, panel, plan.origins[:, start:stop])
            own_panel = read_by(fitted.masks_, panel)
            for first, last in chunks:
                mean = plan.scaler.mean[first:last]
                scale = plan.scaler.scale[first:last]
                piece = replace(
                    plan,
                    named={name: fitted},
                    panel=own_panel.some(first, last),
                    origins=plan.origins[first:last, start:stop],
                    scaler=Scaler(mean, scale),
                )
                pieces.append(piece)
                slots.append((name, slice(first, last), slice(start, stop)))
    parts = distributed_map(_judge_series, pieces, engine=engine)
    return _gathered(plan, slots, parts)


def _judge_series(plan: BacktestPlan) -> Rolled:
    """Judge the only forecaster of a plan, which is fitted, on all windows of the plan."""
    ((name, fitted),) = plan.named.items()
    n_judged = int(plan.panel.lengths[0] - plan.origins[0, 0])
    require_length(
        plan.panel,
        fitted.min_context + n_judged,
        f"a judged span of {n_judged} rows after the context of {name}",
    )
    rolled = plan.blank(name)
    windows = np.arange(plan.origins.size)
    judge_windows(rolled, fitted, History(plan.panel), windows)
    return rolled


def _gathered(
    plan: BacktestPlan, slots: Sequence[_Slot], parts: Sequence[Rolled]
) -> dict[str, Rolled]:
    """Put the windows of all pieces into one result a forecaster."""
    results = {name: plan.blank(name) for name in plan.named}
    window_numbers = np.arange(plan.origins.size).reshape(plan.origins.shape)
    for (name, series, windows), part in zip(slots, parts, strict=True):
        result = results[name]
        result.tally.include(part.tally, series)
        numbers = window_numbers[series, windows].ravel()
        result.keep(numbers, part.point, part.bounds)
    return results
