"""Tables in files of every kind are read alike and written by their ending, or refused
in one line.
"""

import gzip
import io
import os
import re
import sys
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from tables import long_table

from tsattn import forecast
from tsattn.checks import InputWarning
from tsattn.data import files
from tsattn.data.files import kind_of, read_frame, read_table, write_frame
from tsattn.data.frames import to_panel
from tsattn.data.schema import Schema

ENDINGS = [
    "csv",
    "csv.gz",
    "CSV.GZ",
    "csv.bz2",
    "csv.xz",
    "csv.zip",
    "parquet",
    "pq",
    "feather",
    "xlsx",
]
MAGIC = {
    "csv.gz": b"\x1f\x8b",
    "csv.zip": b"PK",
    "parquet": b"PAR1",
    "feather": b"ARROW1",
    "xlsx": b"PK",
}
ARGV = ["--horizon", "2", "--model", "naive"]


def long_frame(tz=None):
    return long_table(np.arange(24).reshape(2, 12) / 8, "ab", tz=tz)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_is_written_and_read_alike(folder, run, ending):
    df = long_frame()
    write_frame(df, folder / f"t.{ending}", index=False)
    assert (folder / f"t.{ending}").read_bytes().startswith(MAGIC.get(ending, b""))
    assert read_table(f"t.{ending}").fingerprint() == read_table_of(df).fingerprint()
    assert run("forecast", f"t.{ending}", *ARGV, "--out", f"f.{ending}") == (0, "", "")
    answer = read_frame(f"f.{ending}").astype({"ds": "datetime64[ns]"})
    days = pd.DatetimeIndex(["2024-01-13", "2024-01-14"] * 2)
    expected = pd.DataFrame(
        {"unique_id": list("aabb"), "ds": days, "naive": [11 / 8, 11 / 8, 23 / 8, 23 / 8]}
    )
    assert_frame_equal(answer, expected)
    assert sorted(path.name for path in folder.iterdir()) == sorted([f"t.{ending}", f"f.{ending}"])


def read_table_of(df):
    df.to_csv("plain.csv", index=False)
    panel = read_table("plain.csv")
    (files.Path("plain.csv")).unlink()
    return panel


def test_a_backtest_and_future_rows_take_every_kind_as_well(folder, run):
    long_frame().to_parquet("t.parquet")
    argv = ["backtest", "t.parquet", *ARGV, "--n-windows", "2", "--out", "b.csv.gz", "--json"]
    assert run(*argv)[::2] == (0, "")
    with gzip.open("b.csv.gz", "rt") as file:
        assert file.readline() == "unique_id,ds,cutoff,y,naive\n"
    argv = ["benchmark", "--data", "t.parquet", "--split", "0.5,0.25,0.25", *ARGV, "--json"]
    code, out, _ = run(*argv)
    assert (code, '"dataset": "t"' in out) == (0, True)


@pytest.mark.parametrize("ending", ["csv", "parquet", "feather", "xlsx"])
def test_stamps_in_the_index_and_in_a_zone_are_written(folder, ending):
    index = pd.date_range("2024-01-01", periods=3, freq="h", tz="Europe/Berlin", name="when")
    write_frame(
        pd.DataFrame({"load": [1.0, 2.0, 4.0]}, index=index), folder / f"t.{ending}", index=True
    )
    frame = read_frame(f"t.{ending}").reset_index()
    assert pd.to_datetime(frame["when"]).tolist() == index.tolist()
    assert frame["load"].tolist() == [1.0, 2.0, 4.0]


def test_standard_input_is_read(folder, run, monkeypatch):
    def pipe(text):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))

    pipe(long_frame().to_csv(index=False))
    code, out, err = run("forecast", "-", *ARGV)
    assert (code, err, out.splitlines()[1]) == (0, "", "a,2024-01-13,1.375")
    pipe(long_frame().to_csv(index=False, sep=";", decimal=","))
    assert run("forecast", "-", *ARGV) == (0, out, "")
    pipe("")
    code, out, err = run("forecast", "-", *ARGV)
    assert (code, out) == (2, "")
    assert err.startswith("tsattn: standard input is no readable CSV table (it is empty")


@pytest.mark.parametrize(("mark", "decimal"), [(";", ","), (";", "."), ("\t", "."), ("|", ".")])
def test_other_marks_between_cells_are_seen(folder, mark, decimal):
    long_frame().to_csv("t.csv", index=False)
    long_frame().to_csv("marked.csv", index=False, sep=mark, decimal=decimal)
    assert read_table("marked.csv").fingerprint() == read_table("t.csv").fingerprint()


@pytest.mark.parametrize("name", ["b\t", "\tb", "b\tc"])
def test_a_tab_in_a_name_parts_no_cells(folder, name):
    days = pd.date_range("2024-01-01", periods=12).strftime("%Y-%m-%d")
    lines = [f"{day},{n},{n + 0.5}" for n, day in enumerate(days)]
    (folder / "t.csv").write_text("\n".join([f"ds,a,{name}", *lines]))
    numbers = [*range(12), *np.arange(12) + 0.5]
    assert sorted(read_table("t.csv").values[:, 0]) == sorted(numbers)


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1.029,62", "993,5", "", "-1.000.000"], [1029.62, 993.5, np.nan, -1e6]),
        (["1.030", "993", "12", "1.031"], [1030, 993, 12, 1031]),
        (["1.030.000", "2.125.000", "993.125", ""], [1030000, 2125000, 993125, np.nan]),
        (["1.030", "0.125", "12", "1.031"], [1.03, 0.125, 12, 1.031]),
        (["1'029.62", "993.5", "+12", ""], [1029.62, 993.5, 12, np.nan]),
        (["1\u202f030", "2\u202f040", "3\u202f050", "4\u202f060"], [1030, 2040, 3050, 4060]),
        (["1,030", "12", "993", "1,031"], [1030, 12, 993, 1031]),
        (["1,030", "12", "993.25", "1,031"], [1030, 12, 993.25, 1031]),
        (["1,5", "12,25", "993", "0,125"], [1.5, 12.25, 993, 0.125]),
        (["1,125", "2,250", "1,5", ""], [1.125, 2.25, 1.5, np.nan]),
    ],
)
def test_thousands_may_be_parted(folder, cells, numbers):
    mark = "," if any("," in cell for cell in cells) and cells[0] != "1.029,62" else ";"
    rows = [f'2024-01-0{day}{mark}"{cell}"\n' for day, cell in enumerate(cells, 1)]
    (folder / "t.csv").write_text(f"ds{mark}y\n{''.join(rows)}", encoding="utf-8")
    values = read_table("t.csv").values[:, 0]
    np.testing.assert_array_equal(values, numbers)


@pytest.mark.parametrize(
    ("mark", "cells", "numbers"),
    [
        (";", ["980", "990", "1,000", "1,010"], [980, 990, 1000, 1010]),
        (",", ["980", "990", "1.000", "-12.010"], [980, 990, 1000, -12010]),
        ("\t", ["980", "", "1.000", "1.010"], [980, np.nan, 1000, 1010]),
        # Decimals stay: of small numbers, and where others have more or fewer of them.
        (";", ["2", "1,250", "3,500", "4"], [2, 1.25, 3.5, 4]),
        (";", ["980", "1,5", "1,000", "1,010"], [980, 1.5, 1, 1.01]),
        (";", ["980,000", "990,000", "1,000", "1,010"], [980, 990, 1, 1.01]),
        (",", ["980", "0.125", "1.250", "1.010"], [980, 0.125, 1.25, 1.01]),
    ],
)
def test_thousands_beside_smaller_numbers_are_read_with_a_word(folder, mark, cells, numbers):
    rows = [f"2024-01-0{day}{mark}{cell}\n" for day, cell in enumerate(cells, 1)]
    (folder / "t.csv").write_text(f"ds{mark}y\n{''.join(rows)}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = read_table("t.csv").values[:, 0]
    np.testing.assert_allclose(values, numbers)
    is_told = [f"holds {cells[2]} beside {cells[0]}" in str(warning.message) for warning in caught]
    assert any(is_told) == (abs(values[2]) == 1000)


@pytest.mark.parametrize(
    "line", ["A,2024-01-01,5", "50.35,01.01.2024,1", "1,2024-01-01,50.35", "Jan 2020,1.5,2.5"]
)
def test_a_date_anywhere_in_the_first_line_is_no_name(folder, line):
    (folder / "t.csv").write_text(f"{line}\n{line.replace('1,', '2,')}\n")
    with pytest.raises(ValueError, match=r"its first line holds '.*20.*', not the names of the"):
        read_table("t.csv")


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("dots", [".", "..", "..."])
def test_dots_in_place_of_a_value_are_missing_cells(folder, ending, dots):
    rates = [*range(11)]
    rates[4] = dots
    table = pd.DataFrame(
        {"observation_date": pd.date_range("2024-01-01", periods=11), "rate": rates}
    )
    path = folder / f"rates.{ending}"
    table.to_csv(path, index=False) if ending == "csv" else table.to_excel(path, index=False)
    values = read_table(path, Schema(missing="mask")).values[:, 0]
    assert np.isnan(values).tolist() == [row == 4 for row in range(11)]
    assert np.nansum(values) == sum(range(11)) - 4


def test_empty_files_and_lines_with_more_cells_are_told(folder):
    (folder / "t.csv").write_text("")
    with pytest.raises(ValueError, match=r"t.csv is no readable CSV table .it is empty."):
        read_table("t.csv")
    (folder / "t.csv").write_text("ds,y\n2024-01-01,1\n2024-01-02,2\n2024-01-03,3,x\n")
    with pytest.raises(ValueError, match=r"in line 4, saw 3.; correct that line, or write cells"):
        read_table("t.csv")


def test_points_that_may_part_thousands_are_decimal_with_a_word(folder):
    rows = [
        f"2024-01-0{day};{cell}\n" for day, cell in enumerate(["1.030", "2.125", "", "12.500"], 1)
    ]
    (folder / "t.csv").write_text(f"ds;y\n{''.join(rows)}")
    with pytest.warns(
        UserWarning, match=r"column 'y' holds numbers such as 1\.030, read with a decimal point; if"
    ):
        values = read_table("t.csv").values[:, 0]
    np.testing.assert_array_equal(values, [1.03, 2.125, np.nan, 12.5])


@pytest.mark.parametrize(
    "cells",
    [
        ["1.029,62", "993.5", "1", "2"],
        ["1.23.456", "1", "2", "3"],
        ["1,030", "993", "x", "2"],
        ["1,030", "1'030", "2", "993"],
    ],
)
def test_thousands_in_doubt_are_refused(folder, cells):
    rows = [f'2024-01-0{day},"{cell}"\n' for day, cell in enumerate(cells, 1)]
    (folder / "t.csv").write_text(f"ds,y\n{''.join(rows)}")
    with pytest.raises(
        ValueError,
        match=f"column 'y' holds '{re.escape(cells[0])}' at .* write numbers with a decimal point only, such as 10037.72",
    ):
        read_table("t.csv")


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("name", ["sales, EUR", "a, b, c"])
def test_commas_in_names_part_no_cells(folder, mark, name):
    rows = [f"2024-01-0{i}{mark}{i}{',5' * (mark == ';')}" for i in range(1, 9)]
    (folder / "t.csv").write_text("\n".join([f"ds{mark}{name}", *rows]))
    panel = read_table("t.csv")
    assert panel.dialect.columns == (name,)
    assert panel.values[:, 0].tolist() == [i + 0.5 * (mark == ";") for i in range(1, 9)]
    (folder / "t.csv").write_text('"time; UTC",y\n2024-01-01,1\n2024-01-02,2\n')
    assert read_table("t.csv").dialect.columns == ("y",)


@pytest.mark.parametrize("first", ["2024-01-01,1", "01.01.2024;1", "1/13/2024\t1"])
def test_a_table_without_names_is_refused(folder, run, first):
    (folder / "t.csv").write_text(f"{first}\n" * 3)
    code, out, err = run("forecast", "t.csv", *ARGV)
    assert (code, out) == (2, "")
    date = re.split("[,;\t]", first)[0]
    assert (
        f"t.csv is no readable CSV table (its first line holds '{date}', not the names of the"
        " columns" in err
    )


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("id_col", ["unique_id", "item_id", "shop"])
@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (["001", "002"], ["001", "002"]),
        (["1", "01"], ["01", "1"]),
        (["NA", "DE"], ["DE", "NA"]),
        (["1e5", "True"], ["1e5", "True"]),
        (["9" * 20, "8"], ["8", "9" * 20]),
        (["10", "-2"], [-2, 10]),
    ],
)
def test_ids_of_a_file_stay_as_they_are_written(folder, ending, id_col, ids, wanted):
    frame = long_frame().rename(columns={"unique_id": id_col})
    frame[id_col] = frame[id_col].map(dict(zip("ab", ids, strict=True)))
    named = {"item_id": Schema(), "shop": Schema(id_col="shop")}.get(id_col, Schema())
    if id_col == "item_id":
        frame = frame.rename(columns={"ds": "timestamp", "y": "target"})
    write_frame(frame, folder / f"t.{ending}", index=False)
    assert read_table(f"t.{ending}", named).ids.tolist() == wanted
    frame.loc[3, id_col] = ""
    write_frame(frame, folder / f"t.{ending}", index=False)
    with pytest.raises(ValueError, match=f"column '{id_col}' has no id in row 3, but"):
        read_table(f"t.{ending}", named)


def write_cells(rows, path):
    """Write rows as they are, without names above them."""
    cells = pd.DataFrame(rows)
    write = cells.to_csv if path.suffix == ".csv" else cells.to_excel
    write(path, index=False, header=False)


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("kind", ["long", "wide"])
def test_a_title_above_the_names_of_columns_is_refused(folder, kind, ending):
    frame = long_frame()
    if kind == "wide":
        frame = frame.pivot(index="ds", columns="unique_id", values="y").reset_index()
    nothing = [None] * (len(frame.columns) - 1)
    rows = [["Sales of 2024", *nothing], [None, *nothing], frame.columns, *frame.to_numpy()]
    write_cells(rows, folder / f"t.{ending}")
    with pytest.raises(
        ValueError, match="a title, 'Sales of 2024', and its columns are named below"
    ):
        read_table(f"t.{ending}")
    write_cells(rows[2:], folder / f"t.{ending}")
    assert read_table(f"t.{ending}").ids.tolist() == ["a", "b"]


@pytest.mark.parametrize("n_above", [0, 2])
def test_blank_rows_of_a_spreadsheet_are_no_rows(folder, n_above):
    frame = long_frame().assign(unique_id=["001"] * 12 + ["002"] * 12)
    nothing = [None] * 3
    rows = frame.to_numpy().tolist()
    blocks = [*rows[:7], nothing, *rows[7:20], nothing, nothing, *rows[20:]]
    write_cells([*[nothing] * n_above, frame.columns, *blocks], folder / "t.xlsx")
    panel = read_table("t.xlsx")
    assert (panel.ids.tolist(), panel.lengths.tolist()) == (["001", "002"], [12, 12])
    numbers = [[value, 2 * value] for value in range(20)]
    write_cells([["a", "b"], *numbers[:5], nothing[:2], *numbers[5:]], folder / "t.xlsx")
    assert len(read_frame("t.xlsx")) == 21, "an empty row of numbers may miss its values"


@pytest.mark.parametrize("n_empty", [0, 1])
def test_a_title_in_a_frame_is_told_with_a_call_that_works(folder, n_empty):
    rows = [[f"2024-01-{day:02}", "a", float(day)] for day in range(1, 20)]
    empty = [[None] * 3] * n_empty
    path = folder / "t.xlsx"
    write_cells([["Sales in 2024", None, None], *empty, ["ds", "unique_id", "y"], *rows], path)
    with pytest.raises(ValueError, match=f"named in row {n_empty}, below a title") as refused:
        to_panel(pd.read_excel(path))
    call = re.search("as (pd.*) does", str(refused.value))[1]
    assert to_panel(eval(call, {"pd": pd, "path": path})).lengths.tolist() == [19]


def test_names_of_columns_below_empty_lines_are_refused(folder):
    (folder / "t.csv").write_text(",,\n,,\n" + long_frame().to_csv(index=False))
    with pytest.raises(ValueError, match="first line is empty, and its columns are named below it"):
        read_table("t.csv")


def test_lines_above_the_names_of_a_csv_file_are_to_be_deleted(folder):
    lines = ["Monthly report", "made in 2024", "", "ds,y", "2024-01-01,1", "2024-01-02,2"]
    (folder / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="delete the lines above line 4"):
        read_table("t.csv")


def priced(names=(None, None), index_name="Date"):
    """Prices as yfinance gives them: two levels of columns, with names or without."""
    columns = pd.MultiIndex.from_product([["Close", "Volume"], ["AAPL", "MSFT"]], names=names)
    index = pd.date_range("2024-01-01", periods=20, freq="B", name=index_name)
    return pd.DataFrame(np.arange(80.0).reshape(20, 4), index=index, columns=columns)


MANY_HEADERS = {
    "named levels": priced(("Price", "Ticker")),
    "levels": priced(),
    "no name": priced(index_name=None),
    "one ticker": priced(("Price", "Ticker"))[[("Close", "AAPL"), ("Volume", "AAPL")]],
    "numbers": priced(("store", "item")).set_axis(
        pd.MultiIndex.from_product([[1, 2], [1, 2]], names=["store", "item"]), axis=1
    ),
}


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("frame", MANY_HEADERS.values(), ids=MANY_HEADERS)
def test_several_header_rows_are_told_with_a_call_that_works(folder, frame, ending):
    path = folder / f"prices.{ending}"
    frame.to_csv(path) if ending == "csv" else frame.to_excel(path)
    with pytest.raises(ValueError, match=r"the first 2 lines of .* name its columns") as refused:
        read_frame(path)
    names = {"pd": pd}
    exec(str(refused.value).split("file by ")[1], names)
    assert to_panel(names["df"]).n_series == frame.shape[1]
    read = pd.read_csv if ending == "csv" else pd.read_excel
    if "Unnamed: 0" in read(path) and ending == "xlsx":
        # The empty row below the names is told first.
        return
    with pytest.raises(
        ValueError, match=r"first rows hold names of columns, .* first 2"
    ) as refused:
        to_panel(read(path))
    names = {"pd": pd, "path": path}
    exec(str(refused.value).split("names: ")[1].replace("read_csv", read.__name__), names)
    assert to_panel(names["df"]).n_series == frame.shape[1]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.filterwarnings("ignore:.* is not UTF-8")
def test_the_call_that_joins_header_rows_reads_the_marks_and_letters_of_the_file(
    folder, mark, encoding
):
    days = pd.date_range("2024-01-01", periods=19)
    decimal = "," if mark == ";" else "."
    rows = [f"{day:%Y-%m-%d}{mark}{day.day}{decimal}5{mark}7" for day in days]
    lines = [mark.join(["Tag", "Wärme", "Kälte"]), mark.join(["", "kWh", "°C"]), *rows]
    (folder / "load.csv").write_text("\n".join(lines), encoding=encoding)
    with pytest.raises(ValueError, match=r"the first 2 lines of load.* name") as refused:
        read_frame("load.csv")
    names = {"pd": pd}
    exec(str(refused.value).split("file by ")[1], names)
    panel = to_panel(names["df"])
    assert panel.ids.tolist() == ["Kälte °C", "Wärme kWh"]
    assert panel.values[-19:, 0].tolist() == [day + 0.5 for day in range(1, 20)]


@pytest.mark.parametrize("n_title", [4, 9, 10])
def test_lines_of_several_cells_above_the_names_are_to_be_deleted(folder, n_title):
    title = ["Name,Jane", "Account,123", *[""] * (n_title - 2)]
    rows = [f"2024-01-{day:02},{day},x" for day in range(1, 20)]
    lines = [*title, "ds,y,note", *rows]
    (folder / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=f"delete the lines above line {n_title + 1}") as refused:
        read_frame("t.csv")
    n_lines = int(re.search(r"above line (\d+)", str(refused.value))[1]) - 1
    (folder / "t.csv").write_text("\n".join(lines[n_lines:]))
    assert read_frame("t.csv").columns.tolist() == ["ds", "y", "note"]
    rows[14] = "2024-01-15,7,x,9"
    (folder / "t.csv").write_text("\n".join(["ds,y,note", *rows]))
    with pytest.raises(ValueError, match=r"correct that line, or write .* in quotes$"):
        read_frame("t.csv")


@pytest.mark.parametrize(
    "above",
    [
        ["# exported 2024-01-01, by SAP, x"],
        ["# a", "# b, c"],
        ["Sales, report, 2024"],
        ["Sales of 2024,"],
        ["Sales of 2024;", ""],
        ['"exported 2024-01-01"'],
        ["; exported"],
        ["// exported"],
    ],
)
@pytest.mark.parametrize("mark", [",", ";"])
def test_lines_above_the_names_are_deleted_as_advised(folder, above, mark):
    rows = [f"2024-01-{day:02}{mark}{day}" for day in range(1, 20)]
    lines = [*above, f"date{mark}sales", *rows]
    (folder / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="its columns are named below it, 'date' first") as refused:
        read_frame("t.csv")
    number = int(re.search(r"delete the lines above line (\d+)", str(refused.value))[1])
    (folder / "t.csv").write_text("\n".join(lines[number - 1 :]))
    assert read_frame("t.csv")["sales"].tolist() == [*range(1, 20)]


@pytest.mark.parametrize("mark", [",", ";"])
def test_a_remark_below_the_names_is_named(folder, mark):
    rows = [f"2024-01-{day:02}{mark}{day}" for day in range(1, 20)]
    lines = [f"date{mark}sales", "# as of January", *rows]
    (folder / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"line 2 begins with # and is a remark\); delete it"):
        read_frame("t.csv")
    rows = [f"#{shop}{mark}{row}" for shop in (1, 2) for row in rows]
    (folder / "t.csv").write_text("\n".join([f"shop{mark}date{mark}sales", *rows]))
    assert read_table("t.csv").ids.tolist() == ["#1", "#2"]


def test_a_title_of_a_spreadsheet_right_above_the_names_is_no_unit(folder):
    rows = [[f"2024-01-{day:02}", float(day)] for day in range(1, 20)]
    write_cells([["Sales of 2024", None], ["Date", "Sales"], *rows], folder / "t.xlsx")
    with pytest.raises(ValueError, match=r"is a title, 'Sales of 2024', .* lines above these"):
        read_frame("t.xlsx")


def test_a_quote_that_is_not_closed_is_told_with_its_row(folder):
    lines = ["ds,y", "2024-01-01,1", '2024-01-02,"2', "2024-01-03,3"]
    (folder / "t.csv").write_text("\n".join(lines))
    message = (
        r"EOF inside string starting at row 2\); close the quote that opens in that row \(row 0"
    )
    with pytest.raises(ValueError, match=message):
        read_frame("t.csv")
    lines[2] += '"'
    (folder / "t.csv").write_text("\n".join(lines))
    assert read_frame("t.csv")["y"].tolist() == [1, 2, 3]


def test_remarks_of_as_many_cells_as_the_table_are_to_be_deleted(folder):
    lines = ["#group,false,false", "#datatype,dateTime,double", "ds,y,z", "2024-01-01,1,2"]
    (folder / "t.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"is a remark\); delete the lines above the names"):
        read_frame("t.csv")
    (folder / "t.csv").write_text("\n".join(["#,ds,y", "1,2024-01-01,1"]))
    assert read_frame("t.csv").columns.tolist() == ["#", "ds", "y"]


@pytest.mark.parametrize("mark", [",", ";"])
def test_units_below_the_names_are_told(folder, mark):
    decimal = "," if mark == ";" else "."
    lines = [f"2024-01-{day:02}{mark}{day}{decimal}5" for day in range(1, 20)]
    path = folder / "load.csv"
    path.write_text("\n".join([f"time{mark}load", f"UTC{mark}MW", *lines]))
    with pytest.raises(ValueError, match=r"as \['load', 'MW'\], .* as 'load MW'"):
        read_frame(path)


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
@pytest.mark.parametrize("id_unit", [None, "", "name"])
def test_the_line_of_units_of_a_long_table_is_told(folder, ending, id_unit):
    values = [["a", f"2024-01-{day:02}", day + 0.5] for day in range(1, 20)]
    path = folder / f"load.{ending}"
    write_cells([["unique_id", "ds", "y"], [id_unit, None, "kWh"], *values], path)
    message = f"line 2 of .*load.{ending} holds words above numbers, 'kWh' .*; delete this line"
    with pytest.raises(ValueError, match=message):
        read_frame(path)
    write_cells([["unique_id", "ds", "y"], *values], path)
    assert read_table(path).lengths.tolist() == [19]


def with_units(first, **columns):
    """A table of 19 days with a word above each column of numbers."""
    days = [f"2024-01-{day:02}" for day in range(1, 20)]
    numbers = {name: [unit, *np.arange(1.5, 20)] for name, unit in columns.items()}
    return pd.DataFrame({"ds": [first, *days], **numbers})


@pytest.mark.parametrize(
    "frame",
    [
        with_units("", y="kWh"),
        with_units(None, y="kWh", temperature="°C"),
        with_units("[-]", **{f"column {k}": "m3" for k in range(20)}),
        with_units("", y="kWh").assign(unique_id=["", *["a"] * 19]),
        with_units("UTC", y="kWh").assign(unique_id=["id", *["a"] * 19], y=["kWh", *["1.5"] * 19]),
        with_units(None, y="kWh").set_index("ds"),
    ],
)
def test_a_row_of_units_is_told_with_the_call_that_drops_it(frame):
    with pytest.raises(ValueError, match="row 0 holds words above numbers, ") as refused:
        to_panel(frame)
    names = {"df": frame, "pd": pd}
    exec(str(refused.value).split("drop this row: ")[1], names)
    panel = to_panel(names["df"])
    assert set(panel.lengths) == {19}
    assert panel.values.min() == 1.5


def test_a_row_of_units_of_a_future_table_is_told_with_the_call_that_drops_it():
    table = with_units("", y="kWh", price="EUR").iloc[1:].infer_objects()
    table["price"] = range(19)
    days = ["", "2024-01-20", "2024-01-21"]
    future = pd.DataFrame({"ds": days, "price": ["EUR", "1.5", "2.5"]})
    schema = Schema(future_cols=["price"])
    with pytest.raises(ValueError, match="row 0 holds words above numbers, 'EUR'") as refused:
        forecast(table, 2, future=future, schema=schema)
    names = {"future": future, "pd": pd}
    exec(str(refused.value).split("drop this row: ")[1], names)
    assert len(forecast(table, 2, future=names["future"], schema=schema)) == 2


def test_a_word_in_the_first_row_of_values_is_no_unit():
    with pytest.raises(
        ValueError, match=r"holds 'closed' at 2023-12-31 .*but values must be numbers"
    ):
        to_panel(with_units("2023-12-31", y="closed"))


def test_words_among_values_are_no_names(folder):
    path = folder / "sales.csv"
    path.write_text("ds,y\n2024-01-01,closed\n2024-01-02,3\n2024-01-03,4\n")
    with pytest.raises(ValueError, match="column 'y' holds 'closed' at 2024-01-01 00:00:00, but"):
        read_table(path)
    path.write_text("ds,y,z\n2024-01-01,,\n2024-01-02,3,\n2024-01-03,4,\n")
    assert read_frame(path).shape == (3, 3)
    path.write_text("name,kind\na,b\nc,d\n")
    assert read_frame(path).shape == (2, 2)
    # Rows are series, one of which has no values.
    path.write_text("store,2024-01,2024-02\na,1,2\nb,,\nc,3,4\n")
    assert read_frame(path).shape == (3, 3)


def test_sheets_that_are_not_read_are_told(folder):
    with pd.ExcelWriter("t.xlsx") as book:
        long_frame().to_excel(book, sheet_name="sales", index=False)
        pd.DataFrame().to_excel(book, sheet_name="empty", index=False)
        long_frame().to_excel(book, sheet_name="older", index=False)
    message = r"t.xlsx: only the first sheet, 'sales', is read, and not \['older'\]; move the table"
    with pytest.warns(UserWarning, match=message):
        assert read_table("t.xlsx").ids.tolist() == ["a", "b"]


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_columns_without_names_are_no_title(folder, ending):
    rows = [["y", None], [1.5, None], [2.5, "note"], [3.5, 7.0], [4.5, None]]
    write_cells(rows, folder / f"t.{ending}")
    assert read_frame(f"t.{ending}")["y"].tolist() == [1.5, 2.5, 3.5, 4.5]


def test_a_spreadsheet_without_cells_is_refused(folder):
    pd.DataFrame().to_excel("t.xlsx", index=False)
    with pytest.raises(ValueError, match=r"t.xlsx is no readable Excel table .it is empty."):
        read_table("t.xlsx")


def test_integer_ids_of_a_spreadsheet_stay_integers(folder):
    long_frame().assign(unique_id=[1] * 12 + [2] * 12).to_excel("t.xlsx", index=False)
    assert read_table("t.xlsx").ids.tolist() == [1, 2]


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_static_columns_of_a_file_are_text_unless_they_hold_numbers(folder, ending):
    frame = long_frame().assign(
        land=["NA"] * 12 + ["EU"] * 12, shop=["1e3"] * 12 + ["0.1"] * 12, item_id=[0.1] * 24
    )
    write_frame(frame, folder / f"t.{ending}", index=False)
    panel = read_table(f"t.{ending}", Schema(static_cols=("land", "shop"), past_cols=("item_id",)))
    assert panel.covariates.static.tolist() == [["NA", 1000.0], ["EU", 0.1]]
    assert panel.covariates.values[:, 0].tolist() == [0.1] * 24, (
        "only ids and static columns are read as text"
    )
    frame.loc[0, "shop"] = ""
    write_frame(frame, folder / f"t.{ending}", index=False)
    with pytest.raises(
        ValueError, match="static column 'shop' holds nan in row 0, but needs a finite number"
    ):
        read_table(f"t.{ending}", Schema(static_cols=["shop"]))


@pytest.mark.parametrize(
    ("decimal", "areas"), [(",", [1.5, 2.25]), (".", [1.5, 2.25]), (",", ["big", "2,25"])]
)
def test_static_numbers_beside_semicolons_may_have_commas(folder, decimal, areas):
    frame = long_frame().assign(area=[areas[0]] * 12 + [areas[1]] * 12)
    frame.to_csv("t.csv", index=False, sep=";", decimal=decimal)
    assert (
        read_table("t.csv", Schema(static_cols=["area"])).covariates.static[:, 0].tolist() == areas
    )


def test_ids_of_future_rows_are_read_as_those_of_the_table(folder, run):
    frame = long_frame().replace({"a": "001", "b": "NA"}).assign(p=np.arange(24) % 2)
    frame.to_csv("t.csv", index=False)
    days = ["2024-01-13", "2024-01-14"]
    ahead = pd.DataFrame({"unique_id": ["001"] * 2 + ["NA"] * 2, "ds": [*days, *days], "p": 1})
    ahead.to_csv("f.csv", index=False)
    argv = ["--horizon", "2", "--model", "ridge", "--future-col", "p", "--future", "f.csv"]
    code, out, err = run("forecast", "t.csv", *argv)
    assert (code, [row.split(",")[0] for row in out.splitlines()]) == (
        0,
        ["unique_id", "001", "001", "NA", "NA"],
    ), err


def test_a_closed_standard_input_is_refused(folder, run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    expected = "tsattn: standard input is closed; name a file, or pipe a table in\n"
    assert run("forecast", "-", *ARGV) == (2, "", expected)


def test_a_pipe_that_has_a_name_is_read_once():
    pipe, end = os.pipe()
    os.write(end, long_frame().to_csv(index=False, sep=";").encode())
    os.close(end)
    assert read_frame(f"/dev/fd/{pipe}")["y"].tolist() == long_frame()["y"].tolist()
    os.close(pipe)


def test_marks_at_the_end_of_each_row_are_left_out(folder):
    long_frame().to_csv("t.csv", index=False)
    head, *rows = (folder / "t.csv").read_text().replace("a,", "01,").splitlines()
    for ends in (",", ",,"):
        (folder / "u.csv").write_text("\n".join([head, *(row + ends for row in rows)]))
        panel = read_table("u.csv")
        assert (panel.ids.tolist(), panel.values[:, 0].tolist()) == (
            ["01", "b"],
            long_frame()["y"].tolist(),
        )


@pytest.mark.filterwarnings("ignore:.*series apart")
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_ids_that_nobody_names_may_be_na(folder, ending):
    frame = long_frame().rename(columns={"unique_id": "store"}).replace({"a": "NA", "b": "EU"})
    write_frame(frame, folder / f"t.{ending}", index=False)
    assert read_table(f"t.{ending}").ids.tolist() == ["EU", "NA"]
    frame = frame.rename(columns={"y": "sales"})
    write_frame(frame, folder / f"t.{ending}", index=False)
    assert read_table(f"t.{ending}").ids.tolist() == ["EU", "NA"]
    frame.loc[3, "store"] = ""
    write_frame(frame, folder / f"t.{ending}", index=False)
    with pytest.raises(ValueError, match="column 'store' has no id in row 3, but"):
        read_table(f"t.{ending}")


@pytest.mark.parametrize("ids", [["EU", "NA"], ["001", "002"]])
def test_future_rows_of_ids_that_nobody_names_are_found(folder, run, ids):
    frame = long_frame().rename(columns={"unique_id": "store", "y": "sales"})
    frame = frame.replace(dict(zip("ab", ids, strict=True))).assign(p=np.arange(24) % 2 / 2)
    frame.to_csv("t.csv", index=False)
    days = ["2024-01-13", "2024-01-14"]
    ahead = pd.DataFrame({"store": np.repeat(ids, 2), "ds": [*days, *days], "p": 0.5})
    ahead.to_csv("f.csv", index=False)
    argv = ["--horizon", "2", "--model", "ridge", "--future", "f.csv"]
    code, out, err = run("forecast", "t.csv", *argv)
    assert code == 0, err
    assert [row.split(",")[0] for row in out.splitlines()] == ["store", *np.repeat(ids, 2)]


def test_gaps_of_other_columns_stay_where_an_id_is_na(folder):
    frame = long_frame().rename(columns={"unique_id": "store"}).replace({"a": "NA", "b": "EU"})
    frame["sky"] = ["NA", "clear"] * 12
    frame.to_csv("t.csv", index=False)
    table = read_frame("t.csv")
    assert set(table["store"]) == {"NA", "EU"}
    assert table["sky"].isna().sum() == 12


@pytest.mark.parametrize(
    ("row", "n"), [("2024-01-0{},5,7", 3), ("{0},7,{0},5", 4), ("7{},3,5", 3), ("{0},7,5", 3)]
)
def test_rows_with_more_cells_than_names_are_refused(folder, run, row, n):
    (folder / "t.csv").write_text("\n".join(["ds,y", *(row.format(i) for i in range(1, 9))]))
    expected = (
        f"(a line holds {n} cells, but the first line names 2 columns); name all, drop the rest, or"
        " delete a title above the names\n"
    )
    assert run("forecast", "t.csv", *ARGV) == (
        2,
        "",
        f"tsattn: t.csv is no readable CSV table {expected}",
    )


def test_categories_may_have_a_number_among_them_and_one_stray_word_makes_none(folder):
    prices = ["7", "9", "cheap", "8", "5", "6", "7", "8"]
    rows = [
        f"2024-01-{day:02},{day},{'0abc0000'[day % 8]},{prices[day % 8]}" for day in range(1, 17)
    ]
    (folder / "t.csv").write_text("\n".join(["ds,y,holiday,price", *rows]))
    panel = read_table("t.csv", Schema(id_col=None, future_cols=["holiday"]))
    assert panel.covariates.categories == (("0", "a", "b", "c"),)
    with pytest.raises(ValueError, match="column 'price' holds 'cheap' at 2024-01-02"):
        read_table("t.csv", Schema(id_col=None, future_cols=["price"]))


def test_row_names_of_r_are_left_out_with_a_word(folder):
    frame = long_frame().replace({"a": "01"})
    head, *rows = frame.to_csv(index=False).splitlines()
    (folder / "t.csv").write_text(
        "\n".join([head, *(f'"{i}",{row}' for i, row in enumerate(rows, 1))])
    )
    with pytest.warns(UserWarning, match="which no name stands above, numbers the rows"):
        panel = read_table("t.csv")
    assert (panel.ids.tolist(), panel.values[:, 0].tolist()) == (["01", "b"], frame["y"].tolist())


def test_what_is_the_matter_with_a_file_is_said_with_its_remedy(folder, run):
    (folder / "t.csv").write_text("# made in 2024; by hand\nds,y\n2024-01-01,1.5\n")
    expected = (
        "t.csv is no readable CSV table (its first line begins with # and is a remark, and its"
        " columns are named below it, 'ds' first); delete the lines above line 2\n"
    )
    assert run("forecast", "t.csv", *ARGV) == (2, "", f"tsattn: {expected}")
    (folder / "t.json").write_text('[{"ds": "2024-01-01", "y": 1.5}]')
    expected = "t.json: .json files are not read; save the table as Parquet or CSV\n"
    assert run("forecast", "t.json", *ARGV) == (2, "", f"tsattn: {expected}")
    with zipfile.ZipFile("t.zip", "w") as file:
        file.writestr("a.csv", "ds,y\n1,2\n")
        file.writestr("b.csv", "ds,y\n1,2\n")
    code, out, err = run("forecast", "t.zip", *ARGV)
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"tsattn: t.zip is no readable CSV table \(Multiple files .*\); leave one file in it\n", err
    )


@pytest.mark.parametrize(("mark", "decimal"), [(",", "."), (";", ","), ("\t", "."), ("|", ".")])
@pytest.mark.parametrize("names_end", ["", "trailing"])
def test_the_separator_in_the_first_line_is_read(folder, mark, decimal, names_end):
    """Excel names it there."""
    text = long_frame().to_csv(index=False, sep=mark, decimal=decimal)
    if names_end:
        # A separator at the end of each line makes a column without a name or a value.
        text = text.replace("\n", f"{mark}\n")
    (folder / "t.csv").write_text(f"sep={mark}\n{text}")
    assert_frame_equal(read_frame("t.csv"), read_csv_of(long_frame()))


def test_commas_are_decimal_points_where_a_first_line_names_semicolons(folder):
    (folder / "t.csv").write_text("sep=;\nds;y\n2024-01-01;1,125\n2024-01-02;2,250\n")
    assert read_frame("t.csv")["y"].tolist() == [1.125, 2.25]


def read_csv_of(frame):
    """What reading its CSV gives."""
    return pd.read_csv(io.StringIO(frame.to_csv(index=False)))


@pytest.mark.parametrize(
    "margins", [{"startrow": 3}, {"startcol": 2}, {"startrow": 1, "startcol": 1}]
)
def test_a_table_in_the_middle_of_a_sheet_is_read(folder, margins):
    long_frame().to_excel("t.xlsx", index=False, **margins)
    frame = read_frame("t.xlsx")
    assert_frame_equal(frame, long_frame(), check_dtype=False)
    assert read_table("t.xlsx").ids.tolist() == ["a", "b"]


def test_a_column_without_values_is_kept_where_it_has_a_name(folder):
    long_frame().assign(note=np.nan).to_csv("t.csv", index=False)
    assert [*read_frame("t.csv")] == ["unique_id", "ds", "y", "note"]


DAMAGED = {
    "t.parquet": b"no such thing",
    "t.feather": b"no such thing",
    "t.xlsx": b"no such thing",
    "t.csv.gz": b"no such thing",
    "u.csv.gz": gzip.compress(b"a,b\n1,2\n" * 99)[:-12],
    "t.csv.xz": b"no such thing",
    "t.csv.zip": b"no such thing",
    "u.parquet": b"PAR1 cut PAR1",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused(folder, run, name):
    (folder / name).write_bytes(DAMAGED[name])
    code, out, err = run("forecast", name, *ARGV)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"tsattn: {name} is no readable ")


def test_damaged_rows_of_a_parquet_file_are_refused(folder, run):
    long_frame().to_parquet("t.parquet", index=False)
    content = bytearray((folder / "t.parquet").read_bytes())
    content[4:40] = b"x" * 36
    (folder / "t.parquet").write_bytes(content)
    code, out, err = run("forecast", "t.parquet", *ARGV)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tsattn: t.parquet is no readable Parquet table (")
    assert err.endswith("; write it again, or as CSV\n")


def test_kinds_that_are_not_read_are_refused_before_any_work(folder, run, monkeypatch):
    long_frame().to_csv("t.csv", index=False)
    code, out, err = run("forecast", "t.csv", *ARGV, "--out", "f.xls")
    assert (code, out, list(folder.iterdir())) == (2, "", [folder / "t.csv"])
    assert (
        err == "tsattn: f.xls: .xls files are neither read nor written; save the table as .xlsx or"
        " CSV\n"
    )
    assert "there is no file none.parquet" in run("forecast", "none.parquet", *ARGV)[2]
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    assert kind_of("t.csv.gz") == "CSV"
    for name, package in {
        "t.parquet": "pyarrow",
        "t.feather": "pyarrow",
        "t.xlsx": "openpyxl",
    }.items():
        expected = f"need {package}; install it with: pip install 'tsattn[files]'\n"
        assert run("forecast", name, *ARGV)[2].endswith(expected)
        assert run("forecast", "t.csv", *ARGV, "--out", name)[2].endswith(expected)


def test_no_table_takes_the_place_of_one_that_is_read(folder, run):
    long_frame().assign(p=1.0).to_csv("t.csv", index=False)
    before = (folder / "t.csv").read_bytes()
    os.link("t.csv", "u.png")
    (folder / "w.csv").symlink_to("t.csv")
    known = ["--horizon", "2", "--model", "ridge", "--future-col", "p"]
    for argv in (
        ["forecast", "t.csv", *ARGV, "--out", "t.csv"],
        ["forecast", "t.csv", *ARGV, "--out", "w.csv"],
        ["forecast", "t.csv", *ARGV, "--plot", "u.png"],
        ["forecast", "none.csv", *known, "--future", "t.csv", "--out", "t.csv"],
        ["backtest", "t.csv", *ARGV, "--out", "t.csv"],
    ):
        expected = f"tsattn: {argv[-1]} is the table that is read; name another file to write to\n"
        assert run(*argv) == (2, "", expected)
    assert (folder / "t.csv").read_bytes() == before


def test_endings_that_are_not_written_are_refused_before_any_work(folder, run, monkeypatch):
    known = ".csv, .tsv, .gz, .bz2, .xz, .zst, .zip, .parquet, .pq, .feather, .xlsx, .xlsm"
    for argv in (["forecast", "none.csv", *ARGV], ["backtest", "none.csv", *ARGV]):
        expected = f"tsattn: f.json names no kind of table; end it in one of {known}\n"
        assert run(*argv, "--out", "f.json") == (2, "", expected)
        with monkeypatch.context() as without:
            without.setattr(files, "find_spec", lambda name: None)
            expected = (
                "tsattn: f.csv.zst: .zst files need zstandard; install it with: pip install"
                " zstandard\n"
            )
            assert run(*argv, "--out", "f.csv.zst") == (2, "", expected)
    long_frame().to_csv("t.csv", index=False)
    assert run("forecast", "t.csv", *ARGV, "--out", "f") == (0, "", "")
    assert (folder / "f").read_text().startswith("unique_id,ds,naive\n")


# --- first lines of numbers, NUL, and packed files -------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "xlsx"])
def test_a_first_line_of_numbers_is_read_as_values(folder, ending):
    frame = pd.DataFrame([[1.5, 7.0], [2.0, 8.0], [3.0, 9.0]])
    packed = folder / f"t.{ending}"
    for columns, names in (([0], ["y"]), ([0, 1], ["y1", "y2"])):
        if ending == "xlsx":
            frame[columns].to_excel(packed, index=False, header=False)
        else:
            frame[columns].to_csv(packed, index=False, header=False)
        with pytest.warns(UserWarning, match=r"first line of .* holds numbers.* values of y"):
            panel = read_table(packed)
        assert panel.ids.tolist() == names
        assert panel.values[:, 0].tolist() == frame[columns].T.to_numpy().ravel().tolist()


@pytest.mark.parametrize("text", ["0,1\n5,6\n7,8\n", "7;1,5\n8;2,5\n9;3,5\n"])
def test_names_that_pandas_writes_stay_names_and_decimal_commas_are_numbers(folder, text):
    (folder / "t.csv").write_text(text)
    if text[0] == "0":
        assert read_table("t.csv").ids.tolist() == ["0", "1"]
        return
    with pytest.warns(UserWarning, match="first line"):
        assert read_table("t.csv").values[:, 0].tolist() == [7, 8, 9, 1.5, 2.5, 3.5]


def test_years_as_names_are_still_refused(folder):
    (folder / "t.csv").write_text("2000,2001,2002\n1,2,3\n4,5,6\n")
    with pytest.raises(ValueError, match="named by times"):
        read_table("t.csv")


def test_a_first_line_of_a_month_and_a_value_is_refused(folder):
    (folder / "t.csv").write_text("1960-11,5\n1960-12,6\n")
    with pytest.raises(ValueError, match=r"its first line holds '1960-11', not the names"):
        read_table("t.csv")


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "xlsx"])
def test_names_that_occur_twice_are_refused(folder, ending):
    frame = pd.DataFrame([["2024-01-01", 1, 5], ["2024-01-02", 2, 6]], columns=["ds", "y", "y"])
    if ending == "xlsx":
        frame.to_excel(folder / "t.xlsx", index=False)
    else:
        frame.to_csv(folder / f"t.{ending}", index=False)
    with pytest.raises(ValueError, match=r"names 'y' twice.*; rename or delete one of them$"):
        read_table(f"t.{ending}")


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_nul_characters_are_refused_before_they_cut_a_cell(folder, ending):
    content = b"unique_id,ds,y\na\0b,2024-01-01,1\na\0c,2024-01-01,2\n"
    (folder / f"t.{ending}").write_bytes(gzip.compress(content) if ending[-1] == "z" else content)
    with pytest.raises(ValueError, match=r"byte 16 is NUL, which would cut a cell"):
        read_table(f"t.{ending}")


@pytest.mark.parametrize("ending", ["csv.gz", "csv.bz2", "csv.xz", "csv.zip", "xlsx"])
def test_packed_files_are_read_up_to_a_size(folder, run, ending):
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=3000), "y": np.arange(3000.0)})
    path = folder / f"t.{ending}"
    write_frame(frame, path, index=False)
    began = path.stat().st_size
    assert began < 50_000 or ending == "xlsx"
    with pytest.raises(ValueError, match=r"unpacks to more than 20,000 bytes.*max_size='4GB'"):
        read_frame(path, max_size="20kB")
    assert len(read_frame(path, max_size="1MB")) == 3000
    code, out, err = run("forecast", path, *ARGV, "--max-size", "20kB")
    assert (code, out) == (2, "")
    assert "allow more by --max-size 4GB" in err
    with pytest.raises(ValueError, match="max_size must be bytes or a text such as"):
        read_frame(path, max_size="many")


@pytest.mark.parametrize("name", ["t", "t.csv", "Zürich.csv"])
def test_packed_files_unpack_to_tables(folder, name):
    frame = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=3), "y": np.arange(3.0)})
    unpacked_name = name if name.endswith(".csv") else f"{name}.csv"
    write_frame(frame, folder / f"{name}.zip", index=False)
    with zipfile.ZipFile(folder / f"{name}.zip") as file:
        assert file.namelist() == [unpacked_name]
    write_frame(frame, folder / f"{name}.gz", index=False)
    # The name stands behind ten bytes.
    stored_name, _, _ = (folder / f"{name}.gz").read_bytes()[10:].partition(b"\0")
    assert stored_name.decode("latin-1") == unpacked_name
    assert len(read_frame(folder / f"{name}.gz")) == 3


def test_a_file_of_zeros_without_end_is_not_unpacked(folder, monkeypatch):
    monkeypatch.setitem(files._MOST_UNPACKED, "CSV", 10**6)
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"y\n" + b"1\n" * 10**7))
    monkeypatch.setattr(pd, "read_csv", lambda *_, **__: pytest.fail("it was parsed"))
    with pytest.raises(ValueError, match="unpacks to more than 1,000,000 bytes"):
        read_table("t.csv.gz")


# --- encodings ------------------------------------------------------------------------------------


def shop_file(encoding, path, shops=("Köln", "Zürich"), mark=";", days=range(1, 29)):
    """A file as a German Excel writes it."""
    rows = ["Filiale;Datum;Umsatz"]
    for shop in shops:
        rows += [f"{shop};{day:02}.03.2024;1.{100 + day},5" for day in days]
    text = "\n".join(rows).replace(";", mark)
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "-"])
def test_files_of_windows_are_read_and_told(folder, run, monkeypatch, name):
    path = folder / ("t.csv" if name == "-" else name)
    shop_file("cp1252", path)
    if name == "-":
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(path.read_bytes())))
    code, out, err = run("forecast", name, *ARGV)
    assert code == 0
    lines = out.splitlines()
    assert lines[1] == "Köln,29.03.2024,1128.5"
    assert lines[3] == "Zürich,29.03.2024,1128.5"
    assert err == (
        f"tsattn: warning: {name} is not UTF-8 and is read as cp1252, as in 'Köln'; if such words"
        " are wrong, name the encoding, as by --encoding cp1250\n"
    )


def test_an_encoding_may_be_named(folder, run):
    shop_file("cp1250", folder / "t.csv", shops=("Łódź",))
    code, out, err = run("forecast", "t.csv", *ARGV, "--encoding", "cp1250")
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "Łódź,29.03.2024,1128.5"
    with pytest.warns(InputWarning, match=r"as in '£ódŸ'.* by encoding='cp1250'"):
        read_frame("t.csv")
    assert read_table("t.csv", encoding="cp1250").ids.tolist() == ["Łódź"]
    shop_file("utf-16-le", folder / "t.csv")
    assert read_table("t.csv", encoding="UTF-16LE").ids.tolist() == ["Köln", "Zürich"]
    with pytest.raises(ValueError, match=r"encoding must be one of Python's.*; got 'german'"):
        read_frame("t.csv", encoding="german")
    long_frame().to_parquet("t.parquet")
    with pytest.raises(ValueError, match=r"encoding is for CSV files, and t.parquet is none"):
        read_frame("t.parquet", encoding="cp1252")
    code, out, err = run("benchmark", "--dataset", "ETTh1", "--encoding", "cp1252")
    assert (code, out) == (2, "")
    assert "--encoding is not for a benchmark" in err


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_is_read_without_a_word(folder, encoding, mark):
    shop_file(encoding, folder / "t.csv", mark=mark)
    panel = read_table("t.csv")
    assert panel.ids.tolist() == ["Köln", "Zürich"]
    # Letters of two bytes may be parted by the end of a chunk.
    shop_file(encoding, folder / "t.csv", shops=["ö" * 2**20], days=(26, 27, 28))
    assert read_table("t.csv").ids.tolist() == ["ö" * 2**20]


@pytest.mark.parametrize("first", ["001", "Köln"])
def test_numbers_with_thousands_are_the_values_that_are_found(folder, first):
    shop_file("utf-8", folder / "t.csv", shops=(first, "002"))
    panel = read_table("t.csv")
    assert panel.ids.tolist() == sorted([first, "002"])
    assert panel.values[:2, 0].tolist() == [1101.5, 1102.5]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_columns_without_name_and_cells_are_no_series(folder, ending):
    rows = [["2024-01-" + f"{day:02}", day + 0.5, None] for day in range(1, 20)]
    path = folder / f"t.{ending}"
    write_cells([["date", "sales", None], *rows], path)
    assert read_frame(path).columns.tolist() == ["date", "sales"]
    # A column with cells stays, and so does one with a name.
    rows[0][2] = 1.5
    write_cells([["date", "sales", None], *rows], path)
    assert read_frame(path).shape == (19, 3)
    rows[0][2] = None
    write_cells([["date", "sales", "costs"], *rows], path)
    assert read_frame(path).shape == (19, 3)


def test_tabs_part_cells_also_where_commas_stand_in_the_first_name(folder):
    years = range(1990, 2020)
    path = folder / "t.tsv"
    names = "freq,unit,geo\\TIME_PERIOD\t" + "\t".join(f"{year} " for year in years)
    rows = [f"A,PC,{geo}\t" + "\t".join(f"{year - 1990}.5 " for year in years) for geo in "xy"]
    path.write_text("\n".join([names, *rows]))
    frame = read_frame(path)
    with pytest.raises(ValueError, match="'1990 ' to '2019 ' are named by times") as caught:
        to_panel(frame)
    call = re.search(r", as (df\S+) does", str(caught.value))[1]
    panel = to_panel(eval(call, {"df": frame}))
    assert panel.ids.tolist() == ["A,PC,x", "A,PC,y"]
    assert panel.values[:3, 0].tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("between", [" ", "   "])
def test_cells_that_spaces_part_are_read(tmp_path, between):
    days = pd.date_range("2024-01-01", periods=9)
    lines = [f"{day:%F}{between}{shop}{between}{day.day:>4}" for shop in "ab" for day in days]
    (tmp_path / "t.txt").write_text("\n".join([between.join(["ds", "unique_id", "y"]), *lines]))
    panel = read_table(tmp_path / "t.txt")
    assert panel.ids.tolist() == ["a", "b"]
    assert panel.values[:, 0].tolist() == [*range(1, 10)] * 2


def test_spaces_between_thousands_or_before_units_part_no_cells(tmp_path):
    lines = "\n".join(f"{thousand} 250" for thousand in range(1, 10))
    (tmp_path / "t.csv").write_text(f"units sold\n{lines}\n")
    panel = read_table(tmp_path / "t.csv")
    assert panel.ids.tolist() == ["units sold"]
    assert panel.values[:3, 0].tolist() == [1250.0, 2250.0, 3250.0]
    (tmp_path / "t.csv").write_text("units sold\n12 kg\n14 kg\n")
    with pytest.raises(ValueError, match="column 'units sold' holds '12 kg'"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("above", [0, 2])
@pytest.mark.parametrize("parts", [[1, 2, 3], ["Jan", "Feb", "Mär"], ["Q1", "Q2", "Q3", "Q4"]])
def test_sheets_of_merged_years_above_their_parts_are_turned(tmp_path, parts, above):
    blank = [None] * (len(parts) - 1)
    lines = [
        *[[None] * (1 + 2 * len(parts))] * above,
        ["Region", 2022, *blank, 2023, *blank],
        [None, *parts, *parts],
        ["Nord", *range(2 * len(parts))],
        ["Süd", *range(10, 10 + 2 * len(parts))],
    ]
    path = tmp_path / "t.xlsx"
    pd.DataFrame(lines).to_excel(path, header=False, index=False)
    with pytest.raises(ValueError, match=r"'2022' above .* a row must be a time") as caught:
        read_table(path)
    names = {"pd": pd}
    exec(str(caught.value).split("turn the table: ")[1], names)
    panel = to_panel(names["df"], Schema(missing="mask"))
    assert panel.ids.tolist() == ["Nord", "Süd"]
    assert panel.times[0] == pd.Timestamp("2022-01-01")
    values = panel.values[: panel.lengths[0], 0]
    assert values[~np.isnan(values)].tolist() == [*range(2 * len(parts))]
    # Frames that pandas makes of the sheet by other calls are turned too.
    for options in ({}, {"index_col": 0}, {"header": None}, {"header": [0, 1]}):
        names = {"pd": pd, "path": path, "df": pd.read_excel(path, skiprows=above, **options)}
        with pytest.raises(ValueError, match=r"turn the table: df = .*\.T; df.index") as told:
            to_panel(names["df"])
        call = (
            str(told.value)
            .split("turn the table: ")[1]
            .replace("(path", f"(path, skiprows={above}")
        )
        exec(call, names)
        assert to_panel(names["df"], Schema(missing="mask")).ids.tolist() == ["Nord", "Süd"]


def test_names_below_merged_ones_are_joined_to_these(tmp_path):
    path = tmp_path / "FILE.xlsx"
    rows = [[day, 1.0, 2.0] for day in pd.date_range("2024-01-01", periods=12)]
    pd.DataFrame([["Date", "North", None], [None, "A", "B"], *rows]).to_excel(
        path, header=False, index=False
    )
    with pytest.raises(
        ValueError, match="'A' in column 'North', and some columns have no name"
    ) as told:
        to_panel(pd.read_excel(path))
    names = {"pd": pd}
    exec(str(told.value).split("of both lines: ")[1].replace("'FILE.xlsx'", repr(str(path))), names)
    assert to_panel(names["df"]).ids.tolist() == ["North A", "North B"]


@pytest.mark.parametrize("name", ["f.tsv", "F.TSV", "f.tsv.gz"])
def test_a_forecast_is_written_with_tabs(folder, run, name):
    days = pd.date_range("2024-01-01", periods=30)
    frame = pd.DataFrame({"unique_id": "a,b", "ds": days, "y": np.arange(30) % 7 + 0.5})
    frame.to_csv("a.tsv", sep="\t", index=False)
    argv = ["forecast", "a.tsv", "--horizon", "3", "--model", "naive", "--out", name]
    assert run(*argv)[0] == 0
    written = pd.read_csv(name, sep="\t", compression="infer")
    assert written.columns.tolist() == ["unique_id", "ds", "naive"]
    assert written["naive"].tolist() == [frame["y"].iloc[-1]] * 3
