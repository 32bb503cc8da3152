"""Planted breaks in rows that continue a fit."""

from mutants import Mutant

JOINED = "tests/data/test_joining.py"
JOINING = "tsattn/data/joining.py"
PANEL = "tsattn/data/panel.py"

MUTANTS = [
    Mutant(
        PANEL,
        "text_by_number.get(number, str(number))",
        "str(number)",
        f"{JOINED}::test_numbers_name_the_series_whose_text_spells_them",
    ),
    Mutant(
        JOINING,
        "np.repeat(as_objects(panel.ids), panel.lengths)",
        "np.repeat(panel.ids, panel.lengths)",
        f"{JOINED}::test_stamps_may_name_series",
    ),
    Mutant(
        JOINING,
        "dialect = replace(new.dialect, columns=tuple(columns))",
        "dialect = new.dialect",
        f"{JOINED}::test_whole_numbers_and_their_text_name_the_same_columns",
    ),
    Mutant(
        JOINING,
        "if _has_one_column(old) and _has_one_column(new):",
        "if False:",
        f"{JOINED}::test_a_series_without_a_name_continues_the_only_one",
    ),
    Mutant(JOINING, "_refuse_other_columns(old, new)\n    kinds", "kinds", JOINED),
    Mutant(
        "tsattn/data/frames.py",
        "rules = replace(rules, known=known, day_first=day_first)",
        "rules = replace(rules, day_first=day_first)",
        f"{JOINED}::test_the_first_new_rows_may_hold_no_value",
    ),
    Mutant(
        "tsattn/data/tables.py",
        "groupby(table.codes).ffill()",
        "bfill()",
        f"{JOINED}::test_blank_columns_of_new_rows_take_the_values_before_them",
    ),
    Mutant(
        JOINING,
        'column.map(label, na_action="ignore")',
        "column.map(label)",
        f"{JOINED}::test_blank_columns_of_new_rows_take_the_values_before_them",
    ),
    Mutant(
        PANEL,
        "column[rows] = _carried(column, panel.starts)[rows]",
        "column[:] = _carried(column, panel.starts)",
        f"{JOINED}::test_numbers_for_missing_values_leave_the_first_new_rows_blank",
    ),
    Mutant(
        JOINING,
        "return _numbered_on(last, known_alike(last, new)) if are_numbered else new",
        "return new",
        f"{JOINED}::test_rows_without_stamps_follow_those_of_the_fit",
    ),
    Mutant(
        JOINING,
        "if n_equal and is_same and old_values.min() < old_values.max():",
        "if False:",
        f"{JOINED}::test_numbers_of_rows_say_where_these_belong",
    ),
    Mutant(
        JOINING,
        "if n_equal >= _LEAST_REPEATED * n_values > 0:",
        "if False:",
        f"{JOINED}::test_rows_that_may_follow_or_begin_with_those_of_the_fit_are_refused",
    ),
    Mutant(
        JOINING,
        "_require_row_numbers(last)\n    new",
        "new",
        f"{JOINED}::test_rows_without_stamps_are_refused_after_rows_with_some",
    ),
    Mutant(
        "tsattn/data/spelling.py",
        "if parts == [stamp.day, stamp.month]:\n        return True",
        "if parts == [stamp.day, stamp.month]:\n        return None",
        f"{JOINED}::test_later_dates_are_read_in_the_order_of_the_fit",
    ),
    Mutant(
        "tsattn/data/stored.py",
        '"day_first": dialect.day_first,',
        "",
        f"{JOINED}::test_later_dates_are_read_in_the_order_of_the_fit",
    ),
]
