"""What is to be judged on what? The grid of a suite, from a command line or a file, checked before
anything runs.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tsattn.catalogue import GROUPS, find_model
from tsattn.forecaster import check_horizon
from tsattn.limits import seconds_from
from tsattn.storage import one_line

_DEFAULT_MODELS = ("mlr", "naive", "seasonal_naive")


@dataclass(frozen=True)
class Suite:
    """What is run: a grid of data sets, horizons, models and seeds.

    Args:
        datasets: Names of carded sets.
        horizons: Rows to forecast; none takes the horizons of each card.
        models: Names of the catalogue.
        seeds: Seeds of the trained models; the others draw nothing and run once, under the first
            seed.
        table: A file without a card, judged beside the carded sets.
        split: Its shares ``"a,b,c"`` of training, validation and test rows.
        columns: How to read it: ``id_col``, ``time_col``, ``target_col``, ``freq``, ``missing``.
        context: Rows of history of the trained models; default the card's.
        season_length: Rows of a season; default the card's, or by frequency.
        max_epochs: Passes over the training windows at most; default each model's own.
        max_time: Time limit of one fit of a network of ours, such as ``"15m"``; the best weights
            until then are kept and the record says how many epochs that were.
        settings: Further settings by name: of all attention forecasters (``"attention"``), of all
            linear ones (``"linear"``), or of single models, which stand above.
        name: Its records stand in ``<name>.jsonl``.

    Raises:
        ValueError: If there is nothing to run, a name or number is not usable, or table and split
            do not go together.
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
        if not self.datasets and self.table is None:
            raise ValueError(
                "nothing to judge on; name a data set (--dataset ETTh1) or a table (--data"
                " FILE.csv)"
            )
        if (self.table is None) != (self.split is None):
            raise ValueError(
                "a table and its split go together: --data FILE.csv --split 0.7,0.1,0.2 (carded"
                " sets bring theirs)"
            )
        if self.table is not None and not self.horizons:
            raise ValueError(
                f"{self.table} has no card that lists horizons; name one, such as --horizon 96"
            )
        if not self.models or not self.seeds:
            raise ValueError("a suite needs at least one model and one seed")
        for name in (*self.models, *(name for name in self.settings if name not in GROUPS)):
            find_model(name)
        for horizon in self.horizons:
            check_horizon(horizon)
        for seed in self.seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                raise ValueError(f"a seed must be a whole number of at least 0; got {seed!r}")
        for name, table in self.settings.items():
            if not isinstance(table, Mapping):
                raise ValueError(
                    f"settings of {name} must be a table of names and values; got {table!r}"
                )
        for name in ("context", "season_length", "max_epochs"):
            value = getattr(self, name)
            if value is not None and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
        seconds_from(self.max_time)

    def settings_of(self, model: str) -> dict[str, Any]:
        """What ``settings`` says of a model."""
        groups = [name for name, members in GROUPS.items() if model in members]
        return {k: v for name in (*groups, model) for k, v in self.settings.get(name, {}).items()}

    @classmethod
    def from_toml(cls, path: str | Path, **given: Any) -> "Suite":
        """Read a suite from a file; what is ``given`` here stands above what is written there.

        Args:
            path: TOML with the fields of this class; the name of the file is that of the suite.
            **given: Fields; ``None`` and empty ones leave the file's value.

        Raises:
            ValueError: If the file is no TOML, or has a field that a suite does not have.
        """
        known = [
            each.name
            for each in fields(cls)
            if each.name not in {"table", "split", "columns", "name"}
        ]
        try:
            written = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no TOML file ({one_line(error)}); mend it") from None
        for name, value in written.items():
            if name not in known:
                raise ValueError(
                    f"{path}: a suite has no field {name!r}; known are {', '.join(known)} (every"
                    " window is judged: nothing thins or caps them)"
                )
            if not isinstance(value, _TOML_TYPES[name]):
                raise ValueError(
                    f"{path}: {name} = {value!r} must be a {_TOML_TYPES[name].__name__}"
                )
        kept = {name: value for name, value in given.items() if value not in (None, (), {})}
        merged: dict[str, Any] = {**written, **kept}
        merged = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in merged.items()
        }
        return cls(**merged, name=Path(path).stem)


_TOML_TYPES: dict[str, type] = {
    **dict.fromkeys(("datasets", "horizons", "models", "seeds"), list),
    **dict.fromkeys(("context", "season_length", "max_epochs"), int),
    "max_time": str,
    "settings": dict,
}
