"""The linear forecasters: one map from window to horizon, learnt by steps or solved."""

from dataclasses import replace
from typing import Any

from tsattn.checks import check_choice, check_switch
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.forecaster import FitContext
from tsattn.forecasters.covariate_regression import make_encoder
from tsattn.forecasters.covariate_weights import fit_covariate_regression
from tsattn.forecasters.network import NetworkFitted, NetworkForecaster
from tsattn.limits import limit_threads
from tsattn.nn.config import LINEAR_KINDS, ModelConfig
from tsattn.training.settings import Training


class LinearForecaster(NetworkForecaster):
    """One linear map from window to horizon, trained like the attention models: the baseline to
    beat.

    Args:
        horizon: Future steps to forecast.
        kind: ``"nlinear"``, ``"dlinear"`` (Zeng et al., AAAI 2023) or ``"rlinear"`` (Li et al.
            2023).
        context, val_size, random_state: As for :class:`tsattn.AttentionForecaster`.
        closed_form: Solve the map of ``"nlinear"`` or ``"rlinear"`` by least squares (with a small
            ridge penalty) instead of learning it by steps: the least squared error on the training
            windows, in seconds, and the same at every seed. What concerns learning then has no
            effect.
        training: How it learns; the learning rate is 0.005 unless named.
        schema: How tables are read. Covariates are read by regressions before and after the map,
            weighed on windows held out
            (:class:`tsattn.forecasters.covariate_regression.CovariateRegression`).
        alias: Name of the forecast column; default the kind.

    Attributes and methods are those of :class:`tsattn.AttentionForecaster`.
    """

    rate = 5e-3

    def __init__(
        self,
        horizon: int,
        kind: str = "nlinear",
        *,
        context: int | None = None,
        closed_form: bool = False,
        training: Training = Training(),
        schema: Schema = Schema(),
        val_size: int | float = 0.1,
        alias: str | None = None,
        random_state: Any = None,
    ) -> None:
        self.horizon = horizon
        self.kind = kind
        self.context = context
        self.closed_form = closed_form
        self.training = training
        self.schema = schema
        self.val_size = val_size
        self.alias = alias
        self.random_state = random_state

    @property
    def name(self) -> str:
        """The kind."""
        return self.kind

    def without_doubtful(self, panel: Panel, fitted: bool) -> Panel:
        """As in every forecaster; also warns of columns that are stuck."""
        from tsattn.forecasters.pretrained import tell_stuck_columns

        panel = super().without_doubtful(panel, fitted)
        tell_stuck_columns(panel)
        return panel

    def _train(self, panel: Panel, context: FitContext) -> NetworkFitted:
        columns = self.covariate_columns
        encoder = make_encoder(columns, panel) if columns else None
        fitted = super()._train(panel, context)
        if encoder is None:
            return fitted
        model = fitted.model
        n_rows = model.config.context
        learning = model.transform.panel(panel)
        with limit_threads(1):
            regression = fit_covariate_regression(
                model.learnt,
                lambda history, ends: history.contexts(ends, n_rows),
                learning,
                encoder,
                horizon=model.config.horizon,
                min_rows=n_rows,
            )
        model = replace(model, covariate_regression=regression)
        return replace(fitted, model=model, encoder=encoder)

    def _shortest_context(self) -> int:
        return 2

    @property
    def _solved(self) -> bool:
        return bool(self.closed_form)

    def _describe(self, context: int, freq: str | int, **derived: Any) -> ModelConfig:
        check_choice("kind", self.kind, LINEAR_KINDS)
        check_switch("closed_form", self.closed_form)
        loss = self.training.own_loss or self.training.loss
        # Only one map of the squared error is least squares.
        is_solvable = self.kind != "dlinear" and loss == "mse"
        if self.closed_form and not is_solvable:
            raise ValueError(
                f"closed_form solves one map for the squared error; got kind = {self.kind!r} and"
                f" loss = {loss!r}; take 'rlinear' or 'nlinear' and 'mse', or closed_form=False"
            )
        return ModelConfig(
            context=context, horizon=int(self.horizon), backbone=self.kind, **derived
        )
