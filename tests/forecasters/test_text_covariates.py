"""Text, categories and booleans as past and future columns: read, encoded, used, saved."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from covariate_forecasters import attention, plant_few_trees, rolling_error
from sklearn.ensemble import HistGradientBoostingRegressor
from tables import covariate_frame, parts_of, wide_covariate_frame

from tsattn import PretrainedForecaster, make_forecaster
from tsattn.data.columns import plain
from tsattn.data.covariates import CovariateColumns
from tsattn.data.encoding import CovariateEncoder, CovariateHistory
from tsattn.data.frames import from_long, from_wide, to_long, to_panel, to_wide
from tsattn.data.joining import continued_panel
from tsattn.data.schema import Schema
from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.regression import SklearnForecaster

COLUMNS = {"past_cols": ("mood", "temp"), "future_cols": ("price", "sky", "promo")}
SKIES = ("clear", "rain", "snow")
MOODS = ("1", "2")


def table(seed=5, frame=None):
    """Text (``sky``), categories of numbers (``mood``) and booleans (``promo``) beside numbers."""
    frame = covariate_frame() if frame is None else frame
    rng = np.random.default_rng(seed)
    mood = pd.Categorical(rng.choice([2, 1], len(frame)))
    return frame.assign(sky=rng.choice(SKIES, len(frame)), mood=mood)


def read(frame=None, **kwargs):
    return from_long(table() if frame is None else frame, Schema(**COLUMNS, **kwargs))


def told(future, seed=3):
    rng = np.random.default_rng(seed)
    n = len(future)
    return future.assign(
        price=rng.normal(50, 3, n), sky=rng.choice(SKIES, n), promo=rng.random(n) < 0.5
    )


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    plant_few_trees(monkeypatch)


@pytest.fixture(scope="module")
def model():
    return attention(**COLUMNS).fit(table())


def test_a_text_column_that_drives_the_target_is_used():
    rng = np.random.default_rng(0)
    n = 500
    sky = rng.choice(SKIES, n)
    y = pd.Series(sky).map({"clear": 0.0, "rain": -3.0, "snow": 3.0}) + 0.05 * rng.normal(size=n)
    frame = pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2020-01-01", periods=n), "y": y, "sky": sky}
    )
    assert rolling_error(frame, future_cols=["sky"]) < rolling_error(frame, max_epochs=2) / 3


def test_categories_become_indicators_and_numbers_stay_what_they_were():
    panel = read()
    frame = table()
    stops = np.array([50, 60, 66])
    encoder = CovariateEncoder.fit(
        CovariateColumns.checked(**COLUMNS, static_cols=(), calendar=()), panel, stops
    )
    assert encoder.columns.categories == (MOODS, None, None, SKIES, None)
    assert encoder.sizes == {"n_past": 3, "n_known": 5, "n_static": 0}
    rows = encoder.rows(panel)
    for row in (0, 77, 195):
        cells = frame.iloc[row]
        moods = [cells["mood"] == int(m) for m in MOODS]
        skies = [cells["sky"] == s for s in SKIES]
        np.testing.assert_array_equal(rows["past"][row, :2], np.array(moods, float))
        np.testing.assert_array_equal(rows["known"][row, 1:4], np.array(skies, float))
    # Numbers and booleans are standardised as before.
    numbers = CovariateEncoder.fit(
        CovariateColumns(("temp",), ("price", "promo")), panel, stops
    ).rows(panel)
    np.testing.assert_array_equal(rows["past"][:, 2:], numbers["past"])
    np.testing.assert_array_equal(rows["known"][:, [0, 4]], numbers["known"])


def test_categories_are_those_of_the_training_rows_and_others_are_zeros():
    frame = table()
    late = frame.groupby("unique_id").cumcount(ascending=False) < 4
    panel = read(frame.assign(sky=frame["sky"].mask(late, "fog")))
    columns = CovariateColumns((), ("sky",))
    encoder = CovariateEncoder.fit(columns, panel, panel.lengths - 4)
    assert encoder.columns.categories == (SKIES,)
    windows = CovariateHistory(panel, encoder.columns).windows(panel.starts[1:] - 4, 10, 4)
    known = encoder.encode(windows, 4)["known"]
    np.testing.assert_array_equal(known[:, 10:], np.zeros((3, 4, 3)))
    np.testing.assert_array_equal(known[:, :10].sum(axis=2), np.ones((3, 10)))


def test_windows_are_recoded_for_a_member_that_knows_other_categories():
    panel = read()
    have = CovariateColumns(("mood",), ("price", "sky"), categories=(MOODS, None, SKIES))
    wanted = CovariateColumns(
        ("mood",), ("price", "sky"), categories=(("2", "3"), None, ("clear", "snow"))
    )
    ends = panel.starts[1:] - 4
    windows = CovariateHistory(panel, have).windows(ends, 10, 4)
    windows.known[0, -1, 1] = np.nan
    windows.known[1, -1, 1] = -1
    expected = CovariateHistory(panel, wanted).windows(ends, 10, 4)
    expected.known[0, -1, 1] = np.nan
    expected.known[1, -1, 1] = -1
    before = windows.known.copy()
    recoded = windows.recoded(have, wanted)
    np.testing.assert_array_equal(recoded.known, expected.known)
    np.testing.assert_array_equal(recoded.past, expected.past)
    np.testing.assert_array_equal(windows.known, before)


FOG = (
    r"future= holds categories that no training row has: 'fog' in column 'sky'; each counts as none"
    r" of those known"
)


def test_a_category_never_seen_has_a_forecast(model):
    future = told(model.make_future_frame())
    with pytest.warns(UserWarning, match=FOG):
        fog = model.predict(future=future.assign(sky="fog"))["mlr"].to_numpy()
    assert np.isfinite(fog).all()
    assert not np.array_equal(fog, model.predict(future=future.assign(sky="rain"))["mlr"])
    frame = table()
    with pytest.warns(UserWarning, match="the table holds categories"):
        after_fog = model.predict(frame.assign(sky="fog"), future=future)
    with pytest.warns(UserWarning, match="the table holds categories"):
        after_dust = model.predict(frame.assign(sky="dust"), future=future)
    np.testing.assert_array_equal(after_fog["mlr"], after_dust["mlr"])


def test_the_rows_to_fill_in_take_text_and_what_is_missing_is_named(model):
    future = model.make_future_frame()
    future.loc[:, "sky"] = "rain"
    future.loc[:, ["price", "promo"]] = [50.0, 1.0]
    assert len(model.predict(future=future)) == len(future)
    future.loc[5, "sky"] = None
    with pytest.raises(
        ValueError, match=r"series 's1': column 'sky' of future= is missing at 2024-07-02"
    ):
        model.predict(future=future)


@pytest.mark.parametrize("dtype", [bool, int, float, "boolean", "bool[pyarrow]", object, "Int8"])
def test_booleans_are_zero_and_one(model, dtype):
    frame = table()
    converted = frame.assign(promo=frame["promo"].astype(dtype))
    future = told(model.make_future_frame())
    forecaster = attention(**COLUMNS).fit(converted)
    told_alike = future.assign(promo=future["promo"].astype(dtype))
    pd.testing.assert_frame_equal(
        forecaster.predict(future=told_alike), model.predict(future=future)
    )


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_text_of_any_kind_reads_alike(model, dtype):
    future = told(model.make_future_frame())
    own = attention(**COLUMNS).fit(table().astype({"sky": dtype}))
    pd.testing.assert_frame_equal(
        own.predict(future=future.astype({"sky": dtype})), model.predict(future=future)
    )


def test_tables_come_back_with_their_text():
    frame = table()
    back = to_long(read(frame))
    assert back["sky"].tolist() == frame["sky"].tolist()
    assert back["mood"].tolist() == [str(plain(value)) for value in frame["mood"]]
    np.testing.assert_array_equal(back["promo"], frame["promo"].astype(float))
    wide = wide_covariate_frame().assign(sky=np.resize(SKIES, 70))
    assert (
        to_wide(from_wide(wide, Schema(future_cols=["sky"])))["sky"].tolist()
        == wide["sky"].tolist()
    )


def test_every_category_is_in_the_fingerprint():
    frame = table()
    assert read(frame).fingerprint() == read(frame.copy()).fingerprint()
    renamed = frame.assign(sky=frame["sky"].replace("clear", "blue"))
    assert read(renamed).fingerprint() != read(frame).fingerprint()


def test_missing_text_is_carried_forward_under_a_policy():
    frame = table()
    gone = frame.assign(sky=frame["sky"].mask(frame.index == 100))
    assert to_long(read(gone, missing="ffill"))["sky"].tolist()[99:101] == [frame["sky"][99]] * 2
    with pytest.raises(
        ValueError, match=r"series 's1': column 'sky' is missing \(NaN\) at 2024-06-01"
    ):
        read(gone, missing="error")


def test_panels_are_continued_with_new_categories():
    frame = table()
    before, after = parts_of(frame, 9)
    after = after.assign(sky="fog")
    joined = to_long(continued_panel(read(before), read(after)))
    both_series = pd.concat([before, after]).sort_values(["unique_id", "ds"])
    assert joined["sky"].tolist() == both_series["sky"].tolist()


def test_saved_and_updated_models_keep_their_categories(tmp_path):
    frame = table()
    before, after = parts_of(frame, 9)
    model = attention(**COLUMNS).fit(before)
    with pytest.warns(UserWarning, match="^the table holds categories .*: 'fog' in column 'sky'"):
        model.update(after.assign(sky="fog"))
    model.save(tmp_path / "m")
    loaded = AttentionForecaster.load(tmp_path / "m")
    assert loaded.covariate_columns_ == model.covariate_columns_
    future = told(loaded.make_future_frame())
    pd.testing.assert_frame_equal(loaded.predict(future=future), model.predict(future=future))
    pd.testing.assert_frame_equal(
        loaded.predict(frame, future=future), model.predict(frame, future=future)
    )
    later = told(model.make_future_frame()).assign(y=1.0, mood=1, temp=0.5)
    pd.testing.assert_frame_equal(
        loaded.update(later).predict(future=told(loaded.make_future_frame())),
        model.update(later).predict(future=told(model.make_future_frame())),
    )


TAMPERINGS = {
    "a category more": lambda f: f["moving"][3].append("zebra"),
    "categories out of order": lambda f: f["moving"].__setitem__(3, ["snow", "clear", "rain"]),
    "a column too few": lambda f: f["moving"].pop(),
    "rows of a category that is none": lambda f: f["rows"].__setitem__(3, ["clear"]),
    "a category that is a number": lambda f: f["rows"].__setitem__(3, [1, 2, 3]),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampered_categories_are_refused_in_one_line(name, model, tmp_path):
    model.save(tmp_path / "m")
    facts = json.loads((tmp_path / "m" / "config.json").read_text())
    TAMPERINGS[name](facts["covariates"])
    (tmp_path / "m" / "config.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is not what save") as caught:
        AttentionForecaster.load(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_what_is_no_column_of_text_is_refused(model, monkeypatch):
    frame = table()
    with pytest.raises(
        ValueError, match=r"column 'price' holds 'cheap' at 2024-06-01.*must be numbers"
    ):
        read(
            frame.astype({"price": object}).assign(
                price=frame["price"].where(frame.index != 100, "cheap")
            )
        )
    with pytest.raises(
        ValueError, match=r"column 'sky' holds .*Timestamp.* but values must be numbers"
    ):
        read(frame.assign(sky=pd.Timestamp("2024")))
    monkeypatch.setattr("tsattn.training.loop.train", lambda *a, **k: pytest.fail("training began"))
    with pytest.raises(
        ValueError,
        match=r"column 'sky' holds 1\d\d categories such as '0', but at most 100 are read",
    ):
        attention(**COLUMNS).fit(frame.assign(sky=[str(row) for row in range(len(frame))]))
    future = told(model.make_future_frame())
    with pytest.raises(
        ValueError, match="column 'temp' held numbers in training; got text such as 'cold'"
    ):
        model.predict(frame.assign(temp="cold"), future=future)
    before = model.panel_
    with pytest.raises(ValueError, match="column 'temp' held numbers in training"):
        model.update(future.assign(y=1.0, mood=1, temp="cold"))
    assert model.panel_ is before


@pytest.mark.parametrize("words", [("False", "True"), ("FALSE", "TRUE"), ("no", "yes"), ("N", "Y")])
def test_words_for_booleans_of_the_table_are_told_the_call(words):
    frame = covariate_frame()
    frame["promo"] = frame["promo"] > 0
    model = make_forecaster("ridge", 4, schema=Schema(future_cols=["promo"])).fit(frame)
    future = model.make_future_frame().assign(promo=[words[row % 2] for row in range(12)])
    message = (
        rf"holds '{words[0]}' .* and the table has booleans there; write such cells as the table"
    )
    with pytest.raises(ValueError, match=message) as refused:
        model.predict(future=future)
    right = future.copy()
    exec(str(refused.value).split("does: ")[1], {"future": right})
    assert right["promo"].tolist() == [False, True] * 6
    model.predict(future=right)
    texts = frame.assign(promo=frame["promo"].map({False: words[0], True: words[1]}))
    with pytest.raises(ValueError, match="column 'promo' held numbers in training") as refused:
        model.predict(texts, future=right)
    call = str(refused.value).split("as by ")[1].removesuffix(", or fit again")
    exec(call, {"df": texts})
    assert texts["promo"].equals(frame["promo"])


def test_other_words_get_no_call():
    frame = covariate_frame()
    model = make_forecaster("ridge", 4, schema=Schema(future_cols=["promo"])).fit(frame)
    future = model.make_future_frame().assign(promo="soon")
    with pytest.raises(ValueError, match=r"has booleans there; write such .* does$"):
        model.predict(future=future)


# --- categories that no training row has ----------------------------------------------------------

GBM = HistGradientBoostingRegressor(max_iter=20, early_stopping=False)
MAKERS = {
    "zero": lambda schema: PretrainedForecaster(4, schema=schema),
    "ridge": lambda schema: make_forecaster("ridge", 4, schema=schema, random_state=0),
    "gbm": lambda schema: SklearnForecaster(4, GBM, schema=schema, random_state=0),
    "least_squares": lambda schema: make_forecaster("least_squares", 4, schema=schema),
    "mlr": lambda schema: attention(future_cols=schema.future_cols),
}


def skies_that_matter(n=250):
    """One series that follows the sky of its own day."""
    rng = np.random.default_rng(0)
    sky = rng.choice(SKIES, n)
    y = pd.Series(sky).map({"clear": 0.0, "rain": -3.0, "snow": 3.0}) + 0.2 * rng.normal(size=n)
    return pd.DataFrame(
        {"unique_id": "a", "ds": pd.date_range("2023-01-01", periods=n), "y": y, "sky": sky}
    )


@pytest.mark.parametrize("name", MAKERS)
def test_a_new_category_counts_as_none_in_every_forecaster(name):
    model = MAKERS[name](Schema(future_cols=["sky"])).fit(skies_that_matter())
    future = model.make_future_frame()
    forecasts = {}
    for sky in ("fog", "dust"):
        with pytest.warns(
            UserWarning, match=f"no training row has: '{sky}' in column 'sky'"
        ) as caught:
            forecasts[sky] = model.predict(future=future.assign(sky=sky)).iloc[:, 2].to_numpy()
        assert len(caught) == 1
    np.testing.assert_array_equal(forecasts["fog"], forecasts["dust"])
    assert np.isfinite(forecasts["fog"]).all()
    known = {
        sky: model.predict(future=future.assign(sky=sky)).iloc[:, 2].to_numpy() for sky in SKIES
    }
    assert all(not np.array_equal(forecasts["fog"], known[sky]) for sky in SKIES)


def test_one_warning_names_all_columns_and_values():
    frame = table()
    model = make_forecaster("ridge", 4, schema=Schema(future_cols=["sky", "mood"])).fit(frame)
    future = model.make_future_frame().assign(
        sky=["fog", "rain", "dust", "fog"] * 3, mood=range(12)
    )
    with pytest.warns(UserWarning, match="holds categories") as caught:
        model.predict(future=future)
    assert [str(warning.message) for warning in caught] == [
        "future= holds categories that no training row has: 'fog', 'dust' in column 'sky'; 0, 3, 4,"
        " 5, 6 and 5 more in column 'mood'; each counts as none of those known"
    ]


@pytest.mark.parametrize("name", ["zero", "ridge", "mlr"])
def test_new_categories_of_a_table_are_named_as_those_of_future_are(name):
    frame = skies_that_matter()
    model = MAKERS[name](Schema(future_cols=["sky"])).fit(frame)
    renamed = frame.assign(sky=frame["sky"].replace("rain", "fog"))
    future = model.make_future_frame().assign(sky="snow")
    tail = "categories that no training row has: {} in column 'sky'; each counts as none of those"
    for skies, head, words in (
        ("snow", "the table holds ", "'fog'"),
        ("fog", "the table and future= hold ", "'fog'"),
        (["fog", "dust", "snow", "fog"], "the table and future= hold ", "'fog', 'dust'"),
    ):
        with pytest.warns(UserWarning, match="no training row") as caught:
            model.predict(renamed, future=future.assign(sky=skies))
        assert [str(warning.message) for warning in caught] == [f"{head}{tail.format(words)} known"]
    model.predict(frame, future=future)


def test_new_categories_of_past_columns_are_named():
    frame = skies_that_matter()
    model = make_forecaster("ridge", 4, schema=Schema(past_cols=["sky"])).fit(frame)
    with pytest.warns(UserWarning, match="^the table holds categories .*: 'fog' in column 'sky'"):
        model.predict(frame.assign(sky="fog"))


def test_rows_of_future_that_are_not_forecast_are_not_told_of():
    model = make_forecaster("ridge", 4, schema=Schema(future_cols=["sky"])).fit(skies_that_matter())
    future = model.make_future_frame().assign(sky="rain")
    later = future.assign(ds=future["ds"] + pd.Timedelta("30D"), sky="fog")
    assert len(model.predict(future=pd.concat([future, later]))) == 4


@pytest.mark.parametrize("name", ["zero", "ridge", "gbm", "mlr"])
def test_wide_tables_have_text_beside_their_channels(name):
    long = skies_that_matter()
    wide = pd.DataFrame(
        {"a": long["y"].to_numpy(), "b": 5 + 2 * long["y"].to_numpy()}, index=long["ds"]
    ).assign(sky=long["sky"].to_numpy(), open=pd.array(long["sky"] == "clear", dtype="boolean"))
    model = MAKERS[name](Schema(future_cols=["sky", "open"])).fit(wide)
    future = model.make_future_frame().assign(sky="rain", open=False)
    rain = model.predict(future=future)
    assert rain.columns.tolist() == ["a", "b"]
    assert not np.array_equal(rain, model.predict(future=future.assign(sky="snow")))
    with pytest.warns(UserWarning, match="'fog' in column 'sky'"):
        assert np.isfinite(model.predict(future=future.assign(sky="fog"))).all(axis=None)


@pytest.mark.parametrize("dtype", ["boolean", object])
def test_booleans_with_gaps_are_refused_or_carried_forward(dtype):
    frame = skies_that_matter(400).assign(promo=lambda f: (f["sky"] == "rain").astype(dtype))
    gone = frame.assign(promo=frame["promo"].mask(frame.index == 200))
    schema = Schema(future_cols=["promo"])
    with pytest.raises(ValueError, match=r"column 'promo' is missing \(NaN\) at 2023-07-20"):
        make_forecaster("ridge", 4, schema=schema.changed(missing="error")).fit(gone)
    carried = frame.assign(promo=frame["promo"].mask(frame.index == 200, frame["promo"][199]))
    expected = make_forecaster("ridge", 4, schema=schema).fit(carried)
    model = make_forecaster("ridge", 4, schema=schema.changed(missing="ffill")).fit(gone)
    future = model.make_future_frame().assign(
        promo=pd.array([True, False, True, None], dtype=dtype)
    )
    filled = future.assign(promo=[True, False, True, False])
    pd.testing.assert_frame_equal(model.predict(future=filled), expected.predict(future=filled))
    with pytest.raises(ValueError, match=r"column 'promo' of future= is missing at 2024-02-08"):
        model.predict(future=future)


def test_codes_stored_as_text_are_categories_whatever_the_future_holds():
    frame = skies_that_matter()
    frame["size"] = frame["sky"].map({"clear": "1", "rain": "2", "snow": "3"})
    model = make_forecaster("ridge", 4, schema=Schema(future_cols=["size"])).fit(frame)
    assert model.covariate_columns_.categories == (("1", "2", "3"),)
    future = model.make_future_frame()
    expected = model.predict(future=future.assign(size="2"))
    pd.testing.assert_frame_equal(model.predict(future=future.assign(size=2)), expected)
    pd.testing.assert_frame_equal(model.predict(future=future.assign(size=2.0)), expected)


def test_decimals_stored_as_text_are_numbers_in_table_and_future():
    frame = skies_that_matter()
    frame["size"] = frame["sky"].map({"clear": 1.5, "rain": 2.0, "snow": 3.25})
    make = partial(make_forecaster, "ridge", 4, schema=Schema(future_cols=["size"]))
    model = make().fit(frame)
    future = model.make_future_frame()
    expected = model.predict(future=future.assign(size=3.25))
    for text in (frame["size"].map("{:.3f}".format), frame["size"].astype("string")):
        by_text = make().fit(frame.assign(size=text))
        assert by_text.covariate_columns_.categories in ((), (None,))
        for size in (3.25, "3.25", "3.2500"):
            pd.testing.assert_frame_equal(
                by_text.predict(future=future.assign(size=size)), expected
            )
    day = frame["ds"].max() + pd.Timedelta("1D")
    new = frame.tail(1).assign(ds=day)
    make_linear = partial(make_forecaster, "least_squares", 4, schema=Schema(future_cols=["size"]))
    by_numbers = make_linear().fit(frame)
    by_text = make_linear().fit(frame.assign(size=frame["size"].map("{:g}".format)))
    # The only new cell spells a whole number.
    by_numbers.update(new.assign(size=2.0))
    by_text.update(new.assign(size="2"))
    later = by_numbers.make_future_frame().assign(size=2.0)
    pd.testing.assert_frame_equal(by_text.predict(future=later), by_numbers.predict(future=later))
    # Every cell of the table spells a whole number.
    whole_frame = frame.assign(size=frame["sky"].map({"clear": 2.0, "rain": 3.0, "snow": 7.0}))
    spelt = whole_frame.assign(size=whole_frame["size"].map("{:g}".format))
    pd.testing.assert_frame_equal(
        model.predict(spelt, future=future.assign(size=3.25)),
        model.predict(whole_frame, future=future.assign(size=3.25)),
    )
    panel = to_panel(spelt, model.schema)
    np.testing.assert_array_equal(
        panel.covariates.coded(model.covariate_columns_)[:, 0], whole_frame["size"]
    )
    with pytest.raises(ValueError, match=r"column 'size' of future= holds 'big' at .* be finite"):
        by_text.predict(future=future.assign(size="big"))


@pytest.mark.parametrize("name", ["zero", "ridge"])
def test_files_with_text_and_booleans_are_forecast_and_warned_of_once(
    name, tmp_path, monkeypatch, run
):
    monkeypatch.chdir(tmp_path)
    frame = skies_that_matter().assign(promo=lambda f: f["sky"] == "rain")
    frame.to_csv("table.csv", index=False)
    days = pd.date_range(frame["ds"].max(), periods=5)[1:]
    pd.DataFrame(
        {"unique_id": "a", "ds": days, "sky": ["rain", "fog", "snow", "fog"], "promo": True}
    ).to_csv("future.csv", index=False)
    argv = [
        "forecast",
        "table.csv",
        "--horizon",
        4,
        "--model",
        name,
        "--future-col",
        "sky",
        "--future-col",
        "promo",
    ]
    code, out, err = run(*argv, "--future", "future.csv")
    assert code == 0
    assert len(out.splitlines()) == 5
    message = (
        "future= holds categories that no training row has: 'fog' in column 'sky'; each counts as"
        " none of those known"
    )
    assert err.splitlines() == [f"tsattn: warning: {message}"]
