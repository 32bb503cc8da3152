"""The base class of all forecasters, and the forecast of the rows after a panel."""

import copy
import inspect
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd

from tsattn.checks import Argument, InputError, check_switch, check_whole, is_whole
from tsattn.data.calendar import future_times
from tsattn.data.columns import TableLike, columns_of_fit
from tsattn.data.covariates import CovariateColumns
from tsattn.data.frames import to_panel
from tsattn.data.panel import (
    Panel,
    require_filled,
    require_length,
    require_same_steps,
    skip_bad,
    tell_empty_end,
    tell_skipped,
    tell_usual_sentinels,
    without_sentinels,
)
from tsattn.data.schema import Schema
from tsattn.data.windows import (
    History,
    TrainingScales,
    check_windows,
    chunk_size,
    is_intermittent,
    known_lengths,
    tail_of,
    tell_interpolated,
    window_sizes,
)
from tsattn.forecasts import Answer, Data, Forecast, checked_answer, first_not_finite, with_skipped
from tsattn.levels import Numbers, check_ascending, check_request, points_only
from tsattn.locks import in_turn
from tsattn.settings import Settings, arranged, check_settings, is_default, own_arguments

if TYPE_CHECKING:  # what only covariates need is imported by the forecasters that read some
    from torch import Tensor

    from tsattn.data.encoding import CovariateEncoder, CovariateHistory, CovariateWindows
    from tsattn.store import Facts, Saved


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """The result of one fit; a family of forecasters adds fields.

    Args:
        panel: The series of the fit, or as much of them as a forecast needs.
        from_panel: Whether ``fit`` was given a ``Panel``; set by ``fit``.
        bound: Settings that the fit is bound to, by name; set by ``fit``.
        context: Rows of history that a forecast needs; ``None`` where a setting has the number.
        encoder: How covariates are read; ``None`` where there are none.
        training_scales: Those of the training rows; ``fit`` sets those of all rows where ``None``.
    """

    # Fields of whole numbers that are saved, and their names in the file.
    saved_counts: ClassVar[Mapping[str, str]] = MappingProxyType({})

    panel: Panel
    from_panel: bool = False
    bound: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    encoder: "CovariateEncoder | None" = None
    training_scales: TrainingScales | None = None

    @property
    def columns(self) -> CovariateColumns | None:
        """The covariates that were read; ``None`` stands for those of the settings."""
        return None if self.encoder is None else self.encoder.columns

    def tensors(self) -> "dict[str, Tensor]":
        """The tensors of a saved folder, without the series and covariates."""
        return {}

    def facts(self) -> "Facts":
        """The JSON values of a saved folder, without settings, series and covariates."""
        numbers = {name: getattr(self, key) for key, name in self.saved_counts.items()}
        return {"learnt": numbers} if numbers else {}

    def inside(self) -> "dict[str, Forecaster]":
        """Fitted forecasters that are saved in folders of their own, by name."""
        return {}

    @classmethod
    def restored(cls, forecaster: Any, saved: "Saved", **common: Any) -> Self:
        """Undo :meth:`tensors`, :meth:`facts` and :meth:`inside`.

        Args:
            forecaster: Made of the saved settings.
            saved: The files.
            **common: The fields of this class, already checked.

        Raises:
            ValueError: If something is not what they gave; also LookupError or TypeError.
        """
        for field_name, name in cls.saved_counts.items():
            common[field_name] = saved.count(name)
        return cls(**common)


@dataclass(frozen=True)
class FitContext:
    """Options of one fit that are no settings of the forecaster.

    Args:
        verbose: Whether progress is shown on stderr where that is a terminal.
        previous: The fit to go on from; ``None`` begins anew.
        after_epoch: Called after each epoch of a training; what it raises ends the fit.
        started: Time of the monotonic clock at which the table was handed over.
    """

    verbose: bool = False
    previous: Fitted | None = None
    after_epoch: Callable[[Any], None] | None = None
    started: float = field(default_factory=time.monotonic)


def learnt(name: str, doc: str) -> Any:
    """A property of a forecaster that reads a field of its last fit.

    Args:
        name: The field.
        doc: What it is.
    """

    def read(forecaster: "Forecaster") -> Any:
        if forecaster.state_ is None:
            raise AttributeError(f"{type(forecaster).__name__} is not fitted; call fit(data) first")
        return getattr(forecaster.state_, name)

    return property(read, doc=doc)


class Forecaster(ABC):
    """The base class: it forecasts ``horizon`` rows from the rows before them.

    A new forecaster is a subclass with ``context``, a constructor and two methods. The constructor
    stores its arguments under their names: ``horizon``, and ``alias`` and ``schema`` if it takes
    them. :meth:`_fit` learns from a panel and returns a :class:`Fitted`; :meth:`_forecast`
    forecasts windows. This class handles tables, covariates, chunks, intervals, frames, folders and
    errors.

    Attributes:
        horizon: Rows forecast ahead.
        alias: Name of the forecast columns; ``None`` is the forecaster's own name.
        context: Rows of history that a forecast needs, at least 1; ``None`` where ``fit`` chooses
            their number and stores it as ``context_``.
        schema: How tables are read.
        nonnegative: Whether forecasts below 0 are raised to 0, for series without a negative value;
            in networks for all series.
        state_: The result of the last ``fit``, an object that does not change; ``None`` before.
        panel_: The series of the last ``fit``, or as much of them as a forecast needs.
        panel_in_: Whether ``fit`` was given a ``Panel``.
    """

    # Settings that a fit is bound to: after a change the forecaster must be fitted again.
    bound: ClassVar[tuple[str, ...]] = ()
    # Class of the fit's result.
    fitted_class: ClassVar[type[Fitted]] = Fitted
    # Arguments of the constructor that are saved with the result, not with the settings.
    unsaved: ClassVar[tuple[str, ...]] = ()
    # Whether the setting ``point`` is met from the quantiles; otherwise members meet it.
    derives_point: ClassVar[bool] = True
    # Whether a fit can go on from the last one.
    warm_starts: ClassVar[bool] = False

    horizon: int
    alias: str | None = None
    context: Any
    schema: Schema = Schema()
    nonnegative: bool = False
    # "median" or "mean" of the quantiles; "auto" is the mean for intermittent series, the median
    # for others; None is the forecaster's own point.
    point: str | None = None
    state_: Fitted | None = None

    panel_: Panel = learnt("panel", "The series of the last ``fit``, or their ends.")
    panel_in_: bool = learnt("from_panel", "Whether they were given as a ``Panel``.")
    encoder_: "CovariateEncoder | None" = learnt("encoder", "How covariates are read.")
    training_scales_ = learnt("training_scales", "Scales of the training rows.")

    # --- what a subclass defines ------------------------------------------------------------------

    @abstractmethod
    def _fit(self, panel: Panel, context: FitContext) -> Fitted:
        """Learn from all rows, or refuse them; the forecaster itself stays as it is."""

    @abstractmethod
    def _forecast(
        self, x: np.ndarray, quantiles: Sequence[float], covariates: "CovariateWindows | None"
    ) -> Answer:
        """Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]`` of checked contexts ``x [B, T, C]``,
        in one pass. There may be no ``quantiles``; a forecaster of points only sets
        ``gives_quantiles = False`` and returns ``tsattn.forecasts.unbounded(points)``.
        """

    @property
    def name(self) -> str:
        """Name of the columns without an alias."""
        return type(self).__name__

    @property
    def covariate_columns(self) -> CovariateColumns:
        """The covariates that the next ``fit`` reads; none by default."""
        return CovariateColumns()

    @property
    def covariate_columns_(self) -> CovariateColumns:
        """The covariates that the last ``fit`` read, with calendar and categories."""
        columns = None if self.state_ is None else self.state_.columns
        return self.covariate_columns if columns is None else columns

    @property
    def looks_across(self) -> bool:
        """Whether the series of a table look at one another, so that one window shows them all."""
        return False

    @property
    def shares_stamps(self) -> bool:
        """Whether the next fit needs series with the same stamps."""
        return False

    @property
    def masks(self) -> bool:
        """Whether the next fit can leave missing values out."""
        return False

    @property
    def masks_(self) -> bool:
        """Whether the last fit leaves missing values out."""
        return self.masks

    def missing_policy(self, fitted: bool) -> str:
        """What is done about missing values: as the schema says, or they are left out where that is
        possible, and interpolated elsewhere.

        Args:
            fitted: In forecasts of the last fit, not in the next fit.
        """
        masks = self.masks_ if fitted else self.masks
        return self.schema.missing or ("mask" if masks else "interpolate")

    @property
    def gives_quantiles(self) -> bool:
        """Whether levels and quantiles may be asked for."""
        return True

    @property
    def sampled_quantiles(self) -> tuple[float, ...]:
        """Probabilities of the quantiles through which means and sample paths go, ascending."""
        return (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

    @property
    def own_point(self) -> str:
        """Whether the point without a setting is the median or the mean."""
        return "mean"

    @property
    def for_dependence(self) -> "Forecaster":
        """The forecaster whose past errors show how the steps depend on one another."""
        return self

    # --- settings ---------------------------------------------------------------------------------

    @classmethod
    def from_settings(cls, **settings: Any) -> Self:
        """Make one of settings by their bare names: ``d_model`` goes into ``network``, ``freq``
        into ``schema``.

        Args:
            **settings: Arguments of the constructor, or fields of the objects among them.

        Raises:
            ValueError: If a name is unknown or a value out of its range.
        """
        return cls(**arranged(cls, settings))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor and their values.

        Args:
            deep: Also those inside of settings, as ``network__d_model``.
        """
        params = own_arguments(self)
        if not deep:
            return params
        inside = {}
        for name, value in params.items():
            if isinstance(value, Settings | Forecaster):
                for key, inner_value in value.get_params().items():
                    inside[f"{name}__{key}"] = inner_value
        return params | inside

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; they count from the next ``fit`` or ``predict`` on.

        Args:
            **params: New values by name; ``network__d_model`` changes ``d_model`` inside of
                ``network``.

        Raises:
            ValueError: If a name is unknown or a value out of its range; nothing is changed then.
        """
        current = self.get_params(deep=False)
        inside: dict[str, dict[str, Any]] = {}
        plain = {}
        class_name = type(self).__name__
        for name, value in params.items():
            group, _, key = name.partition("__")
            if group not in current:
                raise ValueError(
                    f"{class_name} has no parameter {group!r}; it takes {', '.join(current)}"
                )
            if key:
                inside.setdefault(group, {})[key] = value
            else:
                plain[name] = value
        inner_changes = []  # of forecasters inside, which are changed in place
        for group, values in inside.items():
            owner = plain.get(group, current[group])
            if isinstance(owner, Forecaster):
                inner_changes.append((owner, values))
            elif isinstance(owner, Settings):
                plain[group] = owner.changed(**values)
            else:
                name = f"{group}__{next(iter(values))}"
                raise ValueError(
                    f"{group} of {class_name} has no parameters of its own; got {name}"
                )
        # The constructor refuses bad values before anything is changed.
        type(self)(**{**current, **plain})
        for forecaster, values in inner_changes:
            forecaster.set_params(**values)
        for name, value in plain.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        arguments = [
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if not is_default(value, defaults[name].default)
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"

    def _repr_html_(self) -> str:
        from tsattn.notebook import forecaster_html

        return forecaster_html(self)

    # --- fits, forecasts and files ----------------------------------------------------------------

    @property
    def alias_(self) -> str:
        """Name of the forecast columns: the alias, else the forecaster's name."""
        return self.name if self.alias is None else str(self.alias)

    @property
    def min_context(self) -> int:
        """Rows of history that a forecast needs: ``context_`` once fitted, otherwise ``context``.

        Raises:
            ValueError: If neither is a positive integer.
        """
        fitted = None if self.state_ is None else self.state_.context
        context = self.context if fitted is None else fitted
        if not is_whole(context) or context < 1:
            raise InputError(
                f"{type(self).__name__} must say how many rows of history it needs, at least 1; got"
                f" context = {context!r}: fit it first, or set ",
                Argument("context"),
            )
        return int(context)

    @property
    def max_context(self) -> int:
        """Rows of history that are read where there are so many; windows of shorter series begin
        with NaN.
        """
        return self.min_context

    def fit(
        self, data: Data, y: None = None, *, warm_start: bool = False, verbose: bool = False
    ) -> Self:
        """Learn from all rows of a table, and forget an earlier fit unless ``warm_start`` is set.

        Args:
            data: A long or wide frame or a series, as :func:`tsattn.forecast` takes them, or a
                panel.
            y: Ignored; scikit-learn passes it.
            warm_start: Continue from the weights of the last fit, if there is one. Only forecasters
                that train a network can.
            verbose: Show progress on stderr, if that is a terminal and the fit takes time.

        Raises:
            ValueError: If the table is faulty, a series is too short, or a setting cannot be used.
                The forecaster then keeps its last fit, as after an interrupt.
        """
        check_switch("warm_start", warm_start)
        check_switch("verbose", verbose)
        if warm_start and not self.warm_starts:
            raise ValueError(
                f"{type(self).__name__} learns anew in every fit; got warm_start = {warm_start!r}:"
                " leave it out"
            )
        previous = self.state_ if warm_start else None
        return self.fit_within(data, FitContext(verbose=verbose, previous=previous))

    def fit_within(self, data: Data, context: FitContext) -> Self:
        """As :meth:`fit`, with all that may accompany a fit.

        Args:
            data: As there.
            context: Progress, the fit to go on from, and who is told of each epoch.

        Raises:
            ValueError: As there.
            TypeError: If ``_fit`` returns something else than a :class:`Fitted`.
        """
        # A time limit of the fit is one of reading the table as well.
        context = replace(context, started=time.monotonic())
        check_whole("horizon", getattr(self, "horizon", None))
        # The last fit must not decide how the table is read.
        fresh = self.with_state(None)
        panel = fresh.read(data)
        bad = self.bad_policy(data)
        fitted, panel = skip_bad(panel, lambda part: fresh._fit(part, context), bad)
        if not isinstance(fitted, Fitted) or not isinstance(fitted.panel, Panel):
            without = " without a panel" if isinstance(fitted, Fitted) else ""
            raise TypeError(
                f"_fit of {type(self).__name__} must return what it learnt; got a"
                f" {type(fitted).__name__}{without}: end it with return Fitted(panel=panel)"
            )
        if not isinstance(data, Panel):
            tell_skipped(panel)
        self.state_ = replace(
            fitted,
            from_panel=isinstance(data, Panel),
            bound={name: getattr(self, name) for name in self.bound},
            training_scales=fitted.training_scales or TrainingScales.of(panel),
        )
        return self

    def with_state(self, state: Fitted | None) -> Self:
        """A copy with the same settings that has learnt ``state``; ``None`` is nothing."""
        twin = copy.copy(self)
        twin.state_ = state
        return twin

    def revised(self, **changes: Any) -> Self:
        """A copy whose fit has other values in some fields.

        Args:
            **changes: The fields of the :class:`Fitted` and their values.

        Raises:
            ValueError: If not fitted.
        """
        if self.state_ is None:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(data) first")
        return self.with_state(replace(self.state_, **changes))

    def __sklearn_is_fitted__(self) -> bool:
        return self.state_ is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def save(self, path: str | Path) -> None:
        """Write the fitted forecaster into a folder: ``model.safetensors`` and ``config.json``, no
        pickle.

        Args:
            path: The folder; an older save there is replaced in one step.

        Raises:
            ValueError: If not fitted, the folder holds something else, or a setting, ids or names
                are of a kind that files cannot hold.
        """
        from tsattn.store import write_forecaster

        self.check_fitted()
        write_forecaster(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, on any machine; it runs no code from the files.

        Raises:
            ValueError: If files are missing, damaged or of another class.
        """
        from tsattn.store import read_forecaster

        return read_forecaster(cls, Path(path))

    @classmethod
    def _remade(cls, parameters: dict[str, Any], saved: "Saved") -> Self:
        """A forecaster of saved arguments, not fitted."""
        return cls(**parameters)

    def predict(
        self,
        data: Data | None = None,
        *,
        level: Numbers | None = None,
        quantiles: Numbers | None = None,
        horizon: int | None = None,
        future: TableLike | None = None,
        recursive: bool = False,
    ) -> pd.DataFrame | Forecast:
        """Forecast the rows after the last row of each series, without another fit.

        Args:
            data: Series to continue, also new ones; ``None`` continues those of ``fit``.
            level: Central intervals in percent, such as 80 or ``[80, 95]``.
            quantiles: Quantiles as probabilities, such as ``[0.1, 0.9]``.
            horizon: Steps to forecast, by default the forecaster's own. Only ``zero`` forecasts
                more steps than its own without ``recursive``.
            future: Id, time and future columns of the rows to forecast (:meth:`make_future_frame`),
                in any order, for a forecaster that reads such columns. A wide table has no ids.
            recursive: Forecast more steps than the forecaster's own from its earlier forecasts. The
                errors of such forecasts are unknown, so there are points only.

        Returns:
            A frame in the layout of ``data`` with the columns ``zero``, ``zero-lo-80``,
            ``zero-hi-80`` and ``zero-q0.1`` (for the alias ``zero``); a :class:`tsattn.Forecast`
            for a panel.

        Raises:
            ValueError: If the forecaster is not fitted, a table is faulty, a series is too short,
                ``future`` is not complete, or the forecaster has no such steps or quantiles.
        """
        steps = {"horizon": horizon, "future": future, "recursive": recursive}
        answer = self._forecast_table(data, level=level, quantiles=quantiles, **steps)
        from_panel = self.panel_in_ if data is None else isinstance(data, Panel)
        return answer if from_panel else answer.to_frame()

    def _forecast_table(self, data: Data | None, **request: Any) -> Forecast:
        """What :func:`forecast_panel` answers, without series of a table that are too short."""
        self.check_fitted()
        bad = self.bad_policy(data)
        answer, panel = skip_bad(
            self.series(data), lambda part: forecast_panel(self, part, **request), bad
        )
        if data is not None and not isinstance(data, Panel):
            tell_skipped(panel)
        return answer

    @in_turn
    def update(self, data: Data) -> Self:
        """Append rows that were observed after ``fit``, without another fit; later forecasts start
        after them.

        Args:
            data: The new rows, as a frame or panel of the layout of the fit, with its covariates. A
                row that is known already is replaced if the new one has a value. Series may be new.
                A list or another table without stamps follows the last row of a fit without stamps.

        Raises:
            ValueError: If ``data`` has no column of the fit, has no stamps, has other channels, or
                misses values under ``missing="error"``. Nothing is changed then.
        """
        from tsattn.data.future import tell_new_categories
        from tsattn.data.joining import continued_panel
        from tsattn.sampling import rows_read

        self.check_fitted()
        rows = self.read(data, fitted=True, later=True)
        # What the user has chosen needs no word.
        tells = self.schema.missing is None
        policy = self.missing_policy(fitted=True)
        panel = continued_panel(self.panel_, rows, self.max_context, policy=policy, tells=tells)
        if not isinstance(data, Panel):
            # Beside the earlier rows single ones show that they stand for none.
            panel = without_sentinels(panel, keeps=self.schema.missing == "error")
            panel = self.with_own_policy(panel, fitted=True)
        tell_new_categories(rows, self.covariate_columns_)
        bad = self.bad_policy(data)
        least = self.min_context
        reason = f"the context of {self.alias_}"
        _, usable = skip_bad(panel, lambda part: require_length(part, least, reason), bad)
        if usable is not panel:
            tell_skipped(usable)
        # A fit that is updated for long does not grow. Short series are kept, since more rows may
        # follow.
        n_kept = max(int(self.panel_.lengths.max()), rows_read(self))
        self.state_ = self._continued(tail_of(panel, n_kept)).state_
        return self

    def _continued(self, panel: Panel) -> Self:
        """A copy whose fit has the series of a panel, its own with later rows and new ones."""
        return self.revised(panel=panel)

    def total(
        self,
        span: str | int = "all",
        data: Data | None = None,
        *,
        level: Numbers | None = None,
        horizon: int | None = None,
        future: TableLike | None = None,
        random_state: Any = 0,
    ) -> pd.DataFrame:
        """Forecast sums over spans of rows or of the calendar (:meth:`tsattn.Forecast.total`).

        Args:
            span: ``"all"`` rows, a number of rows, or a calendar span such as ``"M"``.
            data: Series to continue; ``None`` continues those of ``fit``.
            level: Central intervals of the sums in percent.
            horizon, future: As in :meth:`predict`.
            random_state: Seed; ``None`` draws a new one from the operating system.

        Returns:
            One row a series and span: id, first stamp, ``rows`` (their number), sum and bounds.

        Raises:
            ValueError: As :meth:`predict`, or if a span is unknown.
        """
        forecast = self._forecast_table(data, horizon=horizon, future=future)
        return forecast.total(span, level=level, random_state=random_state)

    def score(self, data: Data, y: None = None) -> float:
        """Minus the mean absolute error over all windows of a table, so that higher is better.

        Errors are in units of the standard deviation of the training rows of their series; for a
        series that ``fit`` has not seen, of its own rows. A window has ``max_context`` rows before
        it. The windows of a shorter series begin in the middle of its rows.

        Args:
            data: The table, history and observed values.
            y: Ignored; scikit-learn passes it.

        Raises:
            ValueError: If not fitted, a table is faulty, or no series has a window.
        """
        from tsattn.scoring import mean_error

        self.check_fitted()
        return -mean_error(self, self.read(data, fitted=True))

    def reaching(self, steps: int) -> Self:
        """Itself, or a forecaster that gives so many steps without feeding forecasts back."""
        return self

    def predict_windows(
        self,
        x: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: "CovariateWindows | None" = None,
    ) -> Answer:
        """Forecast the steps after each window; windows do not influence one another.

        Args:
            x: Histories in original units, ``[B, T, C]`` with T at least ``min_context``; the last
                ``max_context`` rows are read.
            quantiles: Q probabilities, ascending, strictly between 0 and 1.
            covariates: Those of the same windows, for a forecaster that reads some, as
                :class:`tsattn.data.encoding.CovariateHistory` cuts them.

        Returns:
            Points ``[B, F, C]`` and quantiles ``[B, F, C, Q]``, in float64.

        Raises:
            ValueError: If the shape does not fit, a value is not finite, covariates are missing or
                nobody reads them, or quantiles are asked of a forecaster that gives points only.
        """
        return self._answer_windows(x, quantiles, covariates)

    def _answer_windows(
        self,
        x: np.ndarray,
        quantiles: Sequence[float],
        covariates: "CovariateWindows | None",
        **options: Any,
    ) -> Answer:
        """The forecasts of :meth:`predict_windows`; ``options`` go on to :meth:`_forecast`."""
        probabilities = check_ascending(quantiles)
        columns = self.covariate_columns_
        windows_shape = np.shape(x)
        x = self._checked(x)
        if columns:
            from tsattn.data.encoding import check_windows_of

            covariates = check_windows_of(covariates, columns, windows_shape, self.horizon)
            covariates = covariates.cut(x.shape[1], self.horizon)
        elif covariates is not None:
            raise ValueError(
                f"covariates= was given, but {self.alias_} reads none; leave it out, or fit with"
                " some"
            )
        is_mean = self.mean_windows(x)
        differs = is_mean != (self.own_point == "mean")
        wants_curve = self.derives_point and bool(differs.any())
        curve = self.sampled_quantiles if wants_curve else ()
        all_quantiles = tuple(sorted({*probabilities, *curve}))
        answer = self._forecast(x, all_quantiles, covariates, **options)
        # Unless _forecast has refused them for a reason of its own.
        if all_quantiles and not self.gives_quantiles:
            raise points_only(self)
        shape = (x.shape[0], self.horizon, x.shape[2])
        point, bounds = checked_answer(answer, shape, all_quantiles, self.alias_)
        if wants_curve:
            from tsattn.paths import chosen_points

            curve_values = bounds[..., [all_quantiles.index(q) for q in curve]]
            point = chosen_points(point, curve, curve_values, is_mean, self.own_point)
        return point, bounds[..., [all_quantiles.index(q) for q in probabilities]]

    def mean_windows(self, x: np.ndarray) -> np.ndarray:
        """Whether the points of windows ``[B, T, C]`` are means or medians, ``[B, 1, C]``."""
        kind = self.own_point if self.point is None else self.point
        if kind == "auto":
            return is_intermittent(x)
        return np.full((len(x), 1, x.shape[2]), kind == "mean")

    def predict_before(
        self,
        history: History,
        ends: np.ndarray,
        *,
        quantiles: Sequence[float] = (),
        covariates: "CovariateWindows | None" = None,
    ) -> Answer:
        """Forecast from rows of a panel, as :meth:`predict_windows` does from the windows before
        them.

        A forecaster with values of its own for each series may use the ids of the panel here.

        Args:
            history: Of the panel.
            ends: Absolute rows just after the last row of each window, ``[B]``.
            quantiles: As in :meth:`predict_windows`.
            covariates: Those of the same windows, with as many rows of history or more.

        Returns:
            As :meth:`predict_windows`.

        Raises:
            ValueError: As :meth:`predict_windows`.
        """
        x = self.windows(history, ends)
        if covariates is not None:
            covariates = covariates.cut(x.shape[1], self.horizon)
        return self.predict_windows(x, quantiles=quantiles, covariates=covariates)

    def _checked(self, x: np.ndarray) -> np.ndarray:
        """Windows as :meth:`_forecast` takes them."""
        context = self.min_context
        most = self.max_context
        if most == context:
            return check_windows(x, context)[:, -context:]
        x = np.asarray(x, dtype=np.float64)
        # Rows before the needed ones may be missing.
        needed = x[:, -context:] if x.ndim == 3 else x
        check_windows(needed, context)
        return x[:, -most:]

    def make_future_frame(
        self, data: Data | None = None, *, horizon: int | None = None
    ) -> pd.DataFrame:
        """Make the frame for ``future`` of :meth:`predict`, with empty future columns to fill in.

        Args:
            data: Series to continue; ``None`` continues those of ``fit``.
            horizon: Steps; default the forecaster's.

        Returns:
            Id, time and future columns, in the layout of the table; a wide one has no ids.
        """
        from tsattn.data.future import future_frame

        self.check_fitted()
        steps = self.horizon if horizon is None else check_whole("horizon", horizon)
        return future_frame(self.series(data), self.covariate_columns_, steps)

    # --- tables and windows -----------------------------------------------------------------------

    def check_fitted(self) -> None:
        """Refuse to go on before ``fit``, or after a change of what it is bound to.

        Raises:
            ValueError: If it has not run, or has run with another ``horizon``, say.
        """
        if self.state_ is None:
            raise ValueError(f"{type(self).__name__} is not fitted; call fit(data) first")
        for name, fitted in self.state_.bound.items():
            value = getattr(self, name)
            if value != fitted:
                setting = name.removesuffix("_")
                raise ValueError(
                    f"{setting} = {value!r} is not that of the fit, {fitted!r}; fit again, or set"
                    " it back"
                )

    def series(self, data: Data | None = None) -> Panel:
        """The series that ``predict(data)`` continues.

        Raises:
            ValueError: If the table is faulty, or not one that the fitted forecaster can read.
        """
        panel = self.panel_ if data is None else self.read(data, fitted=True)
        bad = "error" if self.looks_across else self.bad_policy(data)
        _, usable = skip_bad(panel, self.require_starts, bad)
        if data is None and usable is not panel:
            tell_skipped(usable)
        return usable

    def bad_policy(self, data: Data | None) -> str | None:
        """What is done about bad series of a table, ``None`` for that of ``fit``: as the schema
        says, but all series of a panel belong to the work.
        """
        from_panel = self.panel_in_ if data is None else isinstance(data, Panel)
        return "error" if from_panel else self.schema.bad

    def require_starts(self, panel: Panel) -> None:
        """Refuse series that a forecast cannot start from by a ``BadSeriesError``; none here."""
        return

    def without_doubtful(self, panel: Panel, fitted: bool) -> Panel:
        """A table just read without numbers such as -9999; doubtful rows are told.

        Args:
            panel: The table.
            fitted: Whether the last fit forecasts it.
        """
        if not self.covariate_columns.future:
            tell_empty_end(panel)
        if panel.missing == "mask" and self.missing_policy(fitted) == "interpolate":
            tell_interpolated(panel, self.alias_)
        return without_sentinels(panel, keeps=self.schema.missing == "error")

    def with_own_policy(self, panel: Panel, fitted: bool) -> Panel:
        """A table under the own policy for missing values, without the rows before the first value
        of a series unless all need the same stamps; arguments as of :meth:`without_doubtful`.
        """
        if panel.missing != "mask":
            return panel
        policy = self.missing_policy(fitted)
        shares_stamps = self.looks_across if fitted else self.shares_stamps
        if policy == "interpolate" or not shares_stamps:
            panel = panel.last(known_lengths(panel))
        return replace(panel, missing=policy)

    def read(self, data: Data, *, fitted: bool = False, later: bool = False) -> Panel:
        """A table as this forecaster reads it; a panel passes through, without covariates that
        nobody reads.

        Args:
            data: Frame or panel.
            fitted: Read what the last fit read, not what the next one would; its frequency counts
                where the schema names none, for new data may be too short to infer it from.
            later: Read rows that :meth:`update` adds to those of the fit; their first values may
                be missing.

        Raises:
            TypeError: If settings are not of their class.
            ValueError: If the table is faulty, or misses values that nobody may leave out.
        """
        check_settings(self, "schema", "network", "training")
        columns = self.covariate_columns_ if fitted else self.covariate_columns
        is_part = isinstance(data, Panel)
        if isinstance(data, Panel):
            rows = data
        else:
            with columns_of_fit() if fitted else nullcontext():
                rows = self._read_table(data, fitted, later)
        awaits_fill = later and not is_part and self.missing_policy(fitted) == "interpolate"
        panel = rows.keep(columns)
        if later:
            from tsattn.data.joining import known_alike

            panel = known_alike(self.panel_, panel)
        if fitted:
            require_same_steps(self.panel_, panel, is_part=is_part, is_later=later)
        masks = self.masks_ if fitted else self.masks
        if not masks and not awaits_fill:
            require_filled(panel, self.alias_)
        return panel

    def _read_table(self, data: TableLike, fitted: bool, later: bool) -> Panel:
        """A table as a panel; arguments as of :meth:`read`."""
        # Closed hours that the fit has found count, not those of the new rows.
        schema = self.schema.changed(freq=None) if fitted else self.schema
        if later:
            from tsattn.data.joining import read_later
            from tsattn.data.schema import KnownRows

            known = KnownRows(self.panel_, self.max_context)
            judge = partial(self.without_doubtful, fitted=fitted)
            return known.judged(read_later(data, schema, known), judge)
        of_fit: dict[str, Any] = {}
        if fitted:
            last = self.panel_
            of_fit = {"freq": last.freq, "like": last.dialect, "zone": last.zone}
        panel = self.without_doubtful(to_panel(data, schema, **of_fit), fitted)
        tell_usual_sentinels(panel)
        return self.with_own_policy(panel, fitted)

    def own_series(self, point: np.ndarray, panel: Panel) -> np.ndarray:
        """Points ``[N, F, 1]`` of a panel's series from those of :meth:`windows` at their ends."""
        return point

    def windows(self, history: History, ends: np.ndarray) -> np.ndarray:
        """The rows before each end that :meth:`predict_windows` reads.

        Args:
            history: Of the panel in which the ends lie, each with at least ``min_context`` rows
                before it.
            ends: Absolute rows just after the last row of each window, ``[B]``.

        Returns:
            ``[B, T, C]``: T is ``min_context``, or up to ``max_context`` where a forecaster reads
            so far; then shorter histories have NaN before their first row.
        """
        most = self.max_context
        if most == self.min_context:
            return history.contexts(ends, most)
        return history.reaching(ends, most)

    def covariate_history(
        self, panel: Panel, ahead: np.ndarray | None = None
    ) -> "CovariateHistory | None":
        """Where the covariates of windows are cut from; ``None`` if the fitted forecaster reads
        none.

        Args:
            panel: The series.
            ahead: Future columns after the last row of each series, ``[N, F, K]``; ``None`` for
                windows inside.

        Raises:
            ValueError: If the panel lacks one of them.
        """
        columns = self.covariate_columns_
        panel.require(columns)
        if not columns:
            return None
        from tsattn.data.encoding import CovariateHistory

        return CovariateHistory(panel, columns, ahead)


def check_forecaster(candidate: object) -> None:
    """Refuse what is not a forecaster, such as a name or a class.

    Args:
        candidate: The object that should be a forecaster.

    Raises:
        TypeError: Saying how to make one.
    """
    if isinstance(candidate, Forecaster):
        return
    kind = f"a {type(candidate).__name__}"
    how = "make_forecaster(name, horizon)"
    if isinstance(candidate, str):
        kind = repr(candidate)
        how = f"make_forecaster({candidate!r}, horizon)"
    elif isinstance(candidate, type):
        kind = f"the class {candidate.__name__}"
        how = f"{candidate.__name__}(...)"
    raise TypeError(
        f"a forecaster is needed, made by its class or by make_forecaster; got {kind}: write {how}"
    )


def forecast_panel(
    forecaster: Forecaster,
    panel: Panel,
    *,
    level: Numbers | None = None,
    quantiles: Numbers | None = None,
    horizon: int | None = None,
    future: TableLike | None = None,
    recursive: bool = False,
) -> Forecast:
    """Forecast the rows after each series of a panel from its last context, in chunks.

    Args:
        forecaster: Fitted; it is not fitted again.
        panel: Series, those of the fit or new ones.
        level: Central levels in percent.
        quantiles: Quantiles; ``(0.1, 0.9)`` are the bounds of level 80, bit for bit.
        horizon: Number of steps; fewer than the forecaster's are the first of its steps. ``None``
            takes all.
        future: As :func:`tsattn.data.future.read_future` takes it, for one that reads it.
        recursive: For more steps than the forecaster's, feed its points back and go on. Points
            only.

    Raises:
        ValueError: If the request is bad, a series is shorter than the context, the horizon is
            longer than the forecaster's and ``recursive`` is not set, ``future`` is not complete,
            or a forecast is not finite.
    """
    levels, asked_quantiles, probabilities = check_request(level, quantiles)
    steps = forecaster.horizon if horizon is None else check_whole("horizon", horizon)
    forecaster = forecaster.reaching(steps)
    if steps > forecaster.horizon:
        from tsattn.recursive import check_recursive

        check_recursive(forecaster, steps, recursive, probabilities)
    require_length(panel, forecaster.min_context, f"the context of {forecaster.alias_}")
    history = History(panel)
    reach = forecaster.horizon * math.ceil(steps / forecaster.horizon)
    ahead = None
    if future is not None or forecaster.covariate_columns_:
        from tsattn.data.future import read_future

        is_new = panel is not forecaster.panel_
        ahead = read_future(future, panel, forecaster.covariate_columns_, steps, reach, is_new)
    covariates = forecaster.covariate_history(panel, ahead)
    point, bounds = _answer_ends(forecaster, history, covariates, steps, reach, probabilities)
    n = first_not_finite(point, bounds)
    if n is not None:
        raise ValueError(
            f"{forecaster.alias_} gave a forecast that is not finite for {panel.series_label(n)};"
            " look at the scale of its values and fit again"
        )
    from tsattn.sampling import PathSource, find_means

    source = None
    if steps <= forecaster.horizon and forecaster.gives_quantiles:
        source = PathSource(forecaster, panel, steps, future)
    forecast = Forecast(
        point=point[..., 0],
        ids=panel.ids,
        times=future_times(panel.last_times(), panel.freq, steps),
        cutoffs=panel.last_times(),
        alias=forecaster.alias_,
        dialect=panel.dialect,
        quantiles={q: bounds[..., 0, i] for i, q in enumerate(probabilities)},
        levels=levels,
        asked_quantiles=asked_quantiles,
        source=source,
        is_mean=find_means(forecaster, history),
    )
    return with_skipped(forecast, panel) if panel.skipped else forecast


def _answer_ends(
    forecaster: Forecaster,
    history: History,
    covariate_history: "CovariateHistory | None",
    steps: int,
    reach: int,
    probabilities: Sequence[float],
) -> Answer:
    """Points ``[N, steps, 1]`` and quantiles ``[N, steps, 1, Q]`` after the end of each series, in
    chunks; ``reach`` steps are those of whole rounds of the horizon.
    """
    panel = history.panel
    ends = panel.starts[1:]
    point = np.empty((panel.n_series, steps, 1))
    bounds = np.empty((*point.shape, len(probabilities)))
    n_answers = 1 + len(probabilities)
    n_read, n_values = window_sizes(
        panel, covariate_history, context=forecaster.max_context, n_steps=reach, n_answers=n_answers
    )
    chunk = chunk_size(n_values)
    for first in range(0, panel.n_series, chunk):
        stop = min(first + chunk, panel.n_series)
        part = slice(first, stop)
        covariates = None
        if covariate_history is not None:
            covariates = covariate_history.windows(ends[part], n_read, reach)
        if steps <= forecaster.horizon:
            part_point, part_bounds = forecaster.predict_before(
                history, ends[part], quantiles=probabilities, covariates=covariates
            )
            point[part] = part_point[:, :steps]
            bounds[part] = part_bounds[:, :steps]
            continue
        from tsattn.recursive import points_fed_back

        x = forecaster.windows(history, ends[part])
        if covariates is not None:
            covariates = covariates.cut(x.shape[1], reach)
        window_points = points_fed_back(forecaster, x, covariates, steps)
        point[part] = forecaster.own_series(window_points, panel.some(first, stop))
    return point, bounds
