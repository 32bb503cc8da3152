"""Forecasters of tsattn with the interface of GluonTS, and its data sets as panels."""

import copy
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tsattn.adapters.reading import read_panel
from tsattn.adapters.refusals import refuse_covariates
from tsattn.catalogue import load_forecaster
from tsattn.checks import warn
from tsattn.data.frames import from_long
from tsattn.data.panel import Panel, find_sentinels, require_length
from tsattn.data.schema import Schema
from tsattn.data.windows import History
from tsattn.forecaster import Forecaster
from tsattn.forecasters.fitted import resolve_device
from tsattn.forecasters.network import NetworkForecaster
from tsattn.forecasts import Answer
from tsattn.levels import check_request
from tsattn.silence import ignored

# GluonTS recommends a faster JSON library, which users of tsattn do not need.
with ignored((UserWarning, "Using `json`-module for json-handling")):
    from gluonts.model import Estimator, Predictor
    from gluonts.model.forecast import QuantileForecast

# A series of a data set of GluonTS, with its start.
Entry = Mapping[str, Any]
_DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Entries that are forecast in one pass.
_CHUNK = 512
_FACTS_FILE = "tsattn.json"
_FORECASTER_FOLDER = "forecaster"


class TsattnEstimator(Estimator):
    """A forecaster that GluonTS can train; :func:`to_gluonts` makes it from the same arguments."""

    def __init__(
        self,
        forecaster: Forecaster,
        *,
        quantiles: Sequence[float] = _DECILES,
        drop: Collection[str] = (),
    ) -> None:
        super().__init__(lead_time=0)
        refuse_covariates(forecaster, "the GluonTS adapter")
        self.forecaster = forecaster
        self.quantiles = check_request(None, quantiles)[1]
        self.drop = tuple(drop)
        self.prediction_length = forecaster.horizon

    def train(
        self, training_data: Iterable[Entry], validation_data: Any = None
    ) -> "TsattnPredictor":
        """Fit a copy of the forecaster on all series of a data set.

        Args:
            training_data: Entries as for :func:`from_gluonts`.
            validation_data: Must be None, since the forecaster takes the last ``val_size`` rows of
                every series for validation.

        Raises:
            ValueError: If there are validation data, an entry is faulty or a series too short.
        """
        if validation_data is not None:
            raise ValueError(
                "validation_data cannot be used: the forecaster holds back the last val_size rows"
                " of every series; pass the whole series as training_data"
            )
        policy = self.forecaster.schema.missing
        panel = from_gluonts(training_data, missing=policy, drop=self.drop)
        panel = read_panel(self.forecaster, panel, [*panel.ids], fitted=False)
        fitted = copy.deepcopy(self.forecaster).fit(panel)
        return TsattnPredictor(fitted, freq=panel.freq, quantiles=self.quantiles, drop=self.drop)


class TsattnPredictor(Predictor):
    """A fitted forecaster with GluonTS's interface; :meth:`TsattnEstimator.train` makes it.

    Each entry is forecast from its own last rows. It may belong to a series outside of the fit.

    Args:
        forecaster: A fitted forecaster.
        freq: Frequency of the series of the fit.
        quantiles, drop: As for :func:`to_gluonts`.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        *,
        freq: str | int,
        quantiles: Sequence[float] = _DECILES,
        drop: Collection[str] = (),
    ) -> None:
        super().__init__(prediction_length=forecaster.horizon)
        self.forecaster = forecaster
        self.freq = freq
        self.quantiles = check_request(None, quantiles)[1]
        self.drop = tuple(drop)

    def predict(
        self, dataset: Iterable[Entry], num_samples: int | None = None
    ) -> Iterator[QuantileForecast]:
        """Forecasts in the order of the entries, with the quantiles and the point as ``"mean"``.

        They are NaN, with a warning, for an entry without any value.

        Args:
            dataset: Entries; several may have the same ``item_id``.
            num_samples: Has no effect: forecasts have quantiles, not sample paths. GluonTS's
                evaluation passes it.

        Raises:
            ValueError: If an entry is faulty, of another frequency, or shorter than the context.
        """
        entries = iter(dataset)
        quantile_keys = [str(quantile) for quantile in self.quantiles]
        keys = [*quantile_keys, "mean"]
        while chunk := list(islice(entries, _CHUNK)):
            points, bounds = self._forecast(chunk)
            for entry, own_points, own_bounds in zip(chunk, points, bounds, strict=True):
                # An entry has one channel.
                quantile_rows = own_bounds[:, 0].T
                point_row = own_points.T
                yield QuantileForecast(
                    forecast_arrays=np.concatenate([quantile_rows, point_row]),
                    forecast_keys=keys,
                    start_date=entry["start"] + len(entry["target"]),
                    item_id=entry.get("item_id"),
                )

    def _forecast(self, chunk: list[Entry]) -> Answer:
        """Points ``[N, F, 1]`` and quantiles ``[N, F, 1, Q]``, NaN for entries without a value."""
        for number, entry in enumerate(chunk):
            self._check_entry(entry, number)
        shape = (len(chunk), self.prediction_length, 1)
        points = np.full(shape, np.nan)
        bounds = np.full((*shape, len(self.quantiles)), np.nan)
        # A schema that skips no series lets the table of the entries be refused.
        skips = self.forecaster.schema.bad != "error"
        is_blank = np.array([skips and np.isnan(entry["target"]).all() for entry in chunk])
        places = np.flatnonzero(~is_blank)
        if is_blank.any():
            first_blank = int(is_blank.argmax())
            warn(
                f"{is_blank.sum()} of {len(chunk)} entries have no value, such as"
                f" {_name(chunk[first_blank], first_blank)!r}; their forecasts are NaN"
            )
        if len(places):
            panel = self._panel([chunk[place] for place in places])
            points[places], bounds[places] = self.forecaster.predict_before(
                History(panel), panel.starts[1:], quantiles=self.quantiles
            )
        return points, bounds

    def _panel(self, chunk: list[Entry]) -> Panel:
        """The last rows of each entry, in the order of the entries. Names may occur twice."""
        n_rows = self.forecaster.max_context
        targets = []
        ids = []
        names: list[object] = []
        for number, entry in enumerate(chunk):
            target = np.asarray(entry["target"], dtype=np.float64)
            # Missing values may be filled from rows before the context.
            is_whole = not (np.isnan(target) | find_sentinels(target)).any()
            targets.append(target[-n_rows:] if is_whole else target)
            item_id = entry.get("item_id")
            ids.append(None if item_id is None else str(item_id))
            names.append(_name(entry, number))
        lengths = [len(target) for target in targets]
        numbers = np.arange(len(chunk))
        # Rows are counted, since a forecast does not depend on the stamp of the last row.
        rows = [np.arange(length) for length in lengths]
        frame = pd.DataFrame(
            {
                "unique_id": np.repeat(numbers, lengths),
                "ds": np.concatenate(rows),
                "y": np.concatenate(targets),
            }
        )
        own_schema = self.forecaster.schema
        schema = Schema(missing=own_schema.missing, bad=own_schema.bad)
        panel = from_long(frame, schema, freq=1)
        panel = read_panel(self.forecaster, panel, names, fitted=True)
        reason = f"the context of {self.forecaster.alias_}"
        require_length(panel, self.forecaster.min_context, reason)
        return replace(panel, ids=np.array(ids, dtype=object))

    def _check_entry(self, entry: Entry, number: int) -> None:
        """Refuse an entry of another frequency, and one that is shorter than the context."""
        target, freq = _checked_target(entry, self.drop)
        if freq != self.freq:
            name = _name(entry, number)
            raise ValueError(
                f"the forecaster was fitted on frequency {self.freq!r}; got {freq!r} in entry"
                f" {name!r}; resample it, or train anew"
            )
        n_rows = self.forecaster.min_context
        if len(target) < n_rows:
            name = _name(entry, number)
            raise ValueError(
                f"entry {name!r} has {len(target)} rows, but the forecaster"
                f" reads {n_rows}; give longer entries, or train with a smaller context"
            )

    def serialize(self, path: Path) -> None:
        """Write ``gluonts-config.json``, ``tsattn.json`` and the folder ``forecaster``, no pickle.

        Args:
            path: An existing folder.

        Raises:
            ValueError: As :meth:`tsattn.forecaster.Forecaster.save`.
        """
        path = Path(path)
        super().serialize(path)
        facts = {"freq": self.freq, "quantiles": self.quantiles, "drop": self.drop}
        (path / _FACTS_FILE).write_text(json.dumps(facts))
        self.forecaster.save(path / _FORECASTER_FOLDER)

    @classmethod
    def deserialize(cls, path: Path, device: Any = None) -> "TsattnPredictor":
        """Read what :meth:`serialize` wrote.

        Args:
            path: The folder.
            device: Device of torch for a trained network; default the device of the fit, or the CPU
                where that is missing.

        Raises:
            ValueError: If files are missing, damaged or of an unknown class.
        """
        path = Path(path)
        try:
            facts = json.loads((path / _FACTS_FILE).read_text())
            forecaster = load_forecaster(path / _FORECASTER_FOLDER)
            predictor = cls(
                forecaster, freq=facts["freq"], quantiles=facts["quantiles"], drop=facts["drop"]
            )
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not what serialize() wrote ({type(error).__name__}: {error}); serialise"
                " it anew"
            ) from None
        if device is not None and isinstance(forecaster, NetworkForecaster):
            device_name = str(torch.device(device))
            forecaster.set_params(training__device=device_name)
            own_device = resolve_device(forecaster.training.device)
            forecaster.network_.to(own_device)
        return predictor


def to_gluonts(
    forecaster: Forecaster, *, quantiles: Sequence[float] = _DECILES, drop: Collection[str] = ()
) -> TsattnEstimator:
    """Give a forecaster the interface of GluonTS.

    Args:
        forecaster: Any forecaster of tsattn. Each ``train`` fits a copy.
        quantiles: Probabilities of every forecast, none for a forecaster without intervals. GluonTS
            interpolates others from them. The point is under ``"mean"``.
        drop: Covariate fields of the entries to leave out, such as ``"feat_static_cat"``. The
            adapter reads no covariates, and refuses those that are not named here.

    Returns:
        An estimator whose ``train`` gives a predictor.

    Raises:
        ValueError: If a quantile is out of range, or the forecaster reads covariates.

    Example:
        >>> from tsattn import LinearForecaster
        >>> start, waves = pd.Period("2024-01-01", "h"), np.sin(np.arange(200) / 4)
        >>> linear = LinearForecaster(6, context=24, random_state=0)
        >>> model = to_gluonts(linear, quantiles=[0.1, 0.9])
        >>> entries = [{"start": start, "target": waves}]
        >>> (forecast,) = model.train(entries).predict(entries)
        >>> forecast.forecast_keys, str(forecast.start_date)
        (['0.1', '0.9', 'mean'], '2024-01-09 08:00')
    """
    return TsattnEstimator(forecaster, quantiles=quantiles, drop=drop)


def from_gluonts(
    dataset: Iterable[Entry],
    *,
    missing: str | None = None,
    drop: Collection[str] = (),
) -> Panel:
    """Read a data set of GluonTS.

    Args:
        dataset: Entries with ``start`` (a period), ``target`` (numbers ``[T]``, of any type, NaN
            where missing) and perhaps ``item_id``; entries without one are numbered.
        missing: What is done about missing values, as :class:`tsattn.Schema` says.
        drop: Covariate fields to leave out.

    Returns:
        A long panel, sorted by id; stamps are the beginnings of the periods.

    Raises:
        ValueError: If there is no entry, one is faulty or has covariates, two have one id, or
            frequencies differ.

    Example:
        >>> start = pd.Period("2024-01", "M")
        >>> entries = [{"start": start, "target": np.array([1, 2, 3]), "item_id": "a"}]
        >>> panel = from_gluonts(entries)
        >>> panel.freq, panel.values.ravel().tolist()
        ('MS', [1.0, 2.0, 3.0])
    """
    frames = {}
    freqs = set()
    for number, entry in enumerate(dataset if isinstance(dataset, Iterable) else [dataset]):
        if not isinstance(entry, Mapping):
            raise ValueError(
                f"a data set must yield mappings with a start and a target; got {entry!r:.60}; make"
                " one such as PandasDataset, or give a DataFrame to fit and predict as it is"
            )
        target, freq = _checked_target(entry, drop)
        name = _name(entry, number)
        if name in frames:
            raise ValueError(f"two entries bear the item_id {name!r}; give each series its own")
        start = entry["start"]
        stamps = pd.period_range(start, periods=len(target), freq=start.freq).to_timestamp()
        values = np.asarray(target, dtype=np.float64)
        frames[name] = pd.DataFrame({"unique_id": name, "ds": stamps, "y": values})
        freqs.add(freq)
    if not frames:
        raise ValueError("the data set has no entry; give at least one series")
    if len(freqs) > 1:
        names = ", ".join(sorted(map(str, freqs)))
        raise ValueError(f"entries must have one frequency; got {names}; resample them")
    table = pd.concat(frames.values(), ignore_index=True)
    return from_long(table, Schema(missing=missing), freq=freqs.pop())


def _name(entry: Entry, number: int) -> str:
    name = entry.get("item_id")
    return str(number) if name is None else str(name)


def _checked_target(entry: Entry, drop: Collection[str]) -> tuple[np.ndarray, str | int]:
    """Target and frequency of an entry."""
    covariates = sorted(
        field for field in entry if field.startswith(("feat_", "past_feat_")) and field not in drop
    )
    if covariates:
        raise ValueError(
            f"entries have the covariate {covariates[0]!r}, which our forecasters do not read; to"
            f" leave it out, pass drop={covariates!r}"
        )
    missing_fields = {"start", "target"} - entry.keys()
    if missing_fields:
        raise ValueError(
            f"an entry needs a start and a target; got {', '.join(entry) or 'nothing'}: add"
            f" {min(missing_fields)!r}"
        )
    target = np.asarray(entry["target"])
    start = entry["start"]
    if target.ndim != 1 or target.dtype.kind not in "fiu":
        raise ValueError(
            f"a target must be a row of numbers; got shape {target.shape} of {target.dtype}; give"
            " one entry per channel"
        )
    if not isinstance(start, pd.Period):
        raise ValueError(
            f"start must be a pandas Period; got {start!r}; pass pd.Period(stamp, freq)"
        )
    return target, _stamp_freq(start.freqstr)


@lru_cache(maxsize=64)
def _stamp_freq(freq: str) -> str | int:
    """Frequency of the first stamps of periods: ``"MS"`` for ``"M"``."""
    # Enough periods for every frequency to be inferred.
    stamps = pd.period_range("2001-01-01", periods=40, freq=freq).to_timestamp()
    return from_long(pd.DataFrame({"ds": stamps, "y": 0.0})).freq
