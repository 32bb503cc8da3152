"""The grid of a benchmark suite: data sets, horizons, models and seeds, checked before any run."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsattn.catalogue import GROUPS, find_model
from tsattn.checks import Argument, InputError, check_whole
from tsattn.data.cards import list_cards
from tsattn.data.schema import COVARIATE_FIELDS
from tsattn.limits import seconds_from
from tsattn.storage import one_line

_DEFAULT_MODELS = ("mlr", "naive", "seasonal_naive")
# Settings that a suite gives to its models, by its own fields.
_OWN_FIELDS = {"horizon": "horizons", "random_state": "seeds", "val_size": "split"}
# Fields that a file may set, and the types that TOML gives them.
_TOML_TYPES: dict[str, type] = {
    "datasets": list,
    "horizons": list,
    "models": list,
    "seeds": list,
    "context": int,
    "season_length": int,
    "max_epochs": int,
    "max_time": str,
    "settings": dict,
}


@dataclass(frozen=True)
class Suite:
    """A grid of data sets, horizons, models and seeds.

    Args:
        datasets: Names of carded sets.
        horizons: Rows to forecast; none takes the horizons of each card.
        models: Names of the catalogue.
        seeds: Seeds of the trained models. Other models draw no random numbers and run once, under
            the first seed.
        table: A file without a card, judged beside the carded sets.
        split: Its shares ``"a,b,c"`` of training, validation and test rows.
        columns: How to read it: ``id_col``, ``time_col``, ``target_col``, ``freq``, ``missing``.
        context: Rows of history of the trained models; default the card's.
        season_length: Rows of a season; default the card's, or by frequency.
        max_epochs: Passes over the training windows at most; default each model's own.
        max_time: Time limit of one fit of a network of tsattn, such as ``"15m"``. The fit keeps
            the best weights so far, and the record says how many epochs it made.
        settings: Further settings by name: of all attention forecasters (``"attention"``), of all
            linear ones (``"linear"``), or of single models, which overrule those of a group.
        name: Name of the suite; its records are in ``<name>.jsonl``.

    Raises:
        ValueError: If there is nothing to run, a name or number is not usable, or one of table and
            split is missing.
    """

    datasets: tuple[str, ...] = ()
    horizons: tuple[int, ...] = ()
    models: tuple[str, ...] = _DEFAULT_MODELS
    seeds: tuple[int, ...] = (0,)
    table: Path | None = None
    split: str | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    season_length: int | None = None
    max_epochs: int | None = None
    max_time: str | None = None
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = "records"

    def __post_init__(self) -> None:
        for name in ("datasets", "horizons", "models", "seeds"):
            value = getattr(self, name)
            if not isinstance(value, list | tuple):
                raise ValueError(f"{name} must be a list; got {value!r}; write [{value!r}]")
        if not self.datasets and self.table is None:
            raise InputError(
                "nothing to judge on; name a data set by ",
                Argument("datasets"),
                " or a table by ",
                Argument("table"),
            )
        if (self.table is None) != (self.split is None):
            raise InputError(
                "a table and its split go together; give both, such as ",
                Argument("table", "FILE.csv"),
                " and ",
                Argument("split", "0.7,0.1,0.2"),
                ", or neither",
            )
        if self.table is not None and not self.horizons:
            raise InputError(
                f"{self.table} has no card that lists horizons; name one by ", Argument("horizons")
            )
        if not self.models or not self.seeds:
            raise ValueError("a suite needs at least one model and one seed")
        self._check_columns()
        self._check_names()
        self._check_numbers()

    def _check_columns(self) -> None:
        for name in self.columns:
            if self.table is None:
                datasets = ", ".join(self.datasets)
                raise InputError(
                    f"{datasets} has a card that says how it is read; leave out ",
                    Argument(name),
                )
            if name in COVARIATE_FIELDS:
                raise InputError(
                    "the models of a suite are judged on the values alone; leave out ",
                    Argument(name),
                    ", or run backtest, which reads covariates",
                )

    def _check_names(self) -> None:
        cards = list_cards()
        for name in self.datasets:
            if str(name).lower() not in cards:
                raise InputError(
                    f"no data set is called {name!r}; known are {', '.join(cards)}; a table of your"
                    " own is given by ",
                    Argument("table", "FILE.csv"),
                    " and ",
                    Argument("split", "0.7,0.1,0.2"),
                )
        for name in self.models:
            find_model(name)
        for name, table in self.settings.items():
            if name not in GROUPS:
                find_model(name)
            if not isinstance(table, Mapping):
                raise ValueError(
                    f"settings of {name} must be a table of names and values; got {table!r}"
                )
            for setting, field_name in _OWN_FIELDS.items():
                if setting in table:
                    raise ValueError(
                        f"settings of {name} have {setting} = {table[setting]!r}, which the suite"
                        f" sets by {field_name}; leave it out there"
                    )

    def _check_numbers(self) -> None:
        for horizon in self.horizons:
            check_whole("horizon", horizon)
        for seed in self.seeds:
            check_whole("a seed", seed, 0)
        for name in ("context", "season_length", "max_epochs"):
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value)
        seconds_from(self.max_time)

    def settings_of(self, model: str) -> dict[str, Any]:
        """The further settings of a model: those of its groups, then its own."""
        settings: dict[str, Any] = {}
        for group, members in GROUPS.items():
            if model in members:
                settings |= self.settings.get(group, {})
        own_settings = self.settings.get(model, {})
        return settings | dict(own_settings)

    @classmethod
    def from_toml(cls, path: str | Path, **options: Any) -> "Suite":
        """Read a suite from a file.

        Args:
            path: TOML with the fields of this class but for ``table``, ``split`` and ``columns``;
                the name of the file is that of the suite.
            **options: Fields that overrule those of the file; ``None`` and empty ones do not.

        Raises:
            ValueError: If the file is no TOML, or has a field that a suite does not have.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
            values = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"{path} is no TOML file ({one_line(error)}); mend it, or give a table to judge on"
                " by ",
                Argument("table", "FILE.csv"),
                " and ",
                Argument("split", "0.7,0.1,0.2"),
            ) from None
        for name, value in values.items():
            if name not in _TOML_TYPES:
                fields = ", ".join(_TOML_TYPES)
                raise ValueError(
                    f"{path}: a suite file has no field {name!r}; known are"
                    f" {fields} (a table and its split are given beside it, and"
                    " every window is judged: nothing thins or caps them)"
                )
            field_type = _TOML_TYPES[name]
            if not isinstance(value, field_type):
                raise ValueError(f"{path}: {name} = {value!r} must be a {field_type.__name__}")
        unset: tuple[Any, ...] = (None, (), {})
        overruling = {name: value for name, value in options.items() if value not in unset}
        # Options stand above the settings of models, too.
        model_settings = values.get("settings", {})
        for table in model_settings.values():
            if isinstance(table, dict):
                for name in overruling.keys() & table:
                    del table[name]
        values |= overruling
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
        return cls(**values, name=Path(path).stem)
