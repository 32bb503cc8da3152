"""Our forecasters behind GluonTS's interface, and its data sets as panels."""

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

from tsattn.data.frames import Panel, from_long
from tsattn.data.windows import History
from tsattn.forecaster import Forecaster, refuse_covariates
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.fitted import resolve_device
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasters.network import NetworkForecaster
from tsattn.levels import check_request
from tsattn.silence import ignored

# GluonTS would like a faster JSON library; that is no matter of the user's.
with ignored((UserWarning, "Using `json`-module for json-handling")):
    from gluonts.model import Estimator, Predictor
    from gluonts.model.forecast import QuantileForecast

_DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Entries answered in one pass.
_CHUNK = 512
_CLASSES = {each.__name__: each for each in (AttentionForecaster, LinearForecaster)}


class TsattnEstimator(Estimator):
    """A forecaster of ours that GluonTS can train; made by :func:`to_gluonts`, whose arguments it
    takes.
    """

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
        self, training_data: Iterable[Mapping[str, Any]], validation_data: Any = None
    ) -> "TsattnPredictor":
        """Fit a copy of the forecaster on all series of a data set.

        Args:
            training_data: Entries as for :func:`from_gluonts`.
            validation_data: Must be None: the forecaster holds back the end of every series by its
                ``val_size``.

        Raises:
            ValueError: If validation data are given, an entry is faulty or a series too short.
        """
        if validation_data is not None:
            raise ValueError(
                "validation_data cannot be used: the forecaster holds back the last val_size rows"
                " of every series; pass the whole series as training_data"
            )
        panel = from_gluonts(training_data, missing=_missing(self.forecaster), drop=self.drop)
        fitted = copy.deepcopy(self.forecaster).fit(panel)
        return TsattnPredictor(fitted, freq=panel.freq, quantiles=self.quantiles, drop=self.drop)


class TsattnPredictor(Predictor):
    """A fitted forecaster of ours behind GluonTS's interface; made by
    :meth:`TsattnEstimator.train`.

    Each entry is forecast from its own last rows; it may belong to a series that was never seen.

    Args:
        forecaster: Fitted.
        freq: Frequency of the series that it was fitted on.
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
        self, dataset: Iterable[Mapping[str, Any]], num_samples: int | None = None
    ) -> Iterator[QuantileForecast]:
        """Forecasts in the order of the entries: the quantiles asked for, the point as ``"mean"``.

        Args:
            dataset: Entries; several may bear the same ``item_id``.
            num_samples: What GluonTS's own evaluation passes; forecasts carry quantiles, not sample
                paths.

        Raises:
            ValueError: If an entry is faulty, of another frequency, or shorter than the context.
        """
        return self._predict(iter(dataset))

    def _predict(self, entries: Iterator[Mapping[str, Any]]) -> Iterator[QuantileForecast]:
        while chunk := list(islice(entries, _CHUNK)):
            panel = self._panel(chunk)
            point, bounds = self.forecaster.predict_before(
                History(panel), panel.starts[1:], quantiles=self.quantiles
            )
            keys = [*(str(q) for q in self.quantiles), "mean"]
            for entry, middle, spread in zip(chunk, point, bounds, strict=True):
                yield QuantileForecast(
                    forecast_arrays=np.concatenate([spread[:, 0].T, middle.T]),
                    forecast_keys=keys,
                    start_date=entry["start"] + len(entry["target"]),
                    item_id=entry.get("item_id"),
                )

    def _panel(self, chunk: list[Mapping[str, Any]]) -> Panel:
        """What the forecaster reads of each entry, in their order and under their names, which need
        not differ.
        """
        need = self.forecaster.min_context
        reach = self.forecaster.max_context
        for number, entry in enumerate(chunk):
            target, freq = _checked(entry, self.drop)
            if freq != self.freq:
                raise ValueError(
                    f"the forecaster was fitted on frequency {self.freq!r}; got {freq!r} in entry"
                    f" {_name(entry, number)!r}; resample it, or train anew"
                )
            if len(target) < need:
                raise ValueError(
                    f"entry {_name(entry, number)!r} has {len(target)} rows, but the forecaster"
                    f" reads {need}; give longer entries, or train with a smaller context"
                )
        # Counted rows will do: only the last ones are read, and a forecast does not depend on its
        # stamp.
        targets = [np.asarray(entry["target"], dtype=np.float64)[-reach:] for entry in chunk]
        frame = pd.DataFrame(
            {
                "unique_id": np.repeat(np.arange(len(chunk)), [len(target) for target in targets]),
                "ds": np.concatenate([np.arange(len(target)) for target in targets]),
                "y": np.concatenate(targets),
            }
        )
        names = [None if entry.get("item_id") is None else str(entry["item_id"]) for entry in chunk]
        panel = from_long(frame, freq=1, missing=_missing(self.forecaster))
        return replace(panel, ids=np.array(names, dtype=object))

    def serialize(self, path: Path) -> None:
        """Write ``gluonts-config.json``, ``tsattn.json`` and the folder ``forecaster``, no pickle.

        Args:
            path: An existing folder.

        Raises:
            TypeError: If the forecaster is no trained one.
        """
        if not isinstance(self.forecaster, NetworkForecaster):
            raise TypeError(
                f"only trained forecasters can be serialised; got {type(self.forecaster).__name__}:"
                " train it again where it is needed"
            )
        path = Path(path)
        super().serialize(path)
        facts: dict[str, Any] = {"class": type(self.forecaster).__name__, "freq": self.freq}
        facts |= {"quantiles": self.quantiles, "drop": self.drop}
        (path / "tsattn.json").write_text(json.dumps(facts))
        self.forecaster.save(path / "forecaster")

    @classmethod
    def deserialize(cls, path: Path, device: Any = None) -> "TsattnPredictor":
        """Read what :meth:`serialize` wrote.

        Args:
            path: The folder.
            device: Where to compute, as for torch; default: where it was fitted, the CPU if that is
                missing.

        Raises:
            ValueError: If files are missing, damaged or of an unknown class.
        """
        path = Path(path)
        try:
            facts = json.loads((path / "tsattn.json").read_text())
            forecaster = _CLASSES[facts["class"]].load(path / "forecaster")
            predictor = cls(
                forecaster, freq=facts["freq"], quantiles=facts["quantiles"], drop=facts["drop"]
            )
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not what serialize() wrote ({type(error).__name__}: {error}); serialise"
                " it anew"
            ) from None
        if device is not None:
            forecaster.set_params(training__device=str(torch.device(device)))
            forecaster.network_.to(resolve_device(forecaster.training.device))
        return predictor


def to_gluonts(
    forecaster: Forecaster, *, quantiles: Sequence[float] = _DECILES, drop: Collection[str] = ()
) -> TsattnEstimator:
    """Put a forecaster behind GluonTS's interface.

    Args:
        forecaster: Any of ours that takes a panel; it is copied at every ``train`` and stays as it
            is.
        quantiles: Probabilities that every forecast carries, beside the point under ``"mean"``;
            none for a forecaster without intervals. GluonTS interpolates others from them.
        drop: Covariate fields of the entries (``"feat_static_cat"``, ...) to leave out. Our
            forecasters read none, and a covariate that nobody asked to drop is an error.

    Returns:
        An estimator whose ``train`` gives a predictor.

    Raises:
        ValueError: If a quantile is out of range, or the forecaster reads covariates.

    Example:
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
    dataset: Iterable[Mapping[str, Any]], *, missing: str = "error", drop: Collection[str] = ()
) -> Panel:
    """Read a data set of GluonTS.

    Args:
        dataset: Entries with ``start`` (a period), ``target`` (numbers ``[T]``, of any type, NaN
            where missing) and perhaps ``item_id``; entries without one are numbered.
        missing: ``"error"``, ``"interpolate"`` or ``"ffill"``.
        drop: Covariate fields to leave out.

    Returns:
        A long panel, sorted by id; stamps are the beginnings of the periods.

    Raises:
        ValueError: If there is no entry, one is faulty or has covariates, two bear one id, or
            frequencies differ.

    Example:
        >>> start = pd.Period("2024-01", "M")
        >>> entries = [{"start": start, "target": np.array([1, 2, 3]), "item_id": "a"}]
        >>> panel = from_gluonts(entries)
        >>> panel.freq, panel.values.ravel().tolist()
        ('MS', [1.0, 2.0, 3.0])
    """
    parts: dict[Any, pd.DataFrame] = {}
    freqs = set()
    for number, entry in enumerate(dataset):
        target, freq = _checked(entry, drop)
        name = _name(entry, number)
        if name in parts:
            raise ValueError(f"two entries bear the item_id {name!r}; give each series its own")
        stamps = pd.period_range(
            entry["start"], periods=len(target), freq=entry["start"].freq
        ).to_timestamp()
        parts[name] = pd.DataFrame(
            {"unique_id": name, "ds": stamps, "y": np.asarray(target, dtype=np.float64)}
        )
        freqs.add(freq)
    if not parts:
        raise ValueError("the data set has no entry; give at least one series")
    if len(freqs) > 1:
        raise ValueError(
            f"entries must have one frequency; got {', '.join(sorted(map(str, freqs)))}; resample"
            " them"
        )
    return from_long(
        pd.concat(parts.values(), ignore_index=True), freq=freqs.pop(), missing=missing
    )


def _missing(forecaster: Forecaster) -> str:
    return forecaster.schema.missing or forecaster.default_missing


def _name(entry: Mapping[str, Any], number: int) -> str:
    name = entry.get("item_id")
    return str(number) if name is None else str(name)


def _checked(entry: Mapping[str, Any], drop: Collection[str]) -> tuple[np.ndarray, str | int]:
    """Target and frequency of an entry."""
    covariates = sorted(k for k in entry if k.startswith(("feat_", "past_feat_")) and k not in drop)
    if covariates:
        raise ValueError(
            f"entries have the covariate {covariates[0]!r}, which our forecasters do not read; to"
            f" leave it out, pass drop={covariates!r}"
        )
    if lacking := {"start", "target"} - entry.keys():
        raise ValueError(
            f"an entry needs a start and a target; got {', '.join(entry) or 'nothing'}: add"
            f" {min(lacking)!r}"
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
    """Frequency of the stamps at which periods begin: ``"MS"`` for ``"M"``, ``"W-MON"`` for
    ``"W-SUN"``.
    """
    stamps = pd.period_range("2001-01-01", periods=40, freq=freq).to_timestamp()
    return from_long(pd.DataFrame({"ds": stamps, "y": 0.0})).freq
