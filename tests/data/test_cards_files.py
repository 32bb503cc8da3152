"""Files of a data set are found, checked, fetched and refused as promised, shown on one
small card.
"""

import functools
import gzip
import hashlib
import http.server
import json
import os
import shutil
import socket
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from side_by_side import columns_of

from tsattn.data import cards
from tsattn.data.cards import find_file, load_dataset, read_card, verify
from tsattn.data.training_windows import Split

# ---------------------------------------------------------------- a small card to break

ROWS = 40
CARD = """
name = "tiny"
title = "A sine"
source = {{ url = "https://example.org/tiny", base = "https://example.org/raw/{{commit}}", path = "some/Tiny.csv", commit = "abc" }}
sha256 = "{sha256}"
bytes = {bytes}
licence = {{ spdx = "CC0-1.0", redistribute = true }}
citation = "made here"
format = "wide"
frequency = "h"
seasonality = 24
rows = {rows}
{extra}
[columns]
time = "date"
target = ["a", "b"]
[time]
stamps = "own"
first = "2020-01-01 00:00:00"
last = "2020-01-02 15:00:00"
[split]
train = 20
valid = 10
test = 10
[protocol]
context = 8
horizons = [4]
step = 1
context_reach = true
drop_last = false
scale = "train"
missing = "none"
"""


def tiny_bytes():
    frame = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=ROWS, freq="h").astype(str)})
    frame["a"], frame["b"] = np.sin(np.arange(ROWS)), np.arange(ROWS)
    return frame.to_csv(index=False, lineterminator="\n").encode()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder of one card, which the returned function rewrites: ``tiny(old, new)`` replaces a
    piece of text.
    """
    folder = tmp_path / "cards"
    folder.mkdir()
    raw = tiny_bytes()
    text = CARD.format(sha256=hashlib.sha256(raw).hexdigest(), bytes=len(raw), rows=ROWS, extra="")

    def write(old="", new=""):
        assert old in text
        (folder / "tiny.toml").write_text(
            text.replace(old, new, 1) if old else text, encoding="utf-8"
        )

    write()
    monkeypatch.setattr(cards, "_cards_folder", lambda: folder)
    return write


@pytest.fixture
def here(tmp_path):
    """A folder that holds the tiny file."""
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "Tiny.csv").write_bytes(tiny_bytes())
    return folder


@pytest.fixture
def closed():
    """An address that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a word; a file named in ``cut`` breaks off halfway."""

    cut = frozenset()
    asked = None

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.asked.append(self.path)
        if self.path not in self.cut:
            super().do_GET()
            return
        body = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True


@pytest.fixture
def server(tmp_path):
    """A mirror on this machine: ``(address, folder, handler class)``."""
    folder = tmp_path / "mirror"
    (folder / "some").mkdir(parents=True)
    (folder / "some" / "Tiny.csv").write_bytes(tiny_bytes())

    class Mine(Handler):
        asked = []  # noqa: RUF012  # one list for one server

    serve = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Mine, directory=str(folder))
    )
    thread = threading.Thread(target=serve.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{serve.server_address[1]}", folder, Mine
    serve.shutdown()
    thread.join()
    serve.server_close()


def one_line(caught):
    return "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rows = 40", "", r"tiny.toml: a card needs a whole number `rows`.*see datasets/README.md"),
        ("rows = 40", "rows = 39", "split needs 40 rows, the file has 39"),
        ('title = "A sine"', "", "card lacks the field 'title'"),
        (
            "seasonality = 24",
            "seasonality = 24.0",
            "card.seasonality is 24.0; it must be of type int",
        ),
        (
            "seasonality = 24",
            "seasonality = true",
            "card.seasonality is True; it must be of type int",
        ),
        ("seasonality", "season", "card has an unknown field 'season'; known are name, title"),
        ('format = "wide"', 'format = "long"', "card.format is 'long'; it must be one of 'wide'"),
        (
            'stamps = "own"',
            'stamps = "odd"',
            "card.time.stamps is 'odd'; it must be one of 'own', 'position'",
        ),
        ('"a", "b"', '"a", 2', "card.columns.target is 2; it must be of type str"),
        ("train = 20", "train = 0", "a split needs train >= 1"),
        ("train = 20\nvalid = 10\ntest = 10", "shares = [0.5, 0.6]", "split needs three shares"),
        (
            "redistribute = true",
            "redistribute = 1",
            "card.licence.redistribute is 1; it must be of type bool",
        ),
        (
            'name = "tiny"',
            'name = "other"',
            "the name is 'other'; it must be the file's name, 'tiny'",
        ),
        (
            "[time]",
            '[columns.renamed]\nz = "y"\n[time]',
            "columns.renamed names 'z', which is not in columns.target",
        ),
        ("[time]", "[time", "tiny.toml: .*line"),
        ('"a", "b"', '"a", "a"', "columns: 'a' occurs twice"),
        ("[time]", '[columns.renamed]\na = "date"\n[time]', "columns: 'date' occurs twice"),
        ("some/Tiny.csv", "some/", "source.path is 'some/'; it must end with the name of a file"),
        ("seasonality = 24", "seasonality = 0", "seasonality must be a whole number of at least 1"),
        ('frequency = "h"', 'frequency = "hourly"', "tiny.toml: freq must be .*got 'hourly'"),
        ("2020-01-02 15:00:00", "the end", "time.last is 'the end'; it must be a stamp such as"),
        ("context = 8", "context = 0", "protocol.context must be a whole number of at least 1"),
        ("[4]", "[]", "protocol.horizons names no horizon"),
        ("[4]", "[4, 0]", "protocol.horizons must be a whole number of at least 1; got 0"),
    ],
)
def test_a_wrong_card_names_the_field(tiny, old, new, message):
    tiny(old, new)
    with pytest.raises(ValueError, match=message) as caught:
        read_card("tiny")
    assert one_line(caught)


def test_shares_are_cut_as_published(tiny):
    tiny("train = 20\nvalid = 10\ntest = 10", "shares = [0.7, 0.1, 0.2]")
    assert read_card("tiny").split == Split(28, 4, 8)


# ---------------------------------------------------------------- files in a folder


def test_file_in_data_dir(tiny, here, tmp_path):
    data = load_dataset("Tiny", here, cache_dir=tmp_path / "cache")
    assert data.path == here / "Tiny.csv"
    assert data.split == Split(20, 10, 10)
    np.testing.assert_array_equal(
        columns_of(data.panel), np.c_[np.sin(np.arange(ROWS)), np.arange(ROWS)]
    )
    assert data.panel.values.dtype == np.float64
    assert data.panel.ids.tolist() == ["a", "b"]
    assert (data.panel.times[:ROWS] == data.stamps).all()
    assert not (tmp_path / "cache").exists()


def test_plain_goes_before_gzipped_and_case_does_not_matter(tiny, tmp_path):
    card = read_card("tiny")
    assert find_file(card, tmp_path / "absent") is None
    packed, plain, exact = (tmp_path / name for name in ("TINY.CSV.GZ", "tiny.csv", "Tiny.csv"))
    (tmp_path / "tiny.csv.bak").touch()
    assert find_file(card, tmp_path) is None
    packed.write_bytes(gzip.compress(tiny_bytes()))
    assert find_file(card, tmp_path) == packed
    assert load_dataset("tiny", str(tmp_path)).sha256 == card.sha256
    plain.write_bytes(tiny_bytes())
    assert find_file(card, tmp_path) in (
        plain,
        exact,
    )  # one and the same where the file system ignores case
    exact.write_bytes(tiny_bytes())
    assert find_file(card, tmp_path) == exact


def test_report_of_verify_and_fetch(tiny, here, tmp_path):
    expected = {
        "name": "tiny",
        "path": str(here / "Tiny.csv"),
        "sha256": hashlib.sha256(tiny_bytes()).hexdigest(),
        "checked_by": "sha256",
        "rows": ROWS,
        "channels": 2,
        "frequency": "h",
        "first": "2020-01-01 00:00:00",
        "last": "2020-01-02 15:00:00",
    }
    assert verify("tiny", here, cache_dir=tmp_path) == expected
    assert load_dataset("tiny", here, cache_dir=tmp_path).report() == expected
    json.dumps(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:-5] + b"6,7\r\n", r"its sha256 is \w{64} instead of \w{64}"),
        (lambda raw: raw[: len(raw) // 2], r"its sha256 is .* \(\d+ bytes instead of \d+\)"),
        (
            lambda raw: raw.replace(b"\n", b"\r\n"),
            "its line ends are crlf, the published file's are lf",
        ),
    ],
)
def test_wrong_checksum(tiny, here, tmp_path, change, message):
    (here / "Tiny.csv").write_bytes(change(tiny_bytes()))
    for call in (load_dataset, verify):
        with pytest.raises(ValueError, match=message) as caught:
            call("tiny", here, cache_dir=tmp_path)
        assert one_line(caught)
        assert str(here / "Tiny.csv") in str(caught.value)
        assert str(caught.value).endswith(
            "remove it and get some/Tiny.csv from https://example.org/tiny and put it as Tiny.csv"
            " into the data folder"
        )


def test_the_card_is_wrong_where_the_file_has_its_checksum(tiny, here):
    checksum = hashlib.sha256(tiny_bytes()).hexdigest()
    tiny(checksum, checksum.upper())  # as PowerShell prints it
    assert load_dataset("tiny", here).sha256 == checksum
    tiny('frequency = "h"', 'frequency = "D"')
    with pytest.raises(ValueError, match=r"off the frequency 'D'") as caught:
        load_dataset("tiny", here)
    assert str(caught.value).endswith("; correct the card, whose sha256 the file has")


def test_a_card_may_begin_with_a_byte_order_mark(tiny, tmp_path):
    card = read_card("tiny")
    path = tmp_path / "cards" / "tiny.toml"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert read_card("tiny") == card


@pytest.mark.parametrize("packed", [b"no gzip at all", gzip.compress(tiny_bytes())[:-20]])
def test_damaged_gzip(tiny, tmp_path, packed):
    (tmp_path / "Tiny.csv.gz").write_bytes(packed)
    with pytest.raises(
        ValueError, match=r"Tiny.csv.gz is not what card tiny describes: .*remove it"
    ) as caught:
        load_dataset("tiny", tmp_path)
    assert one_line(caught)


def test_data_dir_must_be_a_folder(tiny, tmp_path):
    for call in (load_dataset, verify):
        with pytest.raises(FileNotFoundError, match=r"'.*absent' is no folder; .*Tiny.csv"):
            call("tiny", tmp_path / "absent", cache_dir=tmp_path)


# ---------------------------------------------------------------- checked by structure


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            b"date,a,b",
            b"date,a,c",
            "it has 3 columns instead of 3, the first odd one 'c' instead of 'b'",
        ),
        (b"date,a,b", b"date,a,b,c", "it has 4 columns instead of 3"),
        (b"2020-01-01 00:00:00,0.0,0\n", b"", "it has 39 rows instead of 40; get the whole file"),
        (
            b"2020-01-01 00:00",
            b"2020-01-01 00:30",
            "its first stamp is 2020-01-01 00:30:00 instead of 2020-01-01 00",
        ),
        (
            b"2020-01-02 15:00",
            b"2020-01-02 16:00",
            "its last stamp is 2020-01-02 16:00:00 instead of 2020-01-02 15",
        ),
        (b"2020-01-01 07:00", b"2020-01-01 06:00", "2020-01-01 06:00"),
        (b"2020-01-01 07:00", b"2020-01-01 07:10", "2020-01-01 07:"),
        (b"2020-01-01 07:00", b"2020-01-01 09:30", "its rows are not in the order of time"),
        (
            b"2020-01-01 07:00:00",
            b"1.1.2020",
            "column 'date' holds '1.1.2020' in row 7, which is no stamp such as 2020-01-31",
        ),
        (b",39\n", b",x\n", "column 'b' holds 'x' in row 39, which is no number"),
        (b",38\n", b",\n", "column 'b'.*missing"),
        (b",38\n", b",38,39,40\n", "Expected 3 fields"),
        (b"date", b"\xff", "utf-8"),
        (None, None, "No columns"),
    ],
)
def test_without_a_checksum_the_structure_decides(tiny, here, old, new, message):
    tiny(f'"{hashlib.sha256(tiny_bytes()).hexdigest()}"', '""')
    raw = tiny_bytes()
    assert load_dataset("tiny", here).report()["checked_by"] == "structure"
    (here / "Tiny.csv").write_bytes(b"" if old is None else raw.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset("tiny", here)
    assert one_line(caught)
    assert "Tiny.csv is not what card tiny describes" in str(caught.value)


def test_integers_beyond_64_bits_are_numbers(tiny, here):
    tiny(f'"{hashlib.sha256(tiny_bytes()).hexdigest()}"', '""')
    (here / "Tiny.csv").write_bytes(tiny_bytes().replace(b",39\n", b",99999999999999999999\n"))
    assert load_dataset("tiny", here).panel.values[-1] == 1e20


def test_without_a_checksum_other_values_pass_and_their_checksum_is_reported(tiny, here):
    tiny(f'"{hashlib.sha256(tiny_bytes()).hexdigest()}"', '""')
    raw = tiny_bytes().replace(b",39\n", b",40\n")
    (here / "Tiny.csv").write_bytes(raw)
    assert verify("tiny", here)["sha256"] == hashlib.sha256(raw).hexdigest()


# ---------------------------------------------------------------- the cache and the network


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_download_once_then_from_the_cache(tiny, server, tmp_path):
    address, _, handler = server
    cache = tmp_path / "deep" / "cache"
    data = load_dataset("tiny", tmp_path, base_url=address, cache_dir=cache)
    assert data.path == cache / "tiny" / "Tiny.csv"
    assert data.path.read_bytes() == tiny_bytes()
    loaded = load_dataset("tiny", base_url=address, cache_dir=cache)
    assert loaded.path == data.path
    np.testing.assert_array_equal(loaded.panel.values, data.panel.values)
    assert handler.asked == ["/some/Tiny.csv"]
    assert files_in(cache) == [data.path]
    assert verify("tiny", cache_dir=cache) == load_dataset("tiny", cache_dir=cache).report()


@pytest.mark.skipif(os.name == "nt", reason="other rights")
def test_who_may_read_a_download_is_for_the_umask_to_say(tiny, server, tmp_path):
    before = os.umask(0o022)
    try:
        path = load_dataset("tiny", cache_dir=tmp_path / "cache", base_url=server[0]).path
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def test_download_is_silent(tiny, server, tmp_path, capfd):
    load_dataset("tiny", base_url=server[0], cache_dir=tmp_path / "cache")
    assert capfd.readouterr() == ("", "")


def test_a_download_that_breaks_off_leaves_nothing(tiny, server, tmp_path):
    address, _, handler = server
    handler.cut = frozenset({"/some/Tiny.csv"})
    cache = tmp_path / "cache"
    with pytest.raises((ValueError, FileNotFoundError), match=r"some/Tiny.csv") as caught:
        load_dataset("tiny", base_url=address, cache_dir=cache)
    assert one_line(caught)
    assert files_in(cache) == []
    handler.cut = frozenset()
    assert load_dataset("tiny", base_url=address, cache_dir=cache).path.is_file()


def test_a_wrong_download_leaves_nothing(tiny, server, tmp_path):
    address, folder, _ = server
    (folder / "some" / "Tiny.csv").write_bytes(b"<html>a page</html>\n")
    with pytest.raises(
        ValueError, match=rf"^{address}/some/Tiny.csv is not what card tiny describes"
    ) as caught:
        load_dataset("tiny", base_url=address, cache_dir=tmp_path / "cache")
    assert one_line(caught)
    assert files_in(tmp_path / "cache") == []


def test_a_wrong_file_in_the_cache_is_an_error(tiny, server, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "Tiny.csv").write_bytes(b"wrong\n")
    with pytest.raises(ValueError, match=r"its sha256 is .* remove it and get"):
        load_dataset("tiny", base_url=server[0], cache_dir=tmp_path)


def test_a_file_of_another_data_set_in_the_cache_is_not_taken(tiny, server, tmp_path):
    (tmp_path / "small").mkdir()
    for folder in (tmp_path, tmp_path / "small"):
        (folder / "Tiny.csv").write_bytes(b"wrong\n")
    data = load_dataset("tiny", base_url=server[0], cache_dir=tmp_path)
    assert data.path.read_bytes() == tiny_bytes()


def test_no_network(tiny, closed, tmp_path):
    (tmp_path / "empty").mkdir()
    cache = tmp_path / "cache"
    with pytest.raises(FileNotFoundError, match="cannot be downloaded") as caught:
        load_dataset("tiny", tmp_path / "empty", base_url=closed, cache_dir=cache)
    assert (
        str(caught.value)
        == f"neither Tiny.csv nor Tiny.csv.gz is in {tmp_path / 'empty'} or in {cache / 'tiny'}, and"
        f" {closed}/some/Tiny.csv cannot be downloaded (ConnectionError); get some/Tiny.csv from"
        " https://example.org/tiny and put it as Tiny.csv into the data folder"
    )
    assert files_in(cache) == []


def test_the_real_address_is_unreachable_here(tmp_path):
    # the tests block all but this machine, so this is what a user without network sees
    with pytest.raises(
        FileNotFoundError, match=r"neither ETTh1.csv nor ETTh1.csv.gz is in .*ETDataset"
    ) as caught:
        load_dataset("ETTh1", cache_dir=tmp_path)
    assert one_line(caught)


def test_file_missing_on_the_server(tiny, server, tmp_path):
    address, folder, _ = server
    (folder / "some" / "Tiny.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"cannot be downloaded \(the server answers 404\); get"
    ):
        load_dataset("tiny", base_url=address, cache_dir=tmp_path)


def test_verify_never_downloads(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "_download", lambda *_: pytest.fail("verify went to the network"))
    with pytest.raises(
        FileNotFoundError, match=r"neither Tiny.csv nor .*run `tsattn datasets fetch tiny` or get"
    ):
        verify("tiny", tmp_path, cache_dir=tmp_path / "cache")


def test_cache_that_cannot_be_written(tiny, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=r"cannot write to the cache folder .*name another with cache_dir, or get"
    ):
        load_dataset("tiny", cache_dir=tmp_path / "file")


def test_the_default_cache_is_the_users(tiny, here, monkeypatch, tmp_path):
    import pooch

    users = tmp_path / "users"
    users.mkdir()
    shutil.copytree(here, users / "tiny")
    monkeypatch.setattr(
        pooch, "os_cache", lambda project: users if project == "tsattn" else tmp_path
    )
    assert load_dataset("tiny").path == users / "tiny" / "Tiny.csv"


# ---------------------------------------------------------------- irregular stamps and sentinels

POSITION = 'stamps = "position"\nrepeats = 1\ngaps = 1'
SENTINEL = '[sentinel]\nvalue = -9999\ncounts = { b = 2 }\npolicy = "keep"\n[split]'


def odd_bytes():
    stamps = pd.Series(pd.date_range("2020-01-01", periods=ROWS, freq="h"))
    stamps[5:] -= pd.Timedelta(1, "h")
    stamps[20:] += pd.Timedelta(3, "h")
    b = np.arange(ROWS, dtype=float)
    b[[7, 8]] = -9999
    frame = pd.DataFrame({"date": stamps.astype(str), "a": 1.5, "b": b})
    return frame.to_csv(index=False, lineterminator="\n").encode()


@pytest.fixture
def odd(tiny, here, tmp_path):
    """The tiny card and file with one repeated stamp, one gap and two sentinels."""
    (here / "Tiny.csv").write_bytes(odd_bytes())
    path = tmp_path / "cards" / "tiny.toml"
    text = path.read_text(encoding="utf-8")
    for old, new in (
        (hashlib.sha256(tiny_bytes()).hexdigest(), ""),
        ('stamps = "own"', POSITION),
        ("2020-01-02 15:00:00", "2020-01-02 17:00:00"),
        ("[split]", SENTINEL),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return path


def test_stamps_by_position(odd, here):
    data = load_dataset("tiny", here)
    assert list(data.panel.times[:ROWS]) == list(
        pd.date_range("2020-01-01", periods=ROWS, freq="h")
    )
    assert data.stamps[5] == data.stamps[4]
    assert data.stamps[20] - data.stamps[19] == pd.Timedelta(4, "h")
    assert data.panel.lengths.tolist() == [ROWS, ROWS]


def test_months_by_position(odd, here):
    months = pd.date_range("2020-01-01", periods=ROWS + 2, freq="MS")
    hours = pd.date_range("2020-01-01", periods=ROWS + 2, freq="h")
    text = (here / "Tiny.csv").read_text(encoding="utf-8")
    card = odd.read_text(encoding="utf-8").replace('frequency = "h"', 'frequency = "MS"')
    # From the last hour on, so that no month is taken for an hour.
    for hour, month in zip(hours[::-1], months[::-1], strict=True):
        text = text.replace(str(hour), f"{month:%Y-%m-%d}")
        card = card.replace(str(hour), f"{month:%Y-%m-%d}")
    (here / "Tiny.csv").write_text(text, encoding="utf-8")
    odd.write_text(card, encoding="utf-8")
    assert list(load_dataset("tiny", here).panel.times[:ROWS]) == list(months[:ROWS])


def test_the_same_file_is_refused_with_its_own_stamps(odd, here):
    odd.write_text(odd.read_text(encoding="utf-8").replace("position", "own"), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"Tiny.csv is not what card tiny describes: .*2020-01-01 04:00"
    ):
        load_dataset("tiny", here)


def test_other_irregularities_than_the_card_counts_are_refused(odd, here):
    raw = (here / "Tiny.csv").read_bytes()
    (here / "Tiny.csv").write_bytes(raw.replace(b"2020-01-01 07:00", b"2020-01-01 07:20"))
    message = "its stamps have 1 repeats, 1 gaps and 1 other irregular steps instead of 1, 1 and 0"
    with pytest.raises(ValueError, match=message):
        load_dataset("tiny", here)


def test_sentinels_are_kept_or_made_missing_by_policy(odd, here):
    kept_panel = load_dataset("tiny", here).panel
    assert (columns_of(kept_panel)[[7, 8], 1] == -9999).all()
    assert kept_panel.missing == "error"
    for policy in ("ffill", "interpolate"):
        panel = load_dataset("tiny", here, sentinels=policy).panel
        assert panel.missing == policy
        assert np.argwhere(np.isnan(columns_of(panel))).tolist() == [[7, 1], [8, 1]]
    odd.write_text(odd.read_text(encoding="utf-8").replace('"keep"', '"ffill"'), encoding="utf-8")
    assert load_dataset("tiny", here).panel.missing == "ffill"
    assert load_dataset("tiny", here, sentinels="keep").panel.missing == "error"
    with pytest.raises(
        ValueError, match=r"sentinels must be None \(the card's\) or one of .*; got 'drop'"
    ):
        load_dataset("tiny", here, sentinels="drop")


def test_other_sentinels_than_the_card_counts_are_refused(odd, here):
    raw = (here / "Tiny.csv").read_bytes()
    (here / "Tiny.csv").write_bytes(raw.replace(b"1.5,3.0", b"-9999,3.0"))
    with pytest.raises(
        ValueError, match=r"-9999 stands in its columns {'a': 1, 'b': 2} instead of {'b': 2} times"
    ):
        load_dataset("tiny", here)
