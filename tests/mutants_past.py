"""Planted breaks in filled gaps and flagged values."""

from mutants import Mutant

FILLING = "tsattn/filling.py"
ANOMALY = "tsattn/anomaly.py"
TWO_SIDES = "tsattn/two_sides.py"
FILLED = "tests/test_filling.py"
FLAGGED = "tests/test_anomaly.py"

MUTANTS = [
    Mutant(FILLING, '"their columns stay empty" if is_wide', '"" if is_wide', FILLED),
    Mutant(FILLING, "later * backwards[:, -2::-1]", "later * backwards[:, :-1]", FILLED),
    Mutant(FILLING, "joined = earlier * joined_ahead", "joined = later * joined_ahead", FILLED),
    Mutant(FILLING, "(n_between > 0) & (np.diff(owner) == 0)", "n_between > 0", FILLED),
    Mutant(FILLING, "_MIXTURES[mean_errors.argmin()]", "_MIXTURES[mean_errors.argmax()]", FILLED),
    Mutant(
        "tsattn/data/frames.py",
        "replace(_rules(schema, None), fills_covariates=False)",
        "_rules(schema, None)",
        FILLED,
    ),
    Mutant(FILLING, "return nearest[..., 0]", "return answer", FILLED),
    Mutant(FILLING, "values[rows] = np.nan", "pass", FILLED),
    Mutant(FILLING, "gaps.take(holds_missing)", "gaps", FILLED),
    Mutant(TWO_SIDES, "is_inside = rows >= first_rows[:, None]", "is_inside = rows >= 0", FILLED),
    Mutant(TWO_SIDES, "np.arange(CONTEXT)[::-1]", "np.arange(CONTEXT)", FLAGGED),
    Mutant(ANOMALY, "[:, :, ::-1]", "", FLAGGED),
    Mutant(
        ANOMALY,
        "one_side = np.where(np.isnan(forwards), backwards, forwards)",
        "one_side = mean",
        FLAGGED,
    ),
    Mutant(ANOMALY, "above = beyond * ", "above = ", FLAGGED),
    Mutant(
        ANOMALY,
        "is_inside = rows < stop_rows[:, None]",
        "is_inside = rows < len(panel.values)",
        FLAGGED,
    ),
    Mutant(
        ANOMALY,
        "share = np.where(is_one_constant, 1 - share, share)",
        "share = np.where(is_one_constant, share, share)",
        f"{FLAGGED}::test_values_beside_a_constant_stretch_are_not_flagged",
    ),
]
