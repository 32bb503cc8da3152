"""The cards hold what was published, and the real files come out as the literature has them."""

import dataclasses
import gzip
import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from checkout import ROOT
from side_by_side import columns_of

from tsattn.data import cards
from tsattn.data.cards import list_cards, load_dataset, read_card
from tsattn.data.training_windows import Split, WindowSpec

ETT = ("etth1", "etth2", "ettm1", "ettm2")
ALL = ("electricity", *ETT, "weather")

# rows, channels, split (train, valid, test): the borders that published tables share
PUBLISHED = {
    "etth1": (17420, 7, (8640, 2880, 2880)),
    "etth2": (17420, 7, (8640, 2880, 2880)),
    "ettm1": (69680, 7, (34560, 11520, 11520)),
    "ettm2": (69680, 7, (34560, 11520, 11520)),
    "weather": (52696, 21, (36887, 5270, 10539)),
    "electricity": (26304, 321, (18412, 2632, 5260)),
}
# windows in training, validation, test at context 96 and horizons 96, 192, 336, 720
WINDOWS = {
    "etth1": ((8449, 2785, 2785), (8353, 2689, 2689), (8209, 2545, 2545), (7825, 2161, 2161)),
    "ettm2": (
        (34369, 11425, 11425),
        (34273, 11329, 11329),
        (34129, 11185, 11185),
        (33745, 10801, 10801),
    ),
    "weather": (
        (36696, 5175, 10444),
        (36600, 5079, 10348),
        (36456, 4935, 10204),
        (36072, 4551, 9820),
    ),
    "electricity": (
        (18221, 2537, 5165),
        (18125, 2441, 5069),
        (17981, 2297, 4925),
        (17597, 1913, 4541),
    ),
}
WINDOWS["etth2"], WINDOWS["ettm1"] = WINDOWS["etth1"], WINDOWS["ettm2"]
FILES = {
    "etth1": "ETTh1.csv",
    "etth2": "ETTh2.csv",
    "ettm1": "ETTm1.csv.gz",
    "ettm2": "ETTm2.csv.gz",
    "weather": "weather.csv.gz",
}


# ---------------------------------------------------------------- the cards themselves


def test_the_known_names():
    assert list_cards() == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_card_is_complete(name):
    card = read_card(name)
    rows, channels, split = PUBLISHED[name]
    assert (card.name, card.rows, len(card.columns.target)) == (name, rows, channels)
    assert dataclasses.astuple(card.split) == split
    assert card.title
    assert card.citation
    assert card.licence.spdx
    assert card.columns.channels[-1] == "OT"
    assert len(set(card.columns.channels)) == channels
    assert card.protocol.horizons == (96, 192, 336, 720)
    assert (card.protocol.drop_last, card.protocol.context_reach, card.protocol.scale) == (
        False,
        True,
        "train",
    )
    assert (
        pd.Timedelta(1, "D") / pd.Timedelta(pd.tseries.frequencies.to_offset(card.frequency))
        == card.seasonality
    )
    assert card.checked_by == ("structure" if name == "electricity" else "sha256")
    assert len(card.sha256) == (0 if name == "electricity" else 64)
    json.dumps(dataclasses.asdict(card))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("spelled", [str.upper, str.title])
def test_case_of_a_name_does_not_matter(name, spelled):
    assert read_card(spelled(name)) == read_card(name)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"no data set is called 'ETTh3'; known are electricity, etth1, .*weather$"
    ):
        load_dataset("ETTh3")


def test_a_name_is_no_path():
    with pytest.raises(ValueError, match="no data set is called"):
        read_card("../datasets/etth1")


@pytest.mark.parametrize("name", ETT)
def test_ett_is_pinned_to_a_commit(name):
    card = read_card(name)
    address = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07"
    assert card.download_url() == f"{address}/ETT-small/{card.file}"
    assert card.file.lower() == f"{name}.csv"


@pytest.mark.parametrize("name", ["weather", "electricity"])
def test_address_of_the_collection(name):
    address = "https://huggingface.co/datasets/thuml/Time-Series-Library/resolve/main"
    assert read_card(name).download_url() == f"{address}/{name}/{name}.csv"
    assert read_card(name).download_url("http://mirror/") == f"http://mirror/{name}/{name}.csv"


@pytest.mark.parametrize("name", ALL)
def test_window_counts_of_the_literature(name):
    train, valid, test = read_card(name).split.bounds
    starts = np.array([0, test])
    first = np.array([0])
    for horizon, expected in zip((96, 192, 336, 720), WINDOWS[name], strict=True):
        spec = WindowSpec(96, horizon)
        spans = ((first, train), (train, valid), (valid, test))
        counts = [len(spec.ends(starts, np.array([a]).ravel(), np.array([b]))) for a, b in spans]
        assert tuple(counts) == expected


# ---------------------------------------------------------------- no package named datasets


def test_the_folder_of_cards_holds_no_python():
    folder = ROOT / "datasets"
    assert {path.stem for path in folder.glob("*.toml")} == set(ALL)
    assert not [path for path in folder.rglob("*") if path.suffix.startswith(".py")]


def test_a_wheel_has_its_cards_inside(tmp_path, monkeypatch):
    module = tmp_path / "tsattn" / "data" / "cards.py"
    inside = tmp_path / "tsattn" / "_datasets"
    beside = tmp_path / "datasets"
    monkeypatch.setattr(cards, "__file__", str(module))
    with pytest.raises(FileNotFoundError, match=r"no data set cards in .*install tsattn again"):
        list_cards()
    beside.mkdir()
    (beside / "beside.toml").touch()
    assert list_cards() == ["beside"]
    inside.mkdir(parents=True)
    (inside / "inside.toml").touch()
    assert list_cards() == ["inside"]


# ---------------------------------------------------------------- Electricity, whose file few have


def electricity_bytes(n_rows):
    """A table as wide as Electricity's and in its spelling, and its values."""
    card = read_card("electricity")
    values = np.random.default_rng(0).integers(0, 1000, (n_rows, len(card.columns.target)))
    words = np.array([f"{i:d}.000000," for i in range(1000, 2000)], dtype="S12")[values]
    body = words.view(np.uint8).reshape(n_rows, -1)
    body[:, -1] = ord("\n")
    stamps = pd.date_range(card.time.first, periods=n_rows, freq="h").strftime("%Y-%m-%d %H:%M:%S,")
    stamps = np.array(stamps, dtype="S20").view(np.uint8).reshape(n_rows, -1)
    header = ",".join([card.columns.time, *card.columns.target]).encode()
    return header + b"\n" + np.concatenate([stamps, body], axis=1).tobytes(), values + 1000.0


@pytest.fixture
def short_electricity(monkeypatch):
    """The card of the first rows of the file."""

    def cut(rows, split):
        whole = read_card("electricity")
        last = str(pd.Timestamp(whole.time.first) + pd.Timedelta(rows - 1, "h"))
        part = dataclasses.replace(
            whole, rows=rows, split=split, time=dataclasses.replace(whole.time, last=last)
        )
        monkeypatch.setattr(cards, "read_card", lambda name: part)

    return cut


def test_electricity_of_full_width(tmp_path, short_electricity):
    raw, values = electricity_bytes(500)
    (tmp_path / "electricity.csv").write_bytes(raw)
    short_electricity(500, Split(300, 100, 100))
    data = load_dataset("Electricity", tmp_path)
    np.testing.assert_array_equal(columns_of(data.panel), values)
    assert data.split.bounds == (300, 400, 500)
    assert data.report()["checked_by"] == "structure"
    assert data.sha256 == hashlib.sha256(raw).hexdigest()


def test_part_of_electricity_is_refused(tmp_path):
    (tmp_path / "electricity.csv").write_bytes(electricity_bytes(55)[0])
    with pytest.raises(ValueError, match="it has 55 rows instead of 26304; get the whole file"):
        load_dataset("electricity", tmp_path)


def test_electricity_format_of_the_real_fragment(data_dir, tmp_path, short_electricity):
    raw = (data_dir / "electricity_first55rows_321cols.csv").read_bytes()
    (tmp_path / "electricity.csv").write_bytes(raw)
    with pytest.raises(ValueError, match="it has 55 rows instead of 26304; get the whole file"):
        load_dataset("electricity", tmp_path)
    short_electricity(55, Split(38, 6, 11))
    data = load_dataset("electricity", tmp_path)
    assert columns_of(data.panel).shape == (55, 321)
    assert columns_of(data.panel)[0, :3].tolist() == [14.0, 69.0, 234.0]
    assert data.panel.dialect.columns[-1] == "OT"


# ---------------------------------------------------------------- the real files


@pytest.mark.parametrize("name", list(FILES))
def test_real_file_passes(data_dir, tmp_path, name):
    data = load_dataset(name.upper(), data_dir, cache_dir=tmp_path)
    rows, channels, split = PUBLISHED[name]
    assert data.path == data_dir / FILES[name]
    assert data.sha256 == data.card.sha256
    assert columns_of(data.panel).shape == (rows, channels)
    assert dataclasses.astuple(data.split) == split
    assert data.panel.times[0] == pd.Timestamp(data.card.time.first)
    step = pd.Timedelta(1, "D") / data.card.seasonality
    times = data.panel.times[:rows]
    assert (times[1:] - times[:-1] == step).all()
    raw = (gzip.open if data.path.suffix == ".gz" else open)(data.path, "rb")
    with raw:
        assert len(raw.read()) == data.card.bytes


def test_first_and_last_row_of_etth1(data_dir):
    panel = load_dataset("ETTh1", data_dir).panel
    first = (
        "5.827000141143799 2.009000062942505 1.5989999771118164 0.4620000123977661"
        " 4.203000068664552"
    )
    values = columns_of(panel)
    assert values[0].tolist() == [
        *map(float, first.split()),
        1.3400000333786009,
        30.5310001373291,
    ]
    assert values[-1, -1] == 9.56700038909912
    assert str(panel.times[0]) == "2016-07-01 00:00:00"
    assert str(panel.times[-1]) == "2018-06-26 19:00:00"


def test_values_are_the_floats_that_the_decimals_name(data_dir):
    lines = (data_dir / "ETTh1.csv").read_text().splitlines()[1:]
    expected = [[float(word) for word in line.split(",")[1:]] for line in lines]
    np.testing.assert_array_equal(columns_of(load_dataset("etth1", data_dir).panel), expected)


def test_weather_by_rule(data_dir):
    data = load_dataset("Weather", data_dir)
    own = data.stamps
    values = columns_of(data.panel)
    times = data.panel.times[: len(values)]
    assert own[19044] == own[19043]
    assert own[21514] - own[21513] == pd.Timedelta(100, "min")
    assert (own[:19044] == times[:19044]).all()
    assert str(own[-1]) == "2021-01-01 00:00:00"
    assert str(times[-1]) == "2020-12-31 22:40:00"
    assert not any("\ufffd" in name for name in data.panel.ids)
    assert data.panel.dialect.columns[16:19] == (
        "SWDR (W/m²)",
        "PAR (µmol/m²/s)",
        "max. PAR (µmol/m²/s)",
    )
    assert (values == -9999).sum() == 81
    missing = load_dataset("Weather", data_dir, sentinels="ffill").panel
    np.testing.assert_array_equal(np.isnan(columns_of(missing)), values == -9999)
