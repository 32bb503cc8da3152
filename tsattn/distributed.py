"""How does work spread over processes and machines? Training by DDP; forecasts, judging and grids
piece by piece.
"""

import base64
import itertools
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from tsattn.data.columns import as_frame
from tsattn.data.frames import Panel, TableLike, require_length
from tsattn.data.windows import History, Scaler
from tsattn.evaluate.backtest import BacktestPlan, BacktestResult, backtest, fit_copy, judge_fits
from tsattn.evaluate.rolling import Rolled, judge_windows
from tsattn.forecaster import Forecast, Forecaster, check_forecaster
from tsattn.settings import check_whole
from tsattn.training.processes import DDPSettings

__all__ = ["DDPSettings", "backtest_many", "distributed_map", "predict_many"]

_T = TypeVar("_T")
_R = TypeVar("_R")
# Engines by name, and the packages that they need beside fugue.
_ENGINES = {"native": (), "ray": ("ray",), "dask": ("dask", "distributed"), "spark": ("pyspark",)}
# Errors that say something to the caller: they come back from wherever they were raised as they
# are.
_RELAYED = (ValueError, TypeError, OSError, ImportError)
_WAYS = ("fold", "series")


def distributed_map(
    function: Callable[[_T], _R], items: Iterable[_T], *, engine: Any = None
) -> list[_R]:
    """``[function(item) for item in items]``, on several processes or machines.

    Args:
        function: Anything that pickles, lambdas and functions of scripts included; run once for
            each item, or again where an engine loses a worker.
        items: What it is run on; each should be worth seconds, not milliseconds.
        engine: ``None``: here, one after another. A number: so many processes of this machine.
            ``"ray"``, ``"dask"`` or ``"spark"``, or a client or session of theirs, or anything else
            that fugue takes: there, through fugue. A name uses the engine's running session, or
            starts one on this machine that stays until Python ends; scripts that start one need the
            guard ``if __name__ == "__main__":``. What an engine logs is its own.

    Returns:
        The results in the order of the items.

    Raises:
        ValueError: If the engine is unknown; or what ``function`` raised first, in the order of
            items, once all are done. Likewise TypeError, OSError and ImportError; others come as
            the engine has them.
        ImportError: If fugue or the engine is not installed.

    Example:
        >>> distributed_map(abs, [-2, 3])
        [2, 3]
    """
    given = list(items)
    engine = _checked(engine)
    if engine is None:
        return [function(item) for item in given]
    if isinstance(engine, int):
        import joblib

        # No memory maps: what a function gets must be its own to write to.
        run = joblib.Parallel(n_jobs=engine, backend="loky", max_nbytes=None, batch_size=1)
        outcomes = run(joblib.delayed(_attempt)(function, item) for item in given)
    else:
        outcomes = _through_fugue(function, given, engine)
    for error, _ in outcomes:
        if error is not None:
            raise error
    return [result for _, result in outcomes]


def predict_many(
    forecaster: Forecaster,
    data: TableLike | Panel,
    *,
    engine: Any = None,
    n_chunks: int | None = None,
    future: TableLike | None = None,
    **asked: Any,
) -> pd.DataFrame | Forecast:
    """``forecaster.predict(data)`` with the series dealt out in chunks.

    Args:
        forecaster: Fitted; each chunk gets a copy. A model whose forecast of a series looks at
            others must not be used in this way.
        data: Series to continue. A wide frame is one series and stays whole.
        engine: As in :func:`distributed_map`.
        n_chunks: Parts; ``None`` takes as many as the engine works on at a time.
        future: Values of covariates after the ends, for a forecaster that reads some, as in its
            ``predict``.
        **asked: ``level``, ``quantiles``, ``horizon`` and what else its ``predict`` takes.

    Returns:
        The answer of ``predict``: the same numbers, but for the rounding of sums in batches of
        another size.

    Raises:
        TypeError: If the forecaster is a name or a class.
        ValueError: As ``predict``, or if ``n_chunks`` is below 1.
    """
    check_forecaster(forecaster)
    forecaster.check_fitted()
    panel = forecaster.series(data)
    # What lies before what it reads has no part in a forecast, except as what missing values are
    # filled with.
    short = panel if np.isnan(panel.values).any() else panel.last(forecaster.max_context)
    edges = _edges(panel.n_series, engine, n_chunks)
    parts = [(short.some(*edge), _ahead(panel, future, *edge)) for edge in edges]
    answers = distributed_map(partial(_predict, forecaster, asked), parts, engine=engine)
    whole = _joined(answers)
    return whole if isinstance(data, Panel) else whole.to_frame()


def backtest_many(
    forecasters: Forecaster | Sequence[Forecaster] | Mapping[str, Forecaster],
    data: TableLike | Panel,
    *,
    by: str = "fold",
    engine: Any = None,
    n_chunks: int | None = None,
    **options: Any,
) -> BacktestResult:
    """:func:`tsattn.evaluate.backtest.backtest` with its work dealt out.

    Args:
        forecasters: As in ``backtest``.
        data: Likewise.
        by: ``"fold"``: each fit of each forecaster, with the windows up to the next fit, is a
            piece. ``"series"``: fits are made here, one after another, and the windows of each are
            judged in chunks of series; for forecasters whose fit is quick and whose forecast is
            slow.
        engine: As in :func:`distributed_map`; each piece takes a copy of the series along.
        n_chunks: Chunks of series, for ``by="series"``; ``None`` takes as many as the engine works
            on at a time.
        **options: ``n_windows``, ``step_size``, ``refit``, ``level`` and the others of
            ``backtest``.

    Returns:
        The result of ``backtest``. By fold, forecasts are the same, bit for bit under the same
        number of threads; by series, but for the rounding of sums in batches of another size.
        Scores are sums over pieces, the same but for rounding.

    Raises:
        ValueError: As ``backtest``, or if ``by`` or ``n_chunks`` is not usable.
    """
    if by not in _WAYS:
        raise ValueError(f"by must be {' or '.join(map(repr, _WAYS))}; got {by!r}")
    _checked(engine)
    if n_chunks is not None and by == "fold":
        raise ValueError(
            f"n_chunks deals series out, and by='fold' deals fits out; got n_chunks = {n_chunks!r}:"
            " use one"
        )
    if n_chunks is not None:
        check_whole("n_chunks", n_chunks)
    judge = partial(_by_fold, engine) if by == "fold" else partial(_by_series, engine, n_chunks)
    return backtest(forecasters, data, judge=judge, **options)


# --- engines --------------------------------------------------------------------------------------


def _checked(engine: Any) -> Any:
    """An engine as it is used, numbers in text as numbers."""
    if isinstance(engine, str) and engine.isdecimal():
        engine = int(engine)
    if isinstance(engine, Integral):
        if isinstance(engine, bool) or engine < 1:
            raise ValueError(f"engine as a number of processes must be at least 1; got {engine!r}")
        return int(engine)
    if engine is None:
        return None
    if isinstance(engine, str) and engine not in _ENGINES:
        raise ValueError(
            f"engine must be a number of processes or one of {', '.join(_ENGINES)}; got {engine!r}"
        )
    needed = _ENGINES[engine] if isinstance(engine, str) else ()
    for package in ("fugue", "cloudpickle", *needed):
        if find_spec(package) is None:
            raise ImportError(
                f"engine {engine if isinstance(engine, str) else type(engine).__name__!r} needs"
                f" {package}; install it with: pip install"
                f" 'tsattn[distributed]'{' pyspark' if package == 'pyspark' else ''}"
            )
    return engine


def _width(engine: Any) -> int:
    """Pieces that an engine works on at a time."""
    engine = _checked(engine)
    if engine is None or isinstance(engine, int):
        return engine or 1
    from fugue.execution.factory import make_execution_engine

    return max(1, int(make_execution_engine(engine).get_current_parallelism()))


def _through_fugue(
    function: Callable[[_T], _R], items: list[_T], engine: Any
) -> list[tuple[BaseException | None, Any]]:
    """Outcomes of all items, each of which is a row, and a partition, of a fugue map."""
    import fugue.api

    if not items:
        return []
    table = pd.DataFrame(
        {"place": np.arange(len(items)), "item": [_packed(item) for item in items]}
    )
    answer = fugue.api.transform(
        table,
        _answer_rows,
        schema="place:long,answer:str",
        params={"function": _packed(function)},
        # fugue's own engine has one partition, and warns while it makes more.
        partition=None if engine == "native" else "per_row",
        engine=engine,
        as_local=True,
    )
    rows = fugue.api.as_pandas(answer).sort_values("place")
    if rows["place"].tolist() != list(range(len(items))):
        raise RuntimeError(
            f"the engine answered {len(rows)} of {len(items)} items; look at its logs"
        )
    return [_unpacked(text) for text in rows["answer"]]


def _answer_rows(rows: Iterable[dict[str, Any]], function: str) -> Iterable[dict[str, Any]]:
    run = _unpacked(function)
    for row in rows:
        yield {"place": row["place"], "answer": _packed(_attempt(run, _unpacked(row["item"])))}


def _attempt(function: Callable[[Any], Any], item: Any) -> tuple[BaseException | None, Any]:
    """An error that the caller shall see, and a result."""
    try:
        return None, function(item)
    except _RELAYED as error:
        return error, None


def _packed(value: Any) -> str:
    """Text, since not every engine keeps bytes."""
    import cloudpickle

    return base64.b64encode(cloudpickle.dumps(value)).decode("ascii")


def _unpacked(text: str) -> Any:
    return pickle.loads(base64.b64decode(text))


# --- pieces ---------------------------------------------------------------------------------------


def _edges(n_series: int, engine: Any, n_chunks: int | None) -> list[tuple[int, int]]:
    """First series of each chunk and of the next one; as even as can be, none empty."""
    wanted = _width(engine) if n_chunks is None else check_whole("n_chunks", n_chunks)
    cuts = np.linspace(0, n_series, min(wanted, n_series) + 1).astype(int).tolist()
    return list(itertools.pairwise(cuts))


def _ahead(panel: Panel, future: TableLike | None, first: int, stop: int) -> TableLike | None:
    """The rows of a frame that belong to some series of a panel."""
    id_col = panel.dialect.id_col
    if future is None or id_col is None or id_col not in (frame := as_frame(future)):
        return future
    return frame[frame[id_col].isin(panel.dialect.restore_ids(panel.ids[first:stop]))]


def _predict(
    forecaster: Forecaster, asked: Mapping[str, Any], part: tuple[Panel, TableLike | None]
) -> Forecast:
    panel, future = part
    given = dict(asked) if future is None else {**asked, "future": future}
    answer = forecaster.predict(panel, **given)
    if not isinstance(answer, Forecast):
        raise TypeError(f"predict must answer a Panel with a Forecast; got {type(answer).__name__}")
    return answer


def _joined(parts: Sequence[Forecast]) -> Forecast:
    """Forecasts of series one after another as one."""
    first, *others = parts
    return replace(
        first,
        point=np.concatenate([part.point for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        times=first.times.append([part.times for part in others]),
        cutoffs=first.cutoffs.append([part.cutoffs for part in others]),
        quantiles={
            q: np.concatenate([part.quantiles[q] for part in parts]) for q in first.quantiles
        },
    )


def _by_fold(engine: Any, plan: BacktestPlan) -> dict[str, Rolled]:
    pieces = [(name, fit) for name in plan.named for fit in range(len(plan.fits))]
    edges = [*plan.fits, plan.origins.shape[1]]
    places = [(name, slice(None), slice(edges[fit], edges[fit + 1])) for name, fit in pieces]
    return _gathered(
        plan, places, distributed_map(partial(_judge_fold, plan), pieces, engine=engine)
    )


def _judge_fold(plan: BacktestPlan, piece: tuple[str, int]) -> Rolled:
    name, fit = piece
    return judge_fits(plan, name, History(plan.panel), fit, fit + 1)


def _by_series(engine: Any, n_chunks: int | None, plan: BacktestPlan) -> dict[str, Rolled]:
    edges = _edges(plan.panel.n_series, engine, n_chunks)
    windows = [*plan.fits, plan.origins.shape[1]]
    pieces = []
    places = []
    for name, forecaster in plan.named.items():
        for start, stop in itertools.pairwise(windows):
            judged = int(plan.panel.lengths[0] - plan.origins[0, start])
            fitted = fit_copy(name, forecaster, plan.panel.until(plan.origins[:, start]), judged)
            for first, last in edges:
                part = replace(
                    plan,
                    named={name: fitted},
                    panel=plan.panel.some(first, last),
                    origins=plan.origins[first:last, start:stop],
                    scaler=Scaler(plan.scaler.mean[first:last], plan.scaler.scale[first:last]),
                )
                pieces.append(part)
                places.append((name, slice(first, last), slice(start, stop)))
    return _gathered(plan, places, distributed_map(_judge_series, pieces, engine=engine))


def _judge_series(plan: BacktestPlan) -> Rolled:
    """Judge the one, fitted forecaster of a plan on all its windows."""
    ((name, fitted),) = plan.named.items()
    context = fitted.min_context
    judged = int(plan.panel.lengths[0] - plan.origins[0, 0])
    require_length(
        plan.panel, context + judged, f"a judged span of {judged} rows after the context of {name}"
    )
    rolled = plan.blank(name)
    judge_windows(rolled, fitted, History(plan.panel), np.arange(plan.origins.size))
    return rolled


def _gathered(
    plan: BacktestPlan, places: Sequence[tuple[str, slice, slice]], parts: Sequence[Rolled]
) -> dict[str, Rolled]:
    """The windows of all pieces where they belong, given the forecaster, the series and the origins
    of each.
    """
    found = {name: plan.blank(name) for name in plan.named}
    slots = np.arange(plan.origins.size).reshape(plan.origins.shape)
    for (name, series, columns), part in zip(places, parts, strict=True):
        whole = found[name]
        at = slots[series, columns].ravel()
        whole.tally.include(part.tally, series)
        if whole.point is not None and whole.bounds is not None:
            whole.point[at], whole.bounds[at] = part.point, part.bounds
    return found
