"""Long Parquet files in batches: the same forecasts as of the whole table, and no batch twice."""

import copy
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from small_forecasters import linear
from tables import long_table, series_table, wide_table
from tiny_network import CARD, tiny_network

from tsattn import batches
from tsattn.batches import forecast_file
from tsattn.catalogue import make_forecaster
from tsattn.data import parquet
from tsattn.data.schema import Schema
from tsattn.forecasters.naive import Naive, SeasonalNaive
from tsattn.forecasters.pretrained import PretrainedForecaster
from tsattn.pretrained.weights import save_network

N_SERIES = 11
HORIZON = 3


def table(n_series=N_SERIES, n_rows=40):
    """Daily series in the order of their names."""
    values = np.random.default_rng(0).normal(size=(n_series, n_rows)).cumsum(axis=1)
    return long_table(values, [f"s{n:02}" for n in range(n_series)])


def without_some(df):
    """The table without values in the last series, which is a batch of its own, and the fourth, and
    with two rows only in the sixth.
    """
    df = df.copy()
    df.loc[df["unique_id"].isin(["s03", "s10"]), "y"] = np.nan
    return df[(df["unique_id"] != "s05") | (df["ds"] > "2024-02-07")]


def zero(**settings):
    return PretrainedForecaster(HORIZON, weights=tiny_network(), **settings)


def least_squares():
    return linear(HORIZON, "rlinear", closed_form=True)


class Mixing(Naive):
    """A forecaster whose series look at one another."""

    looks_across = True


def by_name(frame):
    return frame.sort_values([*frame.columns[:2]], ignore_index=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the table by series and by date."""
    monkeypatch.chdir(tmp_path)
    df = table()
    df.to_parquet("series.parquet", index=False, row_group_size=70)
    df.sort_values(["ds", "unique_id"]).to_parquet("dates.parquet", index=False, row_group_size=70)
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- the same as of the whole table ---------------------------------------------------------------

MODELS = {
    "naive": lambda: Naive(HORIZON),
    "zero": zero,
    "linear": lambda: least_squares().fit(table()),
}


@pytest.mark.parametrize("source", ["series.parquet", "dates.parquet"])
@pytest.mark.parametrize("name", MODELS)
def test_batches_add_up_to_the_forecast_of_the_table(folder, name, source):
    model = MODELS[name]()
    df = table()
    fitted = model if model.state_ is not None else MODELS[name]().fit(df)
    request = {} if name == "naive" else {"level": [80]}
    run = forecast_file(model, source, "out.parquet", batch_series=4, **request)
    expected = fitted.predict(df, **request)
    out = pd.read_parquet("out.parquet")
    pd.testing.assert_frame_equal(by_name(out), expected, rtol=1e-5)
    if source == "series.parquet":
        assert out["unique_id"].is_monotonic_increasing, "in the order of the file"
        assert run.n_batches == 3
    assert (run.n_series, run.n_rows, run.n_resumed, run.n_skipped) == (N_SERIES, 33, 0, 0)
    assert run.freq == "D"
    assert names(folder) == ["dates.parquet", "out.parquet", "series.parquet"]


@pytest.mark.parametrize("order", [["unique_id", "ds"], ["ds", "unique_id"]])
@pytest.mark.parametrize("name", ["zero", "seasonal_naive"])
def test_series_that_cannot_be_forecast_are_nan(folder, name, order):
    """One beside others in its batch, and one that is a batch of its own."""
    df = without_some(table()).sort_values(order)
    df.to_parquet("some.parquet", index=False)
    model = zero() if name == "zero" else SeasonalNaive(HORIZON, season_length=7)
    with pytest.warns(UserWarning, match="left out"):
        expected = by_name(model.with_state(None).fit(df).predict())
    n_skipped = 2 if name == "zero" else 3
    assert expected[model.alias_].isna().sum() == n_skipped * HORIZON
    with pytest.warns(UserWarning, match="left out: series") as caught:
        run = forecast_file(model, "some.parquet", "out.parquet", batch_series=2)
    (warning,) = caught
    assert "'s10' has no value" in str(warning.message)
    assert run.n_skipped == n_skipped
    pd.testing.assert_frame_equal(by_name(pd.read_parquet("out.parquet")), expected, rtol=1e-5)


def test_a_table_with_a_faulty_series_is_refused_where_none_may_be_left_out(folder):
    without_some(table()).to_parquet("some.parquet", index=False)
    model = zero(schema=Schema(bad="error"))
    with pytest.raises(ValueError, match="'s03'"):
        forecast_file(model, "some.parquet", "out.parquet", batch_series=2)


@pytest.mark.parametrize("batch_rows", [1, 100])
def test_a_batch_has_few_rows(folder, monkeypatch, batch_rows):
    monkeypatch.setattr(parquet, "_BATCH_ROWS", batch_rows)
    run = forecast_file(Naive(HORIZON), "series.parquet", "out.parquet")
    assert run.n_batches == (N_SERIES if batch_rows == 1 else 6)
    assert run.n_rows == N_SERIES * HORIZON


@pytest.mark.parametrize("chunk_rows", [7, 40])
def test_series_may_begin_anywhere_in_what_is_read_at_a_time(folder, monkeypatch, chunk_rows):
    monkeypatch.setattr(parquet, "_CHUNK_ROWS", chunk_rows)
    for source in ("series.parquet", "dates.parquet"):
        run = forecast_file(Naive(HORIZON), source, "out.parquet", batch_series=4)
        expected = Naive(HORIZON).fit(table()).predict()
        pd.testing.assert_frame_equal(by_name(pd.read_parquet("out.parquet")), expected)
        assert run.n_series == N_SERIES


def test_ids_keep_their_type(folder):
    df = table()
    codes = df["unique_id"].str[1:].astype(np.int32)
    ids = {
        "int32": codes,
        "category": df["unique_id"].astype("category"),
        "date": pd.Timestamp("2000-01-01") + pd.to_timedelta(codes, "D"),
    }
    for kind, column in ids.items():
        df.assign(unique_id=column).to_parquet("ids.parquet", index=False)
        forecast_file(Naive(HORIZON), "ids.parquet", "out.parquet", batch_series=4)
        source, out = (
            pq.read_schema(name).field("unique_id").type for name in ("ids.parquet", "out.parquet")
        )
        assert out == (pa.string() if kind == "category" else source)
        assert len(pd.read_parquet("out.parquet")) == N_SERIES * HORIZON


def test_periods_stay_periods(folder):
    """Files keep them as numbers with a name."""
    frame = table().assign(ds=lambda frame: frame["ds"].dt.to_period("D"))
    frame.to_parquet("t.parquet", index=False)
    forecast_file(Naive(HORIZON), "t.parquet", "out.parquet", batch_series=4)
    whole_forecast = Naive(HORIZON).fit(frame).predict()
    pd.testing.assert_frame_equal(pd.read_parquet("out.parquet"), whole_forecast, check_dtype=False)
    assert pd.read_parquet("out.parquet")["ds"].dtype == "period[D]"


def test_several_columns_may_name_the_series(folder):
    df = table().assign(
        shop=lambda df: df["unique_id"].str[:2], item=lambda df: df["unique_id"].str[2:]
    )
    df = df.drop(columns="unique_id").rename(columns={"ds": "day", "y": "sales"})
    schema = Schema(id_col=["shop", "item"], time_col="day", target_col="sales")
    for order in (["shop", "item", "day"], ["day", "item"]):
        df.sort_values(order).to_parquet("shops.parquet", index=False)
        forecast_file(Naive(HORIZON, schema=schema), "shops.parquet", "out.parquet", batch_series=4)
        expected = by_name(Naive(HORIZON, schema=schema).fit(df).predict())
        out = pd.read_parquet("out.parquet").sort_values(["shop", "item", "day"], ignore_index=True)
        pd.testing.assert_frame_equal(
            out, expected.sort_values(["shop", "item", "day"], ignore_index=True)
        )


# --- decided once ---------------------------------------------------------------------------------


def test_the_frequency_of_the_first_batch_holds_for_all(folder):
    hours = series_table(np.arange(40.0), "t", freq="h")
    pd.concat([table(), hours]).to_parquet("mixed.parquet", index=False)
    with pytest.raises(ValueError, match=r"series 't'.*'D'"):
        forecast_file(Naive(HORIZON), "mixed.parquet", "out.parquet", batch_series=4)
    assert not Path("out.parquet").exists()


def test_closed_days_of_the_first_batch_hold_for_all(folder):
    """A batch of one short series would not show them."""
    df = table(n_rows=70)
    df = df[df["ds"].dt.dayofweek < 6]
    short = df[df["unique_id"] == "s00"].tail(9).assign(unique_id="t")
    df = pd.concat([df, short])
    df.to_parquet("closed.parquet", index=False)
    with pytest.warns(UserWarning, match="read as closed") as caught:
        run = forecast_file(
            SeasonalNaive(HORIZON, season_length=6), "closed.parquet", "out.parquet", batch_series=4
        )
    assert len(caught) == 1
    out = pd.read_parquet("out.parquet")
    assert (out["ds"].dt.dayofweek < 6).all()
    assert run.freq != "D"


def test_what_batches_warn_of_alike_is_told_once(folder):
    df = table(n_rows=800)
    ended = df["unique_id"].isin(["s01", "s05"]) & (df["ds"] > "2024-02-01")
    df[~ended].to_parquet("ended.parquet", index=False)
    with pytest.warns(UserWarning, match="days before the last stamp") as caught:
        forecast_file(Naive(HORIZON), "ended.parquet", "out.parquet", batch_series=4)
    (warning,) = caught
    assert str(warning.message).startswith("series 's01' ends at 2024-02-01 00:00:00, 768 days")
    assert str(warning.message).endswith("(such in 2 of 3 batches)")


# --- a run that is killed -------------------------------------------------------------------------


class Killed(BaseException):
    """What ends a run in the middle."""


def stop_after(monkeypatch, n_batches):
    """Let the run end after so many batches, and count them."""
    made = []
    forecast_batch = batches._forecast_batch

    def counted(work, batch):
        if len(made) == n_batches:
            raise Killed
        made.append(batch.number)
        forecast_batch(work, batch)

    monkeypatch.setattr(batches, "_forecast_batch", counted)
    return made


@pytest.mark.parametrize("source", ["series.parquet", "dates.parquet"])
def test_a_killed_run_goes_on(folder, monkeypatch, source):
    call = (zero(), source)
    whole_forecast = forecast_file(*call, "whole.parquet", batch_series=2, level=80)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            forecast_file(*call, "out.parquet", batch_series=2, level=80)
    assert not Path("out.parquet").exists()
    made = stop_after(monkeypatch, None)
    run = forecast_file(*call, "out.parquet", batch_series=2, level=80)
    assert run.n_resumed == 2
    assert made == [*range(2, whole_forecast.n_batches)]
    assert Path("out.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"level": 90},
            r"\.out\.parquet\.batches holds 2 batches of .* other options \(level\); repeat",
        ),
        ({"batch_series": 3}, r"other options \(batch_series\)"),
        ({"forecaster": Naive(HORIZON)}, "another model"),
        ({"source": "dates.parquet"}, "another table"),
    ],
)
def test_another_run_does_not_go_on(folder, monkeypatch, change, message):
    options = {
        "forecaster": zero(),
        "source": "series.parquet",
        "out": "out.parquet",
        "batch_series": 2,
    }
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            forecast_file(**options)
    with pytest.raises(ValueError, match=message):
        forecast_file(**options | change)
    # The advice of the message.
    for path in (folder / ".out.parquet.batches").iterdir():
        path.unlink()
    assert forecast_file(**options | change).n_resumed == 0


@pytest.mark.parametrize("source", ["series", "dates"])
def test_a_table_may_be_mended_after_a_run_that_failed(folder, source):
    call = (Naive(HORIZON), f"{source}.parquet", "out.parquet")
    mended = pd.read_parquet(f"{source}.parquet")
    forecast_file(*call, batch_series=2)
    last_series = pd.read_parquet("out.parquet")["unique_id"].iloc[-1]
    faulty = mended.copy()
    faulty.loc[faulty["unique_id"] == last_series, "y"] = np.inf
    faulty.to_parquet(f"{source}.parquet", index=False)
    with pytest.raises(ValueError, match="column 'y' holds inf"):
        forecast_file(*call, batch_series=2)
    parts = list(Path(".out.parquet.batches").glob("0*.parquet"))
    mended.to_parquet(f"{source}.parquet", index=False)
    with pytest.warns(UserWarning, match=f"the {len(parts)} batches of that run are forecast"):
        run = forecast_file(*call, batch_series=2)
    assert run.n_resumed == 0
    forecast = by_name(pd.read_parquet("out.parquet"))
    pd.testing.assert_frame_equal(forecast, by_name(Naive(HORIZON).fit(mended).predict()))


@pytest.mark.parametrize("content", [b"", b"PAR1", None])
def test_a_part_or_plan_that_lost_its_end_is_made_again(folder, monkeypatch, content):
    call = (zero(), "series.parquet", "out.parquet")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            forecast_file(*call, batch_series=2)
    if content is None:
        Path(".out.parquet.batches/plan.json").write_bytes(b"{")
    else:
        Path(".out.parquet.batches/000001.parquet").write_bytes(content)
    run = forecast_file(*call, batch_series=2)
    assert run.n_resumed == (0 if content is None else 1)
    assert run.n_rows == N_SERIES * HORIZON


def test_a_run_without_a_batch_leaves_nothing(folder, monkeypatch):
    stop_after(monkeypatch, 0)
    with pytest.raises(Killed):
        forecast_file(zero(), "dates.parquet", "out.parquet", batch_series=2)
    assert names(folder) == ["dates.parquet", "series.parquet"]


def test_a_fitted_model_is_told_from_another_of_the_same_settings(folder, monkeypatch):
    first, second = (least_squares().fit(table(n)) for n in (4, 5))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Killed):
            forecast_file(first, "series.parquet", "out.parquet", batch_series=2)
    with pytest.raises(ValueError, match="another model"):
        forecast_file(second, "series.parquet", "out.parquet", batch_series=2)
    assert forecast_file(first, "series.parquet", "out.parquet", batch_series=2).n_resumed == 2


def test_two_runs_do_not_share_a_file(folder):
    Path(".out.parquet.batches").mkdir()
    with (
        FileLock(".out.parquet.batches/lock"),
        pytest.raises(ValueError, match=r"another run is writing to .*; wait for its end"),
    ):
        forecast_file(Naive(HORIZON), "series.parquet", "out.parquet")


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forecaster", "message"),
    [
        (lambda: linear(), "nlinear would learn from all series of a table, .* fit it on a part"),
        (lambda: make_forecaster("auto", 3), "auto would learn"),
        (lambda: zero(fine_tune=True), "zero would learn"),
        (lambda: zero(schema=Schema(calendar=["weekday"])), "zero would learn"),
        (lambda: zero(schema=Schema(future_cols=["promo"])), "reads the future column 'promo'"),
        (
            lambda: Mixing(HORIZON).fit(table()),
            "look at one another, so they cannot be forecast in batches",
        ),
    ],
)
def test_a_forecaster_that_needs_the_whole_table_is_refused(folder, forecaster, message):
    with pytest.raises(ValueError, match=message):
        forecast_file(forecaster(), "series.parquet", "out.parquet")
    assert names(folder) == ["dates.parquet", "series.parquet"]


TABLES = {
    "wide": (lambda: wide_table(np.ones((9, 2)), ["a", "b"]).reset_index(names="ds"), "is no long"),
    "one series": (lambda: table(1).drop(columns="unique_id"), "is no long"),
    "no rows": (lambda: table().iloc[:0], "has no rows"),
    "no id": (lambda: table().replace({"unique_id": {"s05": None}}), "no id in row 200,"),
    "all bad": (lambda: table().assign(y=np.nan), r"no series has a value: series '\w+'; give"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_faulty_table_is_refused(folder, name):
    make, message = TABLES[name]
    make().to_parquet("bad.parquet", index=False)
    with pytest.raises(ValueError, match=message):
        forecast_file(Naive(HORIZON), "bad.parquet", "out.parquet", batch_series=20)
    assert "out.parquet" not in names(folder)
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("order", [["unique_id", "ds"], ["ds", "unique_id"]])
def test_rows_of_errors_are_those_of_a_file(folder, order):
    df = table().sort_values(order, ignore_index=True)
    row = df.index[(df["unique_id"] == "s09") & (df["ds"] == "2024-01-11")][0]
    df.loc[row, "ds"] = pd.NaT
    df.to_parquet("bad.parquet", index=False)
    with pytest.raises(ValueError, match="has no stamp in row") as caught:
        forecast_file(Naive(HORIZON), "bad.parquet", "out.parquet", batch_series=2)
    place, first, path = re.search(
        r"in row (\d+).*\(row 0 is row (\d+) of (.*)\)$", str(caught.value)
    ).groups()
    faulty = pd.read_parquet(path).iloc[int(place) + int(first)]
    assert faulty["unique_id"] == "s09"
    assert pd.isna(faulty["ds"])


@pytest.mark.parametrize("column", ["unique_id", "y"])
def test_rows_that_cannot_be_decoded_are_named(folder, monkeypatch, column):
    monkeypatch.setattr(parquet, "_HEAD_ROWS", 20)
    content = bytearray(Path("series.parquet").read_bytes())
    group = pq.ParquetFile("series.parquet").metadata.row_group(4)
    place = group.column(0 if column == "unique_id" else 2).dictionary_page_offset
    content[place : place + 40] = b"x" * 40
    Path("series.parquet").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"series\.parquet cannot be read from row \d+ on \(.*; write"
    ):
        forecast_file(Naive(HORIZON), "series.parquet", "out.parquet", batch_series=2)


def test_a_folder_is_no_file_to_write(folder):
    Path("out.parquet").mkdir()
    with pytest.raises(ValueError, match=r"out\.parquet is a folder; name a file to write to"):
        forecast_file(Naive(HORIZON), "series.parquet", "out.parquet")


def test_ids_may_be_views_of_text(folder):
    whole = pa.Table.from_pandas(table(), preserve_index=False)
    for rows in (whole, whole.sort_by("ds")):
        views = rows.set_column(0, "unique_id", rows["unique_id"].cast(pa.string_view()))
        pq.write_table(views, "views.parquet")
        forecast_file(Naive(HORIZON), "views.parquet", "out.parquet", batch_series=4)
        answer = by_name(pd.read_parquet("out.parquet"))
        expected = Naive(HORIZON).fit(table()).predict()
        assert answer["unique_id"].tolist() == expected["unique_id"].tolist()
        np.testing.assert_allclose(answer["naive"], expected["naive"])


def test_nested_ids_are_refused(folder):
    rows = pa.Table.from_pandas(table(), preserve_index=False)
    ids = pa.array([[name] for name in table()["unique_id"]])
    pq.write_table(rows.set_column(0, "unique_id", ids), "nested.parquet")
    with pytest.raises(TypeError, match=r"'unique_id' of nested\.parquet holds list<.*, but ids"):
        forecast_file(Naive(HORIZON), "nested.parquet", "out.parquet")


def test_stamps_of_text_are_refused(folder):
    table().astype({"ds": str}).to_parquet("text.parquet", index=False)
    with pytest.raises(TypeError, match=r"'ds' of text\.parquet holds text, .* as timestamps"):
        forecast_file(Naive(HORIZON), "text.parquet", "out.parquet")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "series.csv"}, r"series\.csv: only Parquet is read in batches"),
        ({"out": "out.csv"}, r"out\.csv: only Parquet is written in batches"),
        ({"out": "series.parquet"}, "is the table that is read"),
        ({"batch_series": 0}, "batch_series must be a whole number of at least 1; got 0"),
        ({"level": 120}, "level"),
        ({"source": "none.parquet"}, r"no file none\.parquet"),
    ],
)
def test_bad_requests_are_refused(folder, changes, message):
    options = {"source": "series.parquet", "out": "out.parquet"} | changes
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        forecast_file(Naive(HORIZON), **options)


def test_a_damaged_file_is_refused(folder):
    Path("bad.parquet").write_bytes(b"PAR1" + b"x" * 100)
    with pytest.raises(ValueError, match=r"bad\.parquet is no readable Parquet table \(.*write it"):
        forecast_file(Naive(HORIZON), "bad.parquet", "out.parquet")


def changed_network():
    network = copy.deepcopy(tiny_network())
    for parameter in network.parameters():
        parameter.data *= 1.1
    return network


@pytest.mark.parametrize("as_files", [True, False])
def test_a_killed_run_does_not_go_on_with_another_network(folder, monkeypatch, as_files):
    def weights(network):
        if not as_files:
            return network
        save_network(network, "weights", "n", CARD)
        return "weights"

    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        first = PretrainedForecaster(HORIZON, weights=weights(tiny_network()))
        with pytest.raises(Killed):
            forecast_file(first, "series.parquet", "out.parquet", batch_series=2)
    other = PretrainedForecaster(HORIZON, weights=weights(changed_network()))
    with pytest.raises(ValueError, match="holds 2 batches of an earlier run with another model"):
        forecast_file(other, "series.parquet", "out.parquet", batch_series=2)


def change_before_batch(monkeypatch, number, change):
    forecast_batch = batches._forecast_batch

    def changed(work, batch):
        if batch.number == number:
            change()
        forecast_batch(work, batch)

    monkeypatch.setattr(batches, "_forecast_batch", changed)


def test_a_run_keeps_its_network(folder, monkeypatch):
    save_network(tiny_network(), "weights", "n", CARD)
    model = PretrainedForecaster(HORIZON, weights="weights")
    with monkeypatch.context() as patch:
        change_before_batch(patch, 1, lambda: shutil.rmtree("weights"))
        forecast_file(model, "series.parquet", "out.parquet", batch_series=2)
    forecast_file(zero(), "series.parquet", "expected.parquet", batch_series=2)
    assert Path("out.parquet").read_bytes() == Path("expected.parquet").read_bytes()


def test_a_table_that_changes_during_a_run_is_refused(folder, monkeypatch):
    other = table()
    other["y"] += 1000
    with monkeypatch.context() as patch:
        change_before_batch(patch, 1, lambda: other.to_parquet("series.parquet", index=False))
        with pytest.raises(ValueError, match=r"series\.parquet has changed since this run began"):
            forecast_file(Naive(HORIZON), "series.parquet", "out.parquet", batch_series=2)
    assert not Path("out.parquet").exists()
    message = r"series\.parquet has changed since an earlier run, so the 1 batches of that run are"
    with pytest.warns(UserWarning, match=message):
        run = forecast_file(Naive(HORIZON), "series.parquet", "out.parquet", batch_series=2)
    assert run.n_resumed == 0
    assert (pd.read_parquet("out.parquet")["naive"] > 900).all()


def test_a_table_that_changes_while_its_rows_are_dealt_out_is_refused(folder, monkeypatch):
    deal_out = parquet._deal_out

    def changed(*arguments):
        deal_out(*arguments)
        table().to_parquet("dates.parquet", index=False)

    monkeypatch.setattr(parquet, "_deal_out", changed)
    with pytest.raises(ValueError, match=r"dates\.parquet has changed since this run began"):
        forecast_file(Naive(HORIZON), "dates.parquet", "out.parquet", batch_series=2)
    assert not list(folder.glob(".*"))


# --- the command ----------------------------------------------------------------------------------

ARGV = ["forecast", "series.parquet", "--horizon", HORIZON, "--model", "naive"]


def test_the_command_forecasts_in_batches(folder, run):
    assert run(*ARGV, "--out", "whole.parquet") == (0, "", "")
    code, out, err = run(*ARGV, "--out", "out.parquet", "--batch-series", 4)
    assert (code, err) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (facts["n_series"], facts["n_batches"], facts["freq"]) == ("11", "3", "D")
    assert "out.parquet" in out
    whole = pd.read_parquet("whole.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet("out.parquet"), whole)


def test_a_long_file_is_forecast_in_batches(folder, run, monkeypatch):
    monkeypatch.setattr(batches, "_LONG_ROWS", 400)
    assert "n_batches" in run(*ARGV, "--out", "out.parquet")[1]
    assert "n_batches" not in run(*ARGV, "--out", "out.parquet", "--plot", "out.png")[1]
    assert "n_batches" not in run(*ARGV, "--out", "out.csv")[1]
    assert not batches.is_long(Path("series.parquet"), linear())


def test_warnings_of_batches_are_spelt_as_options(folder, run):
    without_some(table()).to_parquet("series.parquet", index=False)
    code, _, err = run(*ARGV, "--out", "out.parquet", "--batch-series", 4)
    assert code == 0
    assert err.count("\n") == 1
    assert "'s03' has no value; 's10' has no value" in err
    assert "--bad error refuses such a table" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "f.png"], "--plot needs the whole table, not batches of it"),
        (["--json"], "--json needs the whole table"),
        (["--out", "-"], "batches are written to a file; add --out"),
        (["--out", "f.csv"], r"f\.csv: only Parquet is written in batches"),
        (["--batch-series", 0], "--batch-series must be a whole number of at least 1; got 0"),
    ],
)
def test_the_command_refuses_what_needs_the_whole_table(folder, run, options, message):
    out = [] if "--out" in options else ["--out", "out.parquet"]
    code, text, err = run(*ARGV, "--batch-series", 4, *out, *options)
    assert (code, text) == (2, "")
    assert err.count("\n") == 1
    assert re.search(message, err), err
