"""Forecasters that are saved as their settings, what they learnt, and the end of each series."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from tsattn.data.covariates import CovariateColumns
from tsattn.data.windows import History
from tsattn.forecaster import Forecaster
from tsattn.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from tsattn.data.encoding import CovariateEncoder


class StoredForecaster(Forecaster):
    """A forecaster with ``save`` and ``load``; a subclass names what it learnt.

    Attributes:
        learnt: Names of the integers that ``fit`` sets.
        prefix: What the names of its tensors begin with in a file.
        encoder_: How covariates are read, set by ``fit`` where there are some.
    """

    learnt: ClassVar[tuple[str, ...]] = ()
    prefix: ClassVar[str] = "learnt."

    encoder_: "CovariateEncoder | None" = None

    def _learnt_tensors(self) -> "dict[str, Tensor]":
        """The tensors that ``fit`` set, by name."""
        return {}

    def _inside(self) -> "tuple[dict[str, Any], dict[str, Any]]":
        """Facts beside the integers, and forecasters that are saved inside, by name."""
        return {}, {}

    def _take(
        self, tensors: "Mapping[str, Tensor]", facts: Mapping[str, Any], folder: Path
    ) -> None:
        """Undo :meth:`_learnt_tensors` and :meth:`_inside`, after settings, integers and series are
        in place.
        """

    @property
    def covariate_columns_(self) -> CovariateColumns:
        """What the last fit read beside the target, its calendar and categories known."""
        if "panel_" not in vars(self):
            return self.covariate_columns
        return CovariateColumns() if self.encoder_ is None else self.encoder_.columns

    def save(self, path: str | Path) -> None:
        """Write the fitted forecaster into a folder: ``model.safetensors`` and ``config.json``, no
        pickle.

        Args:
            path: The folder; an older save there is replaced in one step.

        Raises:
            ValueError: If not fitted, the folder holds something else, or a setting, ids or names
                are of a kind that files cannot hold.
        """
        from tsattn.data.stored import panel_facts
        from tsattn.forecasters.saving import (
            covariate_files,
            plain_value,
            tail_tensors,
            write_model,
        )

        self.check_fitted()
        parameters = self.get_params(deep=False)
        parameters.pop("weights", None)  # those of a network are among the tensors
        for name, value in parameters.items():
            _refuse_objects(name, value)
        panel = replace(self.panel_, values=History(self.panel_).filled).last(self.max_context)
        tensors = {
            f"{self.prefix}{name}": tensor for name, tensor in self._learnt_tensors().items()
        }
        facts = {
            "parameters": plain_value(parameters),
            "learnt": {name: getattr(self, name) for name in self.learnt},
            "panel": panel_facts(panel),
            "panel_in": self.panel_in_,
        }
        beside, told = covariate_files(self.encoder_, panel)
        tensors = tensors | beside
        facts = facts | told
        more, members = self._inside()
        inside = {name: each.save for name, each in members.items()}
        write_model(
            Path(path),
            type(self).__name__,
            tensors | tail_tensors(panel),
            {**more, **facts},
            inside,
        )

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote, on any machine; it runs no code from the files.

        Raises:
            ValueError: If files are missing, damaged or of another class.
        """
        from tsattn.data.stored import check_panel, require
        from tsattn.forecasters.saving import covariates_from, made_of, read_model, tail_from

        def rebuild(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
            forecaster = cls(**made_of(cls, facts["parameters"]))
            alias = forecaster.alias
            require(alias is None or type(alias) in (str, int), f"alias = {alias!r:.40}")
            panel = tail_from(facts["panel"], tensors)
            check_panel(panel)
            panel, forecaster.encoder_ = covariates_from(facts, tensors, panel)
            require(type(facts["panel_in"]) is bool, "panel_in")
            forecaster.panel_, forecaster.panel_in_ = panel, facts["panel_in"]
            forecaster.bound_ = {name: getattr(forecaster, name) for name in cls.bound}
            for name in cls.learnt:
                value = facts["learnt"][name]
                require(type(value) is int and value >= 0, f"{name} = {value!r:.40}")
                setattr(forecaster, name, value)
            require(
                bool((panel.lengths >= forecaster.min_context).all()),
                "series are shorter than the context",
            )
            own = {
                n.removeprefix(cls.prefix): t
                for n, t in tensors.items()
                if n.startswith(cls.prefix)
            }
            forecaster._take(own, facts, Path(path))
            return forecaster

        found: Self = read_model(Path(path), cls.__name__, rebuild)
        return found


def _refuse_objects(name: str, value: Any) -> None:
    """Refuse a setting that JSON cannot hold."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            _refuse_objects(f"{name}[{key!r}]", each)
    elif isinstance(value, list | tuple):
        for each in value:
            _refuse_objects(name, each)
    elif not isinstance(value, str | int | float | bool | Settings | np.generic | None):
        raise ValueError(
            f"{name} of type {type(value).__name__} cannot be saved without running code at load;"
            " give it by a name or numbers"
        )
