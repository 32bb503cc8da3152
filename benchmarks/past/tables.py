"""Tables of complete series for the judgment of filled gaps and of anomalies.

Development tables come from the development tasks of the zero-shot pack. The tables of the judgment
(split "kept") are the sixty of ``real_tables``, Victoria's demand and temperature, and ETTh2.
Nothing was chosen by them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from real_tables.tables import SOURCES, read_table
from zero_shot.pack import Pack

SPLITS = ("development", "kept")
# Options of the scripts by their defaults.
OPTIONS = {"split": SPLITS[0], "pack": "", "data_dir": ""}
# One task of each development data set and frequency; the tasks of a data set differ in horizon.
DEVELOPMENT = (
    "ett1/H/short",
    "ett1/15T/short",
    "ett1/D/short",
    "jena_weather/10T/short",
    "jena_weather/H/short",
    "us_births/D/short",
    "covid_deaths/D/short",
    "m4_weekly/W/short",
    "monash_hospital",
    "monash_m3_monthly",
)
# Series and last rows of a table that are read at most.
MOST_SERIES = 8
MOST_ROWS = 1500
# Rows of a table at least: a gap needs two sides.
LEAST_ROWS = 60


def tables_of(options: Any) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and wide tables of the split that the options name."""
    if options.split == "kept":
        return judgment_tables(Path(options.data_dir))
    return development_tables(Path(options.pack))


def development_tables(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and wide tables of development tasks of a pack."""
    pack = Pack(folder)
    for name in DEVELOPMENT:
        task = pack.tasks[name]
        histories = {}
        for instance in pack.instances(task):
            histories[instance.item] = np.concatenate([instance.past, instance.future])
        series = [values[-MOST_ROWS:] for values in histories.values()]
        # Series of one length make a wide table.
        n_rows = int(np.median([len(values) for values in series]))
        alike = [values[-n_rows:] for values in series if len(values) >= n_rows]
        index = pd.date_range("2000-01-01", periods=n_rows, freq=task.freq)
        yield name, pd.DataFrame(np.stack(alike[:MOST_SERIES], axis=1), index=index)


def judgment_tables(data_dir: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Names and wide tables of the judgment."""
    for source in SOURCES:
        frame = read_table(source)
        if len(frame) >= LEAST_ROWS:
            yield source.name, frame.iloc[-MOST_ROWS:, :MOST_SERIES]
    demand = pd.read_csv(data_dir / "vic_electricity_30min.csv")
    columns = demand[["Demand", "Temperature"]]
    stamps = pd.date_range("2012-01-01", periods=len(demand), freq="30min")
    yield "vic_electricity", columns.set_axis(stamps).iloc[-MOST_ROWS:]
    transformer = pd.read_csv(data_dir / "ETTh2.csv", parse_dates=["date"], index_col="date")
    yield "ETTh2", transformer.asfreq("h").iloc[-MOST_ROWS:]
