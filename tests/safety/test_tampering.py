"""Files that a stranger wrote: refused in one line, and able to do nothing else."""

import copy
import functools
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_forecasters import attention, linear
from tables import long_frame, wide_frame

from tsattn.forecasters.attention import AttentionForecaster
from tsattn.forecasters.linear import LinearForecaster
from tsattn.forecasts import Forecast
from tsattn.storage import file_digest


class Bomb:
    """What a pickle can do to its reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


TOUCHED = []  # what happened in this process while a file was read


def watch(name, args):
    if WATCHING and name.split(".")[0] in {
        "pickle",
        "exec",
        "compile",
        "subprocess",
        "marshal",
        "ctypes",
    }:
        TOUCHED.append((name, str(args)[:80]))


WATCHING = []
sys.addaudithook(watch)


def edited(change):
    """A change of config.json."""

    def apply(folder):
        facts = json.loads((folder / "config.json").read_text())
        change(facts)
        (folder / "config.json").write_text(json.dumps(facts))

    return apply


def retensored(change):
    """A change of the tensors, with the digest put right."""

    def apply(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")
        edited(lambda facts: facts.update(sha256=file_digest(folder / "model.safetensors")))(folder)

    return apply


def rewritten(change):
    """A change of the bytes of the tensors, with the digest put right."""

    def apply(folder):
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))
        edited(lambda facts: facts.update(sha256=file_digest(path)))(folder)

    return apply


def flip(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(bytes(content))


def bomb(folder):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb(folder / "exploded")))


def bombed_facts(folder):
    (folder / "config.json").write_bytes(pickle.dumps(Bomb(folder / "exploded")))


def torch_bomb(folder):
    torch.save({"network": Bomb(folder / "exploded")}, folder / "model.safetensors")
    edited(lambda facts: facts.update(sha256=file_digest(folder / "model.safetensors")))(folder)


def fifo_in_place_of(name):
    """A FIFO that nobody writes to: whoever opens it waits for ever."""

    def apply(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return apply


def misnamed(facts):
    facts["class"] = "os.system\n('reboot')"


def header(length):
    return lambda content: length.to_bytes(8, "little") + content[8:]


def panel_of(**changes):
    return edited(lambda facts: facts["panel"].update(changes))


def dialect_of(**changes):
    return edited(lambda facts: facts["panel"]["dialect"].update(changes))


TAMPERINGS = {
    "tensors cut short": (rewritten(lambda content: content[:-100]), "is damaged"),
    "tensors cut short, digest as it was": (
        lambda f: os.truncate(f / "model.safetensors", 900),
        "not the file that its",
    ),
    "empty tensors": (rewritten(lambda content: b""), "is damaged"),
    "one bit": (flip, "not the file that its config.json names"),
    "header as long as the world": (rewritten(header(2**63)), "is damaged"),
    "header longer than the file": (rewritten(header(10**6)), "is damaged"),
    "offsets out of the file": (
        rewritten(
            lambda c: re.sub(rb"\[\d+,(\d+)\]", lambda m: m[0].replace(m[1], b"9" * len(m[1])), c)
        ),
        "is damaged",
    ),
    "pickle for tensors": (bomb, "is damaged"),
    "torch file for tensors": (torch_bomb, "is damaged"),
    "pickle for facts": (bombed_facts, "no valid JSON"),
    "folder for facts": (
        lambda f: [(f / "config.json").unlink(), (f / "config.json").mkdir()],
        "must be a file; got a folder",
    ),
    "facts without end": (lambda f: (f / "config.json").write_text("[" * 10**5), "no valid JSON"),
    "a number without end": (
        lambda f: (f / "config.json").write_text('{"format": ' + "9" * 5000 + "}"),
        "no valid JSON",
    ),
    "a newer format": (
        edited(lambda f: f.update(format=4)),
        "has format 4; this version reads up to 3: upgrade tsattn",
    ),
    "a class of the system": (edited(misnamed), "load it with"),
    "missing facts": (edited(lambda f: f.pop("network")), "KeyError: 'network'"),
    "missing parameters": (edited(lambda f: f.update(parameters=[])), "is not what save"),
    "a FIFO for facts": (fifo_in_place_of("config.json"), "got a FIFO, a socket or a device"),
    "a FIFO for tensors": (
        fifo_in_place_of("model.safetensors"),
        "got a FIFO, a socket or a device",
    ),
    "a dropout of all": (
        edited(lambda f: f["network"].update(dropout=1.0)),
        "dropout must be at least 0 and below 1; got 1.0",
    ),
    "a missing tensor": (
        retensored(lambda t: t.pop("network.head.weight", t.pop(sorted(t)[2]))),
        "is not what save",
    ),
    "a stranger's tensor": (
        retensored(lambda t: t.update({"network.evil": torch.zeros(2)})),
        "is not what save",
    ),
    "weights that are no numbers": (
        retensored(
            lambda t: next(v for k, v in t.items() if k.startswith("network.")).fill_(torch.nan)
        ),
        "are not finite",
    ),
    "a scale of zero": (
        retensored(lambda t: t["scaler.scale"].zero_()),
        "scale that is not above 0",
    ),
    "values that are no numbers": (
        retensored(lambda t: t["tail.values"].fill_(torch.inf)),
        "values or their policy are wrong",
    ),
    "series that overlap": (
        retensored(lambda t: t["tail.starts"].fill_(7)),
        "series do not fit the rows",
    ),
    "stamps in disorder": (
        retensored(lambda t: t.update({"tail.times": t["tail.times"].flip(0)})),
        "off frequency",
    ),
    "a network for a giant": (
        edited(lambda f: f["network"].update(d_model=2**40, n_heads=1)),
        "d_model = 1099511627776",
    ),
    "layers without end": (
        edited(lambda f: f["network"].update(n_layers=10**9)),
        "n_layers = 1000000000 fits no",
    ),
    "a horizon as text": (edited(lambda f: f["parameters"].update(horizon="4")), "horizon = '4'"),
    "a path for a zone": (panel_of(times="stamps in ../../../../etc/passwd"), "names no time zone"),
    "a file for a zone": (panel_of(times="stamps in dateutil//etc/passwd"), "names no time zone"),
    "ids of objects": (panel_of(ids_dtype="V100000000000"), "ids of 'V1"),
    "ids of another number": (panel_of(ids=["a", "b", "c"]), "series do not fit the rows"),
    "ids that are lists": (panel_of(ids=[["s0"]]), "ids of type list"),
    "a type that is none": (dialect_of(kind="long", id_dtype="os.system"), "is not what save"),
    "a type of records": (dialect_of(kind="long", id_dtype="f4,i4"), "ids of 'f4,i4'"),
    "a column that is a list": (dialect_of(time_col=["ds"]), "time_col of type list"),
    "another frequency": (panel_of(freq="W-MON"), "off frequency"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved model, to be copied before it is tampered with."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    attention(max_epochs=1).fit(wide_frame().tz_localize("Europe/Berlin")).save(folder)
    return folder


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_tampered_models_are_refused_in_one_line_and_run_nothing(tampering, saved, tmp_path):
    tamper, message = TAMPERINGS[tampering]
    folder = shutil.copytree(saved, tmp_path / "model")
    AttentionForecaster.load(folder)
    tamper(folder)
    TOUCHED.clear()
    WATCHING.append(True)
    try:
        with pytest.raises(ValueError, match=re.escape(message)) as refusal:
            AttentionForecaster.load(folder)
    finally:
        WATCHING.clear()
    assert type(refusal.value) is ValueError
    assert str(refusal.value).isprintable()
    assert 40 < len(str(refusal.value)) < 700
    assert TOUCHED == []
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (
            lambda t: t.update({"intervals.scales": t["intervals.scales"][:1]}),
            "intervals.scales holds float64 of shape",
        ),
        (
            lambda t: t.update({"intervals.per_step": t["intervals.per_step"].float()}),
            "intervals.per_step holds float32 of shape (1,)",
        ),
        (lambda t: t["intervals.scales"].fill_(0), "scales of errors are not above 0 and finite"),
        (
            lambda t: t["intervals.per_step"].fill_(torch.inf),
            "scales of errors are not above 0 and finite",
        ),
        (lambda t: t["intervals.scales"].fill_(torch.nan), "no series has a scale of errors"),
        (lambda t: t.pop("intervals.per_step"), "intervals.per_step"),
    ],
)
def test_tampered_scales_of_errors_are_refused(tamper, message, tmp_path):
    attention(max_epochs=1).fit(long_frame(2)).save(tmp_path)
    AttentionForecaster.load(tmp_path)
    retensored(tamper)(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        AttentionForecaster.load(tmp_path)


def test_what_is_watched_for_is_seen(tmp_path):
    TOUCHED.clear()
    WATCHING.append(True)
    try:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))
    finally:
        WATCHING.clear()
    assert (tmp_path / "exploded").exists()
    assert "pickle.find_class" in {name for name, _ in TOUCHED}


def places(facts, path=()):
    """Paths to every value of nested dicts and lists."""
    inner = (
        facts.items()
        if isinstance(facts, dict)
        else enumerate(facts)
        if isinstance(facts, list)
        else ()
    )
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


STRANGE = [None, True, -1, 0, 10**30, 2.5, float("nan"), "x", "\n", [], [1, 2], {}, {"a": None}]


def answered_or_refused(load):
    """Load and forecast: whether it was answered, and not refused in one line."""
    try:
        frame = load().predict()
    except ValueError as error:
        message = str(error)
    else:
        numbers = (
            frame.point
            if isinstance(frame, Forecast)
            else frame.select_dtypes("number").to_numpy(np.float64)
        )
        assert np.isfinite(numbers).all()
        return True
    assert message.isprintable(), message
    assert len(message) < 900
    return False


def tamper_with_facts(folder, make, most):
    """Every value of config.json, replaced by ``most`` strange ones and left out; how many changes
    were refused.
    """
    facts = json.loads((folder / "config.json").read_text())
    rng = np.random.default_rng(0)
    refused = 0
    for path in places(facts):
        if path[:1] == ("history",) and len(path) > 2:
            continue
        for choice in (-1, *rng.permutation(len(STRANGE))[:most]):
            changed = copy.deepcopy(facts)
            at = functools.reduce(lambda inner, key: inner[key], path[:-1], changed)
            if choice < 0:
                del at[path[-1]]
            else:
                at[path[-1]] = STRANGE[choice]
            (folder / "config.json").write_text(json.dumps(changed))
            refused += not answered_or_refused(lambda: make.load(folder))
    return refused


def test_no_fact_of_a_file_can_do_more_than_be_refused(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "wide")
    assert tamper_with_facts(folder, AttentionForecaster, 1) > 80


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wide", "long"])
def test_no_fact_of_a_file_can_do_more_than_be_refused_whatever_it_says(
    kind, saved, tmp_path, record_testsuite_property
):
    folder = tmp_path / "model"
    if kind == "wide":
        shutil.copytree(saved, folder)
    else:
        linear(max_epochs=1).fit(long_frame(2).astype({"unique_id": "category"})).save(folder)
    make = AttentionForecaster if kind == "wide" else LinearForecaster
    refused = tamper_with_facts(folder, make, len(STRANGE))
    record_testsuite_property(f"changed facts of a {kind} model refused", str(refused))
    assert refused > 300


def test_no_byte_of_a_file_can_do_more_than_be_refused(saved, tmp_path):
    """Bytes of a file without digest, as older versions wrote them, are changed one at a time."""
    folder = shutil.copytree(saved, tmp_path / "model")
    edited(lambda facts: facts.pop("sha256"))(folder)
    path = folder / "model.safetensors"
    rng = np.random.default_rng(0)
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(8), *rng.integers(8, start, 150), *rng.integers(start, len(whole), 60)]
    refused = 0
    for place in places:
        content = bytearray(whole)
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(content))
        refused += not answered_or_refused(lambda: AttentionForecaster.load(folder))
    assert refused > 100
