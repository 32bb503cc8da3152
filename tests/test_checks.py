"""Errors that name a parameter: spelt for Python, spelt for the command line, and never by hand."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import tsattn
from tsattn import backtest, fill, forecast, make_forecaster
from tsattn.checks import Argument, InputError, InPython, Name, check_choice, check_whole, pieces_of
from tsattn.forecasters.naive import Naive

PACKAGE = Path(tsattn.__file__).parent
OPTIONS = {"missing": "--missing", "n_windows": "--n-windows"}
# Parameters of Python that are options of the command line.
PARAMETERS = (
    "id_col|time_col|target_col|freq|missing|past_cols|future_cols|static_cols|calendar|horizon"
    "|context|max_epochs|season_length|max_time|future|n_windows|step_size"
)


class Doubled(Naive):
    """A forecaster of a user's own, between two parts of the package."""

    def fit(self, data, y=None, **options):
        return super().fit(data, y, **options)


@pytest.mark.parametrize(
    "call",
    [
        lambda df: forecast(df, 3, model="ridge"),
        lambda df: forecast(df, 3),
        lambda df: make_forecaster("dlinear", 3, max_epochs=1).fit(df),
        lambda df: backtest([Doubled(3), make_forecaster("zero", 3)], df, n_windows=2),
        lambda df: make_forecaster("naive", 3).fit(df[:50]).update(df[50:]),
        fill,
    ],
)
def test_a_warning_names_the_line_that_called_the_package(call):
    days = pd.date_range("2024-01-01", periods=90)
    df = pd.DataFrame({"ds": days, "y": np.random.default_rng(0).normal(20, 1, 90)})
    df.loc[[40, 60], "y"] = -9999
    with pytest.warns(UserWarning, match="-9999") as caught:
        call(df)
    own_line = call.__code__.co_firstlineno if call is not fill else caught[0].lineno
    assert {(record.filename, record.lineno) for record in caught} == {(__file__, own_line)}


def test_a_message_has_two_spellings():
    error = InputError(
        Name("n_windows"), " is 3; pass ", Argument("missing", "mask"), InPython(", or call fit()")
    )
    assert str(error) == "n_windows is 3; pass missing='mask', or call fit()"
    assert error.for_command_line(OPTIONS) == "--n-windows is 3; pass --missing mask"
    assert error.for_command_line({}) == "n_windows is 3; pass missing='mask'"


def test_an_argument_may_leave_its_value_open():
    error = InputError("choose a policy by ", Argument("missing"))
    assert str(error) == "choose a policy by missing="
    assert error.for_command_line(OPTIONS) == "choose a policy by --missing"


def test_an_error_crosses_processes_with_its_pieces():
    error = pickle.loads(pickle.dumps(InputError("pass ", Argument("missing", "mask"))))
    assert error.for_command_line(OPTIONS) == "pass --missing mask"


def test_an_error_that_says_more_keeps_the_pieces():
    inner = InputError("pass ", Argument("missing", "mask"))
    assert InputError("mlr: ", *pieces_of(inner)).for_command_line(OPTIONS) == (
        "mlr: pass --missing mask"
    )
    assert pieces_of(ValueError("plain")) == ("plain",)


@pytest.mark.parametrize("value", [1, np.int64(1)])
def test_whole_numbers_are_ints(value):
    checked = check_whole("n_windows", value)
    assert (checked, type(checked)) == (1, int)


@pytest.mark.parametrize("value", [0, 1.0, "1", True, None, np.float64(1)])
def test_other_values_are_refused(value):
    message = f"n_windows must be a whole number of at least 1; got {value!r}"
    with pytest.raises(InputError, match=re.escape(message)):
        check_whole("n_windows", value)


def test_a_number_is_no_choice_of_true_or_false():
    for value in (True, np.True_, "auto"):
        check_choice("scaled", value, (True, "auto"))
    check_choice("count", 1, (0, 1))
    for value, choices in ((1, (True, "auto")), (1.0, (True, "auto")), (True, (0, 1))):
        with pytest.raises(InputError, match=f"must be one of .*; got {value!r}"):
            check_choice("scaled", value, choices)


def hand_spelt(source):
    """Texts of plain errors in which a parameter of the command line gets a value."""
    texts = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        if "InputError" in ast.unparse(node.exc):
            continue
        constants = [part for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
        text = "".join(part.value for part in constants if isinstance(part.value, str))
        if re.search(rf"\b({PARAMETERS})=", text):
            texts.append(text)
    return texts


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_plain_error_spells_an_option_for_python(path):
    assert hand_spelt(path.read_text(encoding="utf-8")) == []


def test_a_hand_spelt_option_is_found():
    assert hand_spelt('raise ValueError(f"{x} is odd; pass freq=")') == [" is odd; pass freq="]
