"""Panels of other libraries, read as a forecaster reads a table."""

from dataclasses import replace

from tsattn.data.panel import Panel, as_objects, without_sentinels
from tsattn.forecaster import Forecaster


def read_panel(forecaster: Forecaster, panel: Panel, names: list[object], *, fitted: bool) -> Panel:
    """A panel without numbers such as -9999, under the forecaster's policy for missing values.

    Args:
        forecaster: It fits or forecasts the panel.
        panel: Made under the policy of the forecaster's schema.
        names: What warnings call its series.
        fitted: Whether the last fit forecasts it.
    """
    keeps = forecaster.schema.missing == "error"
    named = without_sentinels(replace(panel, ids=as_objects(names)), keeps=keeps)
    return forecaster.with_own_policy(named, fitted)
