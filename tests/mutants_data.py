"""Planted breaks in tables, evaluation, forecasters, distributed work and adapters."""

from mutants import Mutant

FORECASTER = "tests/test_forecaster.py"
BACKTEST = "tests/evaluate/test_backtest.py"
ROLLING = "tests/evaluate/test_rolling.py"
CONFORMAL = "tests/evaluate/test_conformal.py"
BASELINES = "tests/forecasters/test_naive.py"
WINDOWS = "tests/data/test_windows.py"
FRAMES = "tests/data/test_frames.py"
CLOSED = "tests/data/test_closed.py"
MISSING = "tests/forecasters/test_missing_values.py"
FITTING = "tests/forecasters/test_fitting.py"
PRETRAINED = "tests/forecasters/test_pretrained.py"
RECURSIVE = "tests/forecasters/test_recursive.py"
STATISTICAL = "tests/forecasters/test_classical.py"
REGRESSION = "tests/forecasters/test_regression.py"
DEEP = "tests/forecasters/test_gluonts.py"
DISTRIBUTED = "tests/test_distributed.py"
ADAPTERS = "tests/adapters/test_adapters.py"
JOINING = "tests/data/test_joining.py"
BAD = "tests/data/test_bad_series.py"
PARTS = "tests/data/test_parts.py"
SPELLINGS = "tests/data/test_spelling.py"
UNEVEN = "tests/data/test_uneven.py"
ODD = "tests/data/test_odd_inputs.py"
TABLES = "tests/data/test_tables.py"
FILES = "tests/data/test_files.py"
ANSWERS = "tests/forecasters/test_future_columns.py"
METRICS = "tests/evaluate/test_metrics.py"
PLOTTING = "tests/test_plotting.py"
SPELLING = "tsattn/data/spelling.py"
COLUMNS = "tsattn/data/columns.py"
TEXT_STAMPS = "tsattn/data/text_stamps.py"

MUTANTS = [
    # tables
    Mutant(
        "tsattn/forecasts.py",
        'has_alias=dialect.kind == "long"',
        "has_alias=True",
        f"{FORECASTER}::test_two_columns_of_one_name_are_refused",
    ),
    Mutant(
        "tsattn/totals.py",
        "refuse_twice(taken, has_alias=False)",
        "pass",
        "tests/test_totals.py::test_an_alias_is_no_remedy_for_a_column_of_rows",
    ),
    Mutant(
        "tsattn/evaluate/backtest.py", "refuse_twice(columns, has_alias=False)", "pass", BACKTEST
    ),
    Mutant(
        "tsattn/catalogue.py",
        "if not future_cols:",
        "if False:",
        f"{PRETRAINED}::test_one_call_takes_any_model_and_the_columns_that_it_reads",
    ),
    Mutant("tsattn/data/grid.py", "clipped | (numbers == days[-1])", "numbers == days[-1]", CLOSED),
    Mutant(
        "tsattn/data/calendar.py",
        "if share < 1:",
        "if False:",
        CLOSED,
    ),
    Mutant(
        "tsattn/data/joining.py",
        "if old.dialect.id_col is not None and new.dialect.id_col is None",
        "if False",
        f"{JOINING}::test_new_rows_without_ids_are_refused_where_the_fit_has_ids",
    ),
    Mutant(
        "tsattn/data/joining.py", "table = _to_one_end(table, id_col, time_col)", "pass", JOINING
    ),
    Mutant(
        "tsattn/data/joining.py",
        "pd.CategoricalDtype(pd.Index(old.ids), new_kinds.ordered)",
        "new_kinds",
        JOINING,
    ),
    Mutant(
        "tsattn/data/panel.py",
        "old_by_text.get(text, default)",
        "name",
        JOINING,
    ),
    Mutant(
        "tsattn/data/keys.py",
        "_plain_text(value).replace(",
        "str(value).replace(",
        JOINING,
    ),
    Mutant(
        "tsattn/data/panel.py",
        "if len(gaps) < _LEAST_GAPS or gaps.min() == 1:",
        "if True:",
        JOINING,
    ),
    Mutant(
        "tsattn/evaluate/intervals.py",
        "most = n / (n + 1) + 10.0**-_RANK_DECIMALS",
        "most = 1.0",
        "tests/test_totals.py",
    ),
    Mutant("tsattn/distributed.py", "source = replace(source, panel=panel)", "pass", DISTRIBUTED),
    Mutant("tsattn/suite.py", "del table[name]", "pass", "tests/test_benchmark.py"),
    Mutant(
        "tsattn/data/panel.py",
        'if panel.missing != "mask" or has_value.all() or not has_value.any():',
        "if has_value.all() or not has_value.any():",
        BAD,
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "row_parts.append(ends[owners] - windows.shape[1] + steps)",
        "row_parts.append(ends[owners] - n_rows + steps)",
        BAD,
    ),
    Mutant(
        "tsattn/data/layouts.py",
        "lambda day: day.isocalendar()[:2]",
        "lambda day: (day.year, day.isocalendar()[1])",
        ODD,
    ),
    Mutant(
        "tsattn/data/frames.py",
        "tuple(df[key].infer_objects().dtype for key in key_cols)",
        "tuple(df[key].dtype for key in key_cols)",
        "tests/data/test_keys.py",
    ),
    Mutant(
        "tsattn/data/tables.py",
        "rows = np.flatnonzero(is_repeated)",
        "rows = clock[:0]",
        FRAMES,
    ),
    Mutant(
        "tsattn/data/tables.py",
        'if gaps.any() and rules.missing == "error":',
        'if gaps.any() and rules.missing == "ffill":',
        FRAMES,
    ),
    Mutant(
        "tsattn/data/panel.py",
        "values = np.where(np.isnan(self.values), np.nan, self.values)",
        "values = np.round(self.values, 6)",
        FRAMES,
    ),
    Mutant(
        "tsattn/data/frames.py",
        'missing=schema.missing or "mask"',
        'missing="mask"',
        PRETRAINED,
    ),
    Mutant(
        "tsattn/data/windows.py",
        "next_row[rows] >= ends[:, None, None]",
        "next_row[rows] > ends[:, None, None]",
        WINDOWS,
    ),
    Mutant(
        "tsattn/data/training_windows.py",
        "stop - self.horizon - lowest + 1",
        "stop - self.horizon - lowest",
        WINDOWS,
    ),
    Mutant(
        "tsattn/data/training_windows.py",
        "return self._passes * -(-self.n_windows // self.batch_size)",
        "return self._passes * (self.n_windows // self.batch_size)",
        WINDOWS,
    ),
    Mutant("tsattn/data/windows.py", "x[rows < first[:, None]] = np.nan", "pass", PRETRAINED),
    Mutant(
        "tsattn/data/windows.py",
        "(n_quarters_touching >= _COUNT_QUARTERS)",
        "(n_quarters_touching >= 1)",
        WINDOWS,
    ),
    Mutant(
        "tsattn/data/windows.py",
        "ends = panel.lengths if stops is None else",
        "ends = panel.lengths if True else",
        WINDOWS,
    ),
    Mutant(
        "tsattn/data/tables.py",
        "if rules.tells:\n            _tell_carried",
        "if False:\n            _tell_carried",
        "tests/data/test_covariates.py",
    ),
    Mutant(
        "tsattn/data/tables.py",
        "is_blank = shares.to_numpy() > 0.5",
        "is_blank = shares.to_numpy() == 1",
        "tests/data/test_covariates.py",
    ),
    Mutant(
        "tsattn/data/future.py",
        "return panel.covariates.new_categories(columns)",
        "return {}",
        "tests/forecasters/test_text_covariates.py",
    ),
    Mutant(
        "tsattn/data/covariates.py",
        'if kind == "string":',
        'if kind == "no":',
        "tests/data/test_covariates.py::"
        "test_spelt_numbers_that_are_read_as_categories_are_told_with_a_call_that_works",
    ),
    Mutant(
        "tsattn/data/covariates.py",
        "if not has_point.any():",
        "if False:",
        "tests/forecasters/test_text_covariates.py",
    ),
    Mutant(
        "tsattn/data/covariates.py",
        "= numbers[code_places]",
        "= code_places",
        "tests/forecasters/test_text_covariates.py",
    ),
    Mutant(
        "tsattn/data/future.py",
        "if len(names) and not (series >= 0).any():",
        "if False:",
        "tests/forecasters/test_future_columns.py",
    ),
    Mutant(
        "tsattn/data/future.py",
        "if not len(rows):",
        "if False:",
        "tests/forecasters/test_future_columns.py",
    ),
    Mutant(
        "tsattn/data/future.py",
        "names = names_alike(panel.ids, np.asarray(distinct, dtype=object))",
        "names = np.asarray(distinct, dtype=object)",
        "tests/forecasters/test_future_columns.py",
    ),
    Mutant(
        "tsattn/data/frames.py",
        "if column not in no_values and not numbers_rows(frame[column])",
        "if column not in no_values",
        "tests/data/test_keys.py",
    ),
    Mutant(
        "tsattn/data/calendar.py",
        'return remedy if fits_without else ""',
        "return remedy",
        "tests/data/test_frames.py",
    ),
    Mutant(
        "tsattn/data/joining.py",
        "_object_to_empty(old, new)\n        _tell",
        "_tell",
        "tests/data/test_joining.py",
    ),
    Mutant(
        "tsattn/benchmark.py",
        "_is_trained(model, settings) and not is_solved",
        "_is_trained(model, settings)",
        "tests/test_benchmark.py",
    ),
    Mutant(
        "tsattn/data/files.py",
        "detected = _OTHER_ENCODING",
        "detected = None",
        f"{FILES}::test_files_of_windows_are_read_and_told",
    ),
    Mutant(
        "tsattn/data/files.py",
        "chunk.startswith(_UTF16_MARKS)",
        "chunk.startswith(_UTF16_MARKS[1:])",
        f"{FILES}::test_unicode_is_read_without_a_word",
    ),
    Mutant(
        "tsattn/data/files.py",
        "frame = _with_grouped_numbers(frame)",
        "frame = frame.copy()",
        f"{FILES}::test_numbers_with_thousands_are_the_values_that_are_found",
    ),
    Mutant(
        "tsattn/filling.py",
        "tell_sentinels(panel, _KEPT)",
        'tell_sentinels(panel, "")',
        "tests/test_filling.py::test_numbers_that_often_stand_for_a_missing_value_are_told",
    ),
    Mutant(
        "tsattn/data/files.py",
        "frame.loc[:, is_named | has_cells]",
        "frame.loc[:, has_cells]",
        f"{FILES}::test_columns_without_name_and_cells_are_no_series",
    ),
    Mutant(
        "tsattn/data/stamp_errors.py",
        "elif len(read_cells):",
        "elif len(cells) == 0:",
        "tests/data/test_odd_inputs.py",
    ),
    Mutant(
        "tsattn/data/tables.py",
        "before = starts[n] + int(np.argmax(steps))",
        "before = starts[n]",
        "tests/data/test_bad_series.py",
    ),
    Mutant("tsattn/data/files.py", "(sheet.max_row or 2) > 1", "(sheet.max_row or 2) > 0", FILES),
    # tables of every kind
    Mutant(
        TEXT_STAMPS,
        "if zoned.any() and not zoned.all():",
        "if zoned.all() and not zoned.any():",
        ODD,
    ),
    Mutant(TEXT_STAMPS, "if stamps.notna().mean() > DATE_SHARE:", "if stamps.notna().all():", ODD),
    Mutant(TEXT_STAMPS, "(years or n_digits > 4)", "digits > 4", ODD),
    Mutant(
        "tsattn/data/spelling.py", "n_months * (int(number) - 1) + 1", "n_months * int(number)", ODD
    ),
    Mutant("tsattn/data/frames.py", "(next_series == 0) & later)", "(next_series == 0))", ODD),
    Mutant(
        "tsattn/data/panel.py",
        "return np.diff(rows)[counts], owners[1:][counts]",
        "return np.diff(rows), owners[1:]",
        JOINING,
    ),
    Mutant("tsattn/data/frames.py", "if has_value.all():", "if has_value.any():", BAD),
    Mutant("tsattn/data/layouts.py", "(length, MonthEnd(0), QuarterEnd(0))", "(length,)", ODD),
    Mutant(COLUMNS, "id_col in (time_col, target_col)", "id_col == time_col", ODD),
    Mutant("tsattn/cli.py", "        finally:\n", "        except KeyboardInterrupt:\n", ODD),
    Mutant(
        COLUMNS,
        'if unit != "integer":',
        "if True:",
        ODD,
    ),
    Mutant(SPELLING, "_DECIMAL_YEAR_ERROR = 0.002", "_DECIMAL_YEAR_ERROR = 0.05", ODD),
    Mutant(SPELLING, "_MIDDLE_OF_MONTH = 0.15", "_MIDDLE_OF_MONTH = 0.05", PARTS),
    Mutant(SPELLING, '"[kK]": "e3"', '"[kK]": ""', SPELLINGS),
    Mutant(SPELLING, "is_plain.mean() < least_plain", "False", SPELLINGS),
    Mutant(
        "tsattn/data/stamp_errors.py",
        "{is_end}.astype(int), 'D')",
        "{is_end}.astype(int), 'h')",
        PARTS,
    ),
    Mutant(SPELLING, '"%y%m%d": 6, "%Y%j": 7', '"%y%m%d": 6', PARTS),
    Mutant(
        COLUMNS,
        "except AmbiguousStampsError: continue",
        "except AmbiguousStampsError: return False",
        PARTS,
    ),
    Mutant(
        COLUMNS,
        "if all(map(is_numeric_dtype, df.dtypes)):",
        "if False:",
        PARTS,
    ),
    Mutant("tsattn/data/parts.py", '"he": "hour"', '"he": "day"', PARTS),
    Mutant("tsattn/data/part_columns.py", "if len(months) == _YEAR_MONTHS:", "if months:", PARTS),
    Mutant(
        "tsattn/data/calendar.py",
        "if len(other_series) and n_series > 1:",
        "if len(other_series) or n_series > 1:",
        UNEVEN,
    ),
    Mutant(
        "tsattn/data/calendar.py",
        "if times.tz is not None or has_even_steps(steps):",
        "if times.tz is not None:",
        UNEVEN,
    ),
    Mutant(
        "tsattn/data/calendar.py", "is_round = not (clock % step).any()", "is_round = False", UNEVEN
    ),
    Mutant(SPELLING, '(_SPAN, r"\\1"), ', "", SPELLINGS),
    Mutant(SPELLING, 'text.str.replace(_WEEKDAY_NAME, "", regex=True)', "text", SPELLINGS),
    Mutant(SPELLING, 'century = "20" if digits < "69" else "19"', 'century = "20"', SPELLINGS),
    Mutant(SPELLING, "n_months=6", "n_months=3", SPELLINGS),
    Mutant(SPELLING, "and text.max() > _LARGEST_INTEGER:", "and False:", SPELLINGS),
    Mutant(
        COLUMNS,
        "return is_named and _digits_read_as_times(column, codes)",
        "return _digits_read_as_times(column, codes)",
        SPELLINGS,
    ),
    Mutant(
        COLUMNS,
        "if numbers is not None and spell_dates(numbers):",
        "if False:",
        "tests/data/test_odd_inputs.py::test_a_table_is_forecast_or_refused",
    ),
    Mutant(
        SPELLING,
        'padded = padded.str.replace(r"24$", "23", regex=True)',
        "pass",
        "tests/data/test_odd_inputs.py::test_a_table_is_forecast_or_refused",
    ),
    Mutant(
        "tsattn/data/parts.py",
        "or is_blank.mean() < _MERGED_SHARE",
        "",
        "tests/data/test_keys.py::test_ids_and_days_of_merged_cells_are_repeated",
    ),
    Mutant("tsattn/data/parts.py", "or not values.between(low, high).all():", ":", PARTS),
    Mutant("tsattn/data/tables.py", "if is_equal.all():", "if False:", TABLES),
    Mutant("tsattn/data/tables.py", "or (may_be_times and spelt_call is None)", "or False", TABLES),
    Mutant("tsattn/data/tables.py", "if not has_numbers and table", "if False and table", TABLES),
    Mutant(
        "tsattn/data/tables.py",
        'f"{table.reading_call()[:-1]}, utc=True)"',
        'f"pd.to_datetime({table.dialect.time_place}, utc=True)"',
        TABLES,
    ),
    Mutant(
        "tsattn/data/layouts.py",
        "if not begins.equals(text) and",
        "if False and",
        "tests/data/test_clock_changes.py",
    ),
    Mutant(
        "tsattn/data/covariates.py",
        "if has_letters or are_digits:",
        "if False:",
        "tests/data/test_covariates.py::test_codes_and_words_are_categories_without_a_word",
    ),
    Mutant(
        COLUMNS, 'read_text(texts, "", None, None).notna().mean() > DATE_SHARE', "0 > 1", TABLES
    ),
    Mutant(COLUMNS, "are_whole=bool(unique)", "are_whole=False", TABLES),
    Mutant("tsattn/data/parts.py", "keys = words or others", "keys = others", TABLES),
    Mutant(COLUMNS, "for named in (dated, numeric):", "for named in (numeric,):", TABLES),
    Mutant("tsattn/data/uneven.py", "if n_series == 1:", "if n_series:", UNEVEN),
    Mutant("tsattn/data/part_columns.py", "({parts.first} +", "(0 +", PARTS),
    Mutant(
        "tsattn/data/part_columns.py",
        "if remainder or minutes[0] > step or not is_even:",
        "if remainder:",
        PARTS,
    ),
    Mutant("tsattn/data/part_columns.py", "if keys and call:", "if False:", PARTS),
    Mutant("tsattn/data/parts.py", 'layouts_of_kind = ("%Y%m%d",)', 'return ""', PARTS),
    Mutant(
        "tsattn/data/parts.py",
        "if not any(_VALUE.match(str(cell)) for cell in others):",
        "if not others:",
        PARTS,
    ),
    Mutant(COLUMNS, "bool(rises.all()) and is_even(", "bool(rises.all()) or is_even(", ODD),
    Mutant(COLUMNS, 'return part == "year" or', 'return part != "year" and', ODD),
    Mutant(COLUMNS, "numbers is None or not pd.Index(numbers).is_unique", "numbers is None", ODD),
    Mutant(
        "tsattn/data/frames.py",
        "numbers is None or numbers[0] == 0 or",
        "numbers is None or",
        ODD,
    ),
    Mutant(
        "tsattn/data/frames.py",
        "is_read = [str(column) not in like.left_out for column in frame.columns]",
        "is_read = [True for column in frame.columns]",
        ODD,
    ),
    Mutant(COLUMNS, "n_times != 1 or", "n_times < 1 or", ODD),
    Mutant(
        COLUMNS,
        "pattern).ratio(), reverse=True",
        "pattern).ratio(), reverse=False",
        ODD,
    ),
    Mutant(
        "tsattn/data/frames.py",
        "rules = replace(rules, freq=abs(df.index.step))",
        "pass",
        ODD,
    ),
    Mutant(
        "tsattn/data/grid.py",
        "few_strays = n_stray <= min(",
        "few_strays = n_stray <= max(",
        f"{CLOSED}::test_rows_at_closed_times_are_few_of_all_rows_and_of_these_times",
    ),
    Mutant("tsattn/data/grid.py", "_OPEN_SHARE = 0.25", "_OPEN_SHARE = 0.0", CLOSED),
    Mutant(
        "tsattn/data/tables.py",
        "is_fixed = rules.fitted or (",
        "is_fixed = rules.gaps == 'no' or (",
        f"{CLOSED}::test_new_rows_close_no_days_that_a_fit_has",
    ),
    Mutant(
        "tsattn/data/files.py",
        "if options.get(name)}",
        'if name == "skiprows"}',
        f"{FILES}::test_the_call_that_joins_header_rows_reads_the_marks_and_letters_of_the_file",
    ),
    Mutant(
        "tsattn/data/files.py",
        "<= _TITLE_LINES + 1:",
        "<= 0:",
        f"{FILES}::test_lines_of_several_cells_above_the_names_are_to_be_deleted",
    ),
    Mutant(
        "tsattn/data/files.py",
        'or first_cell.startswith("#"))',
        "or False)",
        f"{FILES}::test_remarks_of_as_many_cells_as_the_table_are_to_be_deleted",
    ),
    Mutant("tsattn/data/files.py", "if len(named) > 1 or", "if len(named) > 0 or", FILES),
    Mutant(
        "tsattn/data/files.py",
        'if pd.to_numeric(names, errors="coerce").isna().all():',
        "if names.size:",
        FILES,
    ),
    Mutant("tsattn/data/files.py", "if len(dates) == 1:", "if len(dates) > 1:", FILES),
    Mutant("tsattn/data/files.py", "if unmarked**2 > 1000 * marked**2:", "if True:", FILES),
    Mutant("tsattn/data/files.py", "if found_schema is None and gaps:", "if False:", FILES),
    Mutant("tsattn/data/files.py", "or frame[key].isna().any()]", "]", FILES),
    Mutant("tsattn/data/files.py", "(frame, frame.assign(y=0.0))", "(frame,)", FILES),
    Mutant(
        "tsattn/data/windows.py",
        "_repeat(n_smallest, n_values) | are_counts | _have_fallen(x, smallest)",
        "_repeat(n_smallest, n_values) | are_counts",
        WINDOWS,
    ),
    Mutant(
        "tsattn/forecasters/pooled_regression.py",
        "bounded = np.clip(features, self.least, self.most)",
        "bounded = features",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/data/parts.py",
        'elif first.count(":") == 1:',
        "elif False:",
        ODD,
    ),
    Mutant(
        "tsattn/data/columns.py",
        "may_be_time = not has_times and",
        "may_be_time = has_times and",
        ODD,
    ),
    Mutant("tsattn/data/files.py", "or (parts[1].isna().any() and not", "or (True and not", FILES),
    Mutant(
        "tsattn/data/files.py",
        "if parts[0].isna().any() or not is_clear or is_mixed",
        "if not is_clear or marks & points",
        FILES,
    ),
    Mutant("tsattn/data/files.py", "dict.fromkeys(zoned, str)", "{}", FILES),
    Mutant(
        "tsattn/checks.py",
        '"""Nothing."""\n        return ""',
        '"""Nothing."""\n        return self.advice',
        ODD,
    ),
    Mutant(
        "tsattn/checks.py",
        'return " ".join(f"{option} {value}" for value in values)',
        "return option",
        ODD,
    ),
    # future tables
    Mutant(
        TEXT_STAMPS,
        "if n_matches[0] != n_matches[1]:",
        "if n_matches[0] > n_matches[1]:",
        f"{ANSWERS}::test_text_that_can_be_read_day_first_and_month_first_is_read_as_the_rows_after_the_end",
    ),
    Mutant(
        "tsattn/data/calendar.py",
        'return "stamps without a time zone"',
        'return "stamps in a time zone"',
        f"{ANSWERS}::test_stamps_of_another_kind_than_those_of_the_series_are_refused",
    ),
    Mutant(
        "tsattn/data/future.py",
        "if kind != panel_kind:",
        "if kind < panel_kind:",
        f"{ANSWERS}::test_stamps_of_another_kind_than_those_of_the_series_are_refused",
    ),
    # scores and pictures
    Mutant(
        "tsattn/evaluate/metrics.py",
        "np.isnan(lower) | np.isnan(upper)",
        "np.isnan(lower)",
        f"{METRICS}::test_a_missing_forecast_is_not_forgiven",
    ),
    Mutant(
        "tsattn/plotting.py",
        "np.fmin.reduce(history.values[: history.n_before], initial",
        "np.fmin.reduce(history.values, initial",
        f"{PLOTTING}::test_values_below_zero_after_the_history_leave_the_bands_alone",
    ),
    # the base class
    Mutant(
        "tsattn/forecaster.py",
        "fresh = self.with_state(None)",
        "fresh = self",
        "tests/forecasters/test_networks.py"
        "::test_the_next_fit_decides_whether_missing_values_are_left_out",
    ),
    Mutant(
        "tsattn/forecaster.py",
        "return check_windows(x, context)[:, -context:]",
        "return check_windows(x, context)",
        BASELINES,
    ),
    Mutant(
        "tsattn/forecaster.py",
        "part_point[:, :steps]",
        "part_point[:, -steps:]",
        FORECASTER,
    ),
    Mutant(
        "tsattn/recursive.py",
        "x = np.concatenate([x, point], axis=1)",
        "x = np.concatenate([x, x[:, -horizon:]], axis=1)",
        RECURSIVE,
    ),
    Mutant("tsattn/forecaster.py", "type(self)(**{**current, **plain})", "current", FORECASTER),
    Mutant(
        "tsattn/settings.py",
        "inside.setdefault(homes[name], {})[name] = value",
        "inside.setdefault(homes[name], {})",
        FORECASTER,
    ),
    Mutant("tsattn/forecasts.py", "if array.shape != shape:", "if array.ndim < 2:", FORECASTER),
    Mutant("tsattn/forecasts.py", "if not crosses.any():", "if True:", FORECASTER),
    Mutant(
        "tsattn/forecaster.py",
        '"freq": last.freq, "like"',
        '"like"',
        FORECASTER,
    ),
    Mutant(
        "tsattn/forecaster.py",
        "return self.revised(panel=panel)",
        "return self.revised()",
        "tests/forecasters/test_contract.py::test_later_rows_are_taken_in_without_a_fit",
    ),
    Mutant(
        "tsattn/forecaster.py",
        "self._continued(tail_of(panel, n_kept))",
        "self._continued(tail_of(usable, n_kept))",
        "tests/data/test_bad_series.py"
        "::test_a_new_series_is_forecast_once_updates_have_made_it_long_enough",
    ),
    Mutant(
        "tsattn/store.py",
        "are_long.any()",
        "are_long.all()",
        "tests/forecasters/test_contract.py::test_a_new_series_that_is_too_short_spoils_no_file",
    ),
    Mutant(
        "tsattn/forecasters/auto.py",
        "return self.revised(panel=panel, members=(pretrained, *others))",
        "return self.revised(panel=panel)",
        "tests/forecasters/test_contract.py::test_later_rows_are_saved",
    ),
    Mutant(
        "tsattn/evaluate/conformal.py",
        "return self.revised(panel=panel, sizes=sizes, counts=counts)",
        "return self.revised(panel=panel)",
        "tests/forecasters/test_contract.py::test_later_rows_are_saved",
    ),
    Mutant(
        "tsattn/data/frames.py",
        'leaves_out = schema.bad != "error" and not rules.later',
        'leaves_out = schema.bad != "error"',
        "tests/data/test_joining.py",
    ),
    Mutant("tsattn/data/joining.py", ", *joined.skipped)}", ")}", "tests/data/test_joining.py"),
    # backtests and rolling evaluation
    Mutant(
        "tsattn/evaluate/room.py",
        "told_rows = error.n_rows if isinstance(error, BadSeriesError) else 0",
        "told_rows = 0",
        "tests/evaluate/test_backtest.py"
        "::test_too_many_windows_are_refused_with_a_number_that_fits",
    ),
    Mutant(
        "tsattn/evaluate/room.py",
        "- needed - horizon",
        "- horizon",
        "tests/evaluate/test_backtest.py"
        "::test_too_many_windows_are_refused_with_a_number_that_fits",
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "panel.until(stops), n_judged, verbose",
        "panel, n_judged, verbose",
        BACKTEST,
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "make_scaler(_usual_values(panel, first), first)",
        "make_scaler(panel)",
        BACKTEST,
    ),
    Mutant(
        "tsattn/distributed.py",
        "panel = read_by(forecaster.masks, plan.panel)",
        "panel = plan.panel",
        "tests/test_distributed.py::test_a_backtest_in_pieces_fills_missing_values_as_the_whole",
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "panel = read_by(forecaster.masks, plan.panel)",
        "panel = plan.panel",
        BACKTEST,
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "row_of_series = rows - panel.starts[owners]",
        "row_of_series = rows",
        BACKTEST,
    ),
    Mutant("tsattn/data/panel.py", "block.until(stops[first:last])", "block", BACKTEST),
    Mutant(
        "tsattn/evaluate/backtest.py", "values=past.values.copy()", "values=past.values", BACKTEST
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "list(range(0, n_windows, int(refit)))",
        "list(range(0, n_windows, int(refit) + 1))",
        BACKTEST,
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "weight = (1 - lag / n_lags) *",
        "weight = (lag == 0) *",
        BACKTEST,
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "last_rows = np.repeat(ends - 1, self.horizon)",
        "last_rows = np.repeat(ends, self.horizon)",
        BACKTEST,
    ),
    Mutant(
        "tsattn/evaluate/rolling.py",
        'sums["squared_scaled"] = sums["squared"] / scale**2',
        'sums["squared_scaled"] = sums["squared"] / scale',
        BACKTEST,
    ),
    Mutant(
        "tsattn/evaluate/rolling.py",
        "ends + horizon <= panel.starts[series + 1]",
        "ends <= panel.starts[series + 1]",
        ROLLING,
    ),
    # intervals
    Mutant("tsattn/evaluate/intervals.py", "k[None] - 1, axis=0", "k[None] - 2, axis=0", CONFORMAL),
    Mutant(
        "tsattn/evaluate/intervals.py",
        "math.copysign(1.0, q - 0.5) * self._widths(level)",
        "self._widths(level)",
        CONFORMAL,
    ),
    Mutant(
        "tsattn/evaluate/intervals.py",
        "self.alphas + self.gamma * excess",
        "self.alphas - self.gamma * excess",
        CONFORMAL,
    ),
    Mutant(
        "tsattn/evaluate/conformal.py", "fit(panel.until(origins[:, 0]))", "fit(panel)", CONFORMAL
    ),
    Mutant(
        "tsattn/evaluate/conformal.py",
        "waiting.append((stamps[step],",
        "waiting.append((stamps[0],",
        CONFORMAL,
    ),
    Mutant(
        "tsattn/evaluate/intervals.py", "self.scales[places], other)", "other, other)", CONFORMAL
    ),
    Mutant("tsattn/evaluate/conformal.py", "of_counts & can", "can", CONFORMAL),
    Mutant(
        "tsattn/evaluate/intervals.py", "np.clip(1 - noise /", "np.clip(1 - 0 * noise /", CONFORMAL
    ),
    Mutant("tsattn/evaluate/intervals.py", "if len(errors) > 1:", "if not len(errors):", CONFORMAL),
    # forecasters
    Mutant(
        "tsattn/forecasters/naive.py",
        "np.arange(self.horizon) % season",
        "np.minimum(np.arange(self.horizon), season - 1)",
        BASELINES,
    ),
    Mutant(
        "tsattn/forecasters/naive.py",
        "n_steps = self.min_context - 1",
        "n_steps = self.min_context",
        BASELINES,
    ),
    Mutant(
        "tsattn/forecasters/classical.py",
        "return NormalDist().inv_cdf(q)",
        "return NormalDist().inv_cdf(0.5 + abs(q - 0.5))",
        STATISTICAL,
    ),
    Mutant(
        "tsattn/forecasters/classical.py",
        "* np.sqrt(step)",
        "* np.ones(steps)",
        STATISTICAL,
    ),
    Mutant(
        "tsattn/forecasters/pooled.py",
        "else missing.any(axis=1))",
        "else missing.all(axis=1))",
        REGRESSION,
    ),
    Mutant(
        "tsattn/forecasters/regression.py",
        "return location + spread * answer",
        "return spread * answer",
        REGRESSION,
    ),
    Mutant(
        "tsattn/forecasters/gluonts.py",
        "with _seeded(self._path_seed, device):",
        "with _seeded(self._path_seed + len(parts), device):",
        DEEP,
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "values.above_zero(values.origin >= 0)",
        "values.above_zero(True)",
        PRETRAINED,
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "(z(q) - low_score) / width",
        "(q - trained[k]) / (trained[k + 1] - trained[k])",
        PRETRAINED,
    ),
    Mutant("tsattn/forecasters/network.py", "random.setstate(chance)", "pass", FITTING),
    Mutant(
        "tsattn/forecasters/fitted.py",
        "point = self.transform.inverse(point)",
        "pass",
        FITTING,
    ),
    # other processes, other libraries
    Mutant(
        "tsattn/data/panel.py",
        "starts = self.starts[first : stop + 1] - first_row",
        "starts = self.starts[first : stop + 1]",
        DISTRIBUTED,
    ),
    Mutant(
        "tsattn/distributed.py",
        "short = panel if has_missing else panel.last",
        "short = panel.last",
        DISTRIBUTED,
    ),
    Mutant(
        "tsattn/adapters/gluonts.py",
        'start_date=entry["start"] + len(entry["target"])',
        'start_date=entry["start"]',
        ADAPTERS,
    ),
    Mutant(
        "tsattn/adapters/sktime.py",
        "y.combine_first(self._history)",
        "self._history.combine_first(y)",
        ADAPTERS,
    ),
    Mutant(
        "tsattn/data/files.py",
        "n_empty = _count_empty_lines(read)",
        "n_empty = 0",
        f"{FILES}::test_a_table_in_the_middle_of_a_sheet_is_read",
    ),
    Mutant(
        "tsattn/data/files.py",
        '"sep": mark, "decimal": "," if mark == ";" else "."',
        '"sep": mark, "decimal": "."',
        f"{FILES}::test_commas_are_decimal_points_where_a_first_line_names_semicolons",
    ),
    Mutant("tsattn/data/calendar.py", "_LEAST_ROUNDED = 0.9", "_LEAST_ROUNDED = 0.999", UNEVEN),
    Mutant(
        "tsattn/data/calendar.py",
        "if (steps > 0).all() and (steps == 1)",
        "if (steps == 1)",
        UNEVEN,
    ),
    Mutant(
        "tsattn/data/calendar.py",
        "resampling = [] if inferred or rounding else _resampling(times, starts)",
        "resampling = []",
        UNEVEN,
    ),
    Mutant(
        "tsattn/data/tables.py", "is_even and min(len(before), len(after))", "len(after)", UNEVEN
    ),
    Mutant(
        "tsattn/data/tables.py",
        "n_years >= _LEAST_YEARS and times.max() - times.min() > _YEARS_SPAN",
        "n_years",
        UNEVEN,
    ),
    Mutant(
        "tsattn/__init__.py",
        "if name in _ROOMS:",
        "if False:",
        "tests/house/test_sources.py::test_rooms_that_the_guide_names_need_no_import",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "if covariates.kind(name) is not None:",
        "if True:",
        f"{BAD}::test_wrong_numbers_in_columns_are_told_with_a_call_that_works",
    ),
    # sentinels
    Mutant(
        "tsattn/data/panel.py",
        ".ffill().groupby(owners).bfill()",
        ".ffill()",
        f"{BAD}::test_a_column_that_begins_with_sentinels_takes_its_first_value",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "others = values[:n_known][is_other[:n_known]]",
        "others = values[is_other]",
        f"{BACKTEST}::test_later_values_do_not_tell_what_a_number_stands_for",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "is_usual = known_above.sum() > 1 or known_above[-1]",
        "is_usual = True",
        "tests/pretrained/test_outliers.py::test_a_number_is_judged_by_the_rows_that_are_known",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "own_values[:first] = own_values[first]",
        "pass",
        f"{BAD}::test_sentinels_before_the_first_value_take_it_where_missing_values_are_filled",
    ),
    Mutant(
        "tsattn/forecaster.py",
        'return without_sentinels(panel, keeps=self.schema.missing == "error")',
        "return panel",
        f"{BAD}::test_sentinels_are_missing_values_to_every_model",
    ),
    Mutant(
        "tsattn/checks.py",
        "if is_inside:",
        "if False:",
        "tests/test_checks.py::test_a_warning_names_the_line_that_called_the_package",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "2 * n_latest < panel.n_series",
        "2 * n_latest <= panel.n_series",
        "tests/data/test_bad_series.py::test_of_two_series_one_that_ended_long_before_is_told",
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        'f" {runs.n_last[0, 0]} rows',
        'f" {n_rows} rows',
        "tests/data/test_bad_series.py",
    ),
    # advice that works
    Mutant(
        "tsattn/data/stamp_errors.py",
        "((years[0] + 1) % 100 == years[1]).all()",
        "(years[0] >= 0).all()",
        ODD,
    ),
    Mutant(
        "tsattn/data/stamp_errors.py",
        "if read is even]",
        "if read is not None]",
        "tests/data/test_parts.py::test_hour_24_is_read_in_other_layouts",
    ),
    Mutant(
        "tsattn/data/spelling.py",
        "if units.nunique() != 1:",
        "if False:",
        "tests/data/test_spelling.py",
    ),
    Mutant(
        "tsattn/data/spelling.py",
        "if np.isnan(numbers[is_text]).any() or not keeps_others:",
        "if False:",
        "tests/data/test_spelling.py",
    ),
    Mutant(
        "tsattn/data/calendar.py",
        "bool(is_sparse and finest < _HOUR_NANOSECONDS)",
        "bool(is_sparse)",
        "tests/data/test_frames.py",
    ),
    Mutant(
        "tsattn/data/future.py",
        "        _refuse_rows_ahead(panel)\n",
        "",
        "tests/forecasters/test_future_columns.py",
    ),
    Mutant(
        "tsattn/data/spelling.py",
        "call is not None or not np.isfinite(values).any()",
        "call is not None",
        ODD,
    ),
    Mutant(
        "tsattn/data/frames.py",
        "rules = replace(_rules(schema, freq, zone), day_first=day_first)",
        "rules = replace(_rules(schema, freq), day_first=day_first)",
        "tests/test_forecaster.py",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "(fitted.zone is None) != (panel.zone is None)",
        "(fitted.zone is None) != (fitted.zone is None)",
        "tests/test_forecaster.py",
    ),
    Mutant(
        "tsattn/catalogue.py",
        "', '.join(_KNOWN_BEST)",
        "', '.join(MODELS)",
        "tests/test_catalogue.py",
    ),
    Mutant(
        "tsattn/console.py",
        "if seconds > 0 and seconds % step == 0:",
        "if seconds > 0:",
        "tests/command_line/test_commands.py::test_bad_usage_is_one_line_and_leaves_nothing",
    ),
    Mutant(
        "tsattn/console.py",
        "for part in parts for level in part]",
        "for part in parts for level in part[:1]]",
        "tests/command_line/test_commands.py::test_one_option_names_several_levels",
    ),
    Mutant(
        "tsattn/catalogue.py",
        "if frame[column].notna().any()]",
        "if frame[column].size]",
        "tests/forecasters/test_future_columns.py",
    ),
    Mutant(
        "tsattn/catalogue.py",
        "*schema.columns.past, *schema.columns.static}",
        "*schema.columns.past}",
        "tests/forecasters/test_future_columns.py",
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "series = np.flatnonzero(is_empty.all(axis=1))",
        "series = np.flatnonzero(is_empty.any(axis=1))",
        "tests/evaluate/test_backtest.py",
    ),
    Mutant(
        COLUMNS,
        "names = [*self.key_cols, self.id_col",
        "names = [self.id_col",
        "tests/test_totals.py",
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "if bool(weights.all()):",
        "if True:",
        "tests/pretrained/test_period.py",
    ),
    Mutant(
        "tsattn/data/future.py",
        "or not others:",
        "or others:",
        "tests/forecasters/test_future_columns.py::test_future_ids_in_other_spaces_or_capitals_are_named",
    ),
    Mutant(
        "tsattn/data/joining.py",
        "if is_refused or tells:\n        _object",
        "if False:\n        _object",
        "tests/data/test_joining.py::test_new_rows_without_a_column_of_the_fit_name_it",
    ),
    Mutant(
        "tsattn/data/joining.py",
        'warn(InputWarning(f"{fault}; they count as missing"))',
        "pass",
        "tests/data/test_joining.py::test_rows_that_skip_days_name_the_rows_between",
    ),
    Mutant(
        "tsattn/data/panel.py",
        "if 2 * is_such[:n_known].sum() > n_values:",
        "if False:",
        f"{BAD}::test_a_dead_sensor_of_numbers_that_others_show_to_be_none",
    ),
    Mutant(
        "tsattn/data/stored.py",
        "if facts == _ARROW_TEXT:",
        "if False:",
        "tests/data/test_keys.py",
    ),
    Mutant(
        "tsattn/data/stored.py",
        "if isinstance(dtype, pd.CategoricalDtype):",
        "if False:",
        "tests/data/test_keys.py",
    ),
    Mutant(
        "tsattn/forecaster.py",
        "masks = self.masks_ if fitted else self.masks\n        return",
        "masks = self.masks\n        return",
        MISSING,
    ),
    Mutant(
        "tsattn/forecaster.py",
        "panel = panel.last(known_lengths(panel))",
        "pass",
        MISSING,
    ),
    Mutant(
        "tsattn/forecaster.py",
        "tells = self.schema.missing is None",
        "tells = False",
        "tests/data/test_joining.py",
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "own_panel = read_by(fitted.masks_, panel)",
        "own_panel = panel",
        "tests/evaluate/test_backtest.py",
    ),
    Mutant(
        "tsattn/forecasters/network.py",
        "masked=is_asked or needs_mask",
        "masked=needs_mask",
        MISSING,
    ),
    Mutant(
        "tsattn/forecaster.py",
        'if policy == "interpolate" or not shares_stamps',
        'if policy == "interpolate"',
        "tests/forecasters/test_contract.py",
    ),
    Mutant(
        "tsattn/evaluate/backtest.py",
        "if names or not needs_stamps",
        "if True",
        "tests/forecasters/test_channel_mixing.py",
    ),
    Mutant(
        "tsattn/forecasters/network.py",
        "self._can_mask and (is_asked or not self._solved)",
        "self._can_mask",
        "tests/forecasters/test_least_squares.py",
    ),
    Mutant(
        "tsattn/forecasters/network.py",
        "bool(np.isnan(panel.values).any())\n        needs_mask",
        "True\n        needs_mask",
        MISSING,
    ),
    Mutant(
        "tsattn/data/windows.py",
        "missing[:, 0] & has_before",
        "missing[:, 0]",
        MISSING,
    ),
    Mutant(
        "tsattn/data/events.py",
        "if (words or time_col is None) and has_even_times and tells_apart:",
        "if has_even_times:",
        "tests/data/test_events.py",
    ),
    Mutant(
        "tsattn/anomaly.py",
        "np.abs(distance) <= rounding",
        "np.abs(distance) < 0",
        "tests/test_anomaly.py::test_rounding_is_no_anomaly",
    ),
    Mutant(
        "tsattn/data/keys.py",
        "likeliest = [*likely, *measured, *numbers][0]",
        "likeliest = numbers[0]",
        "tests/data/test_keys.py::test_the_column_that_is_proposed_is_no_mark_and_no_part_of_a_time",
    ),
    Mutant(
        "tsattn/data/part_columns.py",
        "if not (np.diff(numbers) == 1).all():",
        "if (np.diff(numbers) == 1).all():",
        "tests/data/test_parts.py::test_columns_that_number_steps_are_turned",
    ),
    Mutant(
        "tsattn/data/part_columns.py",
        "noon = 12 if",
        "noon = 0 if",
        "tests/data/test_parts.py::test_hours_of_half_days_are_joined",
    ),
    Mutant(
        "tsattn/data/files.py",
        '(mark == "\\t" and has_tabs)',
        "False",
        "tests/data/test_files.py::test_tabs_part_cells_also_where_commas_stand_in_the_first_name",
    ),
    Mutant(
        "tsattn/data/stamp_errors.py",
        "if not names.isin([*_ZONE_OFFSETS]).all():",
        "if names.isna().any():",
        "tests/data/test_spelling.py::test_stamps_with_other_words_behind_are_no_zones",
    ),
    Mutant(
        "tsattn/data/spelling.py",
        "is_empty |= is_word",
        "pass",
        "tests/data/test_spelling.py::test_words_among_spelt_numbers_are_emptied_and_no_number_is",
    ),
    Mutant(
        "tsattn/catalogue.py",
        "if as_word(column) == as_word(lacking)",
        "if column == lacking",
        "tests/forecasters/test_future_columns.py::test_columns_of_the_future_in_other_capitals_are_renamed",
    ),
    Mutant(
        "tsattn/data/stamp_errors.py",
        "elif are_text and _differ_in_notes(",
        "elif False and _differ_in_notes(",
        "tests/data/test_spelling.py::test_marks_behind_stamps_are_removed_and_no_row_is",
    ),
    Mutant(
        TEXT_STAMPS,
        "bool(times.is_month_start.all() or times.is_month_end.all())",
        "True",
        "tests/data/test_spelling.py::test_short_years_are_found_in_few_rows",
    ),
    Mutant(
        TEXT_STAMPS,
        "if span < _LIKELY_SPAN * other_span:",
        "if span > _LIKELY_SPAN * other_span:",
        "tests/data/test_spelling.py::test_short_years_with_gaps_lie_close_together",
    ),
    Mutant(
        "tsattn/data/part_columns.py",
        "not _holds_weeks(df[time_col])",
        "False",
        "tests/data/test_parts.py::test_indicators_of_weekdays_beside_days_are_no_parts",
    ),
    Mutant("tsattn/data/part_columns.py", "if len(even) == len(numeric):", "if not even:", ODD),
    Mutant("tsattn/data/part_columns.py", "error < _STEP_ERROR *", "error < 1.0 *", ODD),
    Mutant("tsattn/data/stamp_errors.py", '"mjd|modified', '"modified', ODD),
    Mutant("tsattn/data/stamp_errors.py", '" - 719529", "unix"', '" - 719528", "unix"', ODD),
    Mutant(SPELLING, "_DATE_WORDS if is_whole else (*_DATE_WORDS", "(*_DATE_WORDS", ODD),
]
