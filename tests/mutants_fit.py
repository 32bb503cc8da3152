"""Planted breaks in fits, fitted networks, saving, tuning, the command line and the pretrained
network.
"""

from mutants import Mutant

ESTIMATOR = "tests/forecasters/test_networks.py"
TRAINING = "tests/training/test_training.py"
SAVED = "tests/safety/test_saved.py"
TAMPERING = "tests/safety/test_tampering.py"
REGRESSOR = "tests/forecasters/test_regressor.py"
TUNING = "tests/test_tuning.py"
COVARIATES = "tests/forecasters/test_covariates.py"
ANSWERS = "tests/forecasters/test_future_columns.py"
MASK = "tests/forecasters/test_missing_values.py"
SOLVED = "tests/forecasters/test_least_squares.py"
EVIDENCE = "tests/training/test_evidence.py"
LIMITS = "tests/test_limits.py"
PROBABILISTIC = "tests/forecasters/test_probabilistic.py"
MIXING = "tests/forecasters/test_channel_mixing.py"
EXPORT = "tests/adapters/test_export.py"
CLI = "tests/command_line/test_commands.py"
CLI_COVARIATES = "tests/command_line/test_covariates.py"
TERMINAL = "tests/command_line/test_terminal.py"
OUTLIERS = "tests/pretrained/test_outliers.py"
ZEROS = "tests/pretrained/test_zeros.py"
STORAGE = "tests/test_storage.py"
PERIOD = "tests/pretrained/test_period.py"
CONFORMAL = "tests/evaluate/test_conformal.py"
PRETRAINING = "tests/pretrained/test_pretraining.py"
LOSSES = "tests/pretrained/test_losses.py"
CHANGES = "tests/pretrained/test_changes.py"
SYNTHETIC = "tests/pretrained/test_synthetic.py"
CONTRACTS = "tests/forecasters/test_contract.py"
COMBINED = "tests/forecasters/test_auto.py"
WEIGHED = "tests/forecasters/test_combination.py"
DEADLINES_TESTS = "tests/forecasters/test_deadlines.py"
TUNED = "tests/forecasters/test_fine_tuning.py"

FITTED = "tsattn/forecasters/fitted.py"
NETWORK = "tsattn/forecasters/network.py"
FITTING = "tsattn/forecasters/fitting.py"
SAVING = "tsattn/forecasters/saving.py"
STORE = "tsattn/store.py"
FORECASTER = "tsattn/forecasters/attention.py"
LOOP = "tsattn/training/loop.py"
REGRESSOR_FILE = "tsattn/forecasters/regressor.py"
EXPORT_FILE = "tsattn/adapters/export.py"
AUTO = "tsattn/forecasters/auto.py"
CANDIDATES = "tsattn/forecasters/candidates.py"
TRIALS = "tsattn/forecasters/trials.py"
JUDGED = "tsattn/forecasters/judged_windows.py"
COMBINATION = "tsattn/forecasters/combination.py"
DEADLINES = "tsattn/forecasters/deadlines.py"
FAULTS = "tsattn/data/sensor_faults.py"
TEST_OF_FAULTS = "tests/data/test_sensor_faults.py"
TUNING_FILE = "tsattn/forecasters/fine_tuning.py"

MUTANTS = [
    Mutant(
        "tsattn/forecasters/network.py",
        "text = facts_text + loss_sample + panel.fingerprint()",
        "text = facts_text + panel.fingerprint()",
        "tests/training/test_parts.py",
    ),
    Mutant(
        "tsattn/forecasters/attention.py",
        "if self.training.own_loss is not None and self.point is not None:",
        "if False:",
        "tests/training/test_parts.py",
    ),
    Mutant(
        "tsattn/training/loop.py",
        "self._loss = config.own_loss or config.loss",
        "self._loss = config.loss",
        "tests/training/test_parts.py",
    ),
    Mutant(
        "tsattn/nn/heads.py",
        "return terms.mean() if mask is None else _masked_mean(terms, mask)",
        "return terms.mean()",
        "tests/nn/test_heads.py",
    ),
    Mutant(
        "tsattn/__main__.py",
        "if handler is signal.default_int_handler:",
        "if True:",
        "tests/command_line/test_commands.py::test_an_interrupt_of_the_start_ends_with_130",
    ),
    Mutant(
        "tsattn/__main__.py",
        "signal.signal(signal.SIGINT, _leave)",
        "pass",
        "tests/command_line/test_commands.py::test_an_interrupt_of_the_start_ends_with_130",
    ),
    Mutant(
        "tsattn/__main__.py",
        "signal.signal(signal.SIGINT, handler)",
        "pass",
        "tests/command_line/test_commands.py::test_after_the_start_an_interrupt_lets_a_command_clean_up",
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "Values.after(without_outliers(x[:, -self.least_context :]))",
        "Values.after(x[:, -self.least_context :])",
        "tests/pretrained/test_outliers.py",
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "np.where(find_stuck(x), np.nan, x)",
        "x",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/local_regression.py",
        "factor_of_column = np.clip(share, self.least_factor, 1.0)",
        "factor_of_column = np.ones(share.shape)",
        "tests/forecasters/test_local_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/local_regression.py",
        "factor = factor_of_column[..., column]",
        "factor = factor_of_column[..., column[::-1]]",
        "tests/forecasters/test_local_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "regression = self._with_local_alone(np.union1d(learn, check))",
        "regression = self.regression",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "without_wrong_values(x, columns, self.covariate_regression_.leaves_out)",
        "without_wrong_values(x)",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(FAULTS, "2 * n_outliers > is_event.sum()", "True", TEST_OF_FAULTS),
    Mutant(FAULTS, "is_long[-1] = False", "pass", TEST_OF_FAULTS),
    Mutant(FAULTS, "n_of_rarer_way < ", "False and n_of_rarer_way < ", TEST_OF_FAULTS),
    Mutant(FAULTS, "return none if is_new_level or", "return none if", TEST_OF_FAULTS),
    # answers of a fitted network: one pass, scales, intervals, windows
    Mutant(
        FITTED,
        "passed = self.forward(scaled, encoded)",
        "self.forward(scaled, encoded)\n        passed = self.forward(scaled, encoded)",
        ESTIMATOR,
    ),
    Mutant(FITTED, "point = passed * spread + location", "point = passed + location", ESTIMATOR),
    Mutant(
        FITTED,
        "np.abs(y - point) / scale[:, None]",
        "np.abs(y - point)",
        ESTIMATOR,
    ),
    Mutant(
        FITTED, "unit * self.sizes.of(ids, len(x))", "unit * self.sizes.of(None, len(x))", CONFORMAL
    ),
    Mutant(
        FITTED,
        "errors /= scales.left_out[series, window]",
        "errors /= scales.per_step + 0 * scales.left_out[series, window]",
        CONFORMAL,
    ),
    Mutant(NETWORK, "None if ids is None else ids[enough]", "None", CONFORMAL),
    Mutant(FITTED, "x.shape[2] != n_channels:", "x.shape[2] < 1:", MIXING),
    Mutant(FITTED, "return x[:, -context:]", "return x[:, :context]", ANSWERS),
    Mutant(FITTED, "point_ahead[incomplete] = np.nan", "pass", ANSWERS),
    Mutant(FITTED, "bounds = self.transform.inverse(bounds)", "pass", PROBABILISTIC),
    Mutant(FITTED, "        if strict:", "        if not strict:", SAVED),
    # what a fit reads, keeps and refuses
    Mutant(
        NETWORK,
        "if self.horizon > n_trained:",
        "if self.horizon > 2 * n_trained:",
        ESTIMATOR,
    ),
    Mutant(
        "tsattn/data/panel.py", "if panel.freq != fitted.freq:", "if not panel.freq:", CONTRACTS
    ),
    Mutant(
        NETWORK,
        "set(panel.ids) != set(fitted_ids)",
        "len(panel.ids) != len(fitted_ids)",
        MIXING,
    ),
    Mutant(NETWORK, '"training__n_threads")', '"training__learning_rate")', ESTIMATOR),
    Mutant(NETWORK, " + panel.fingerprint()", "", COVARIATES),
    Mutant(
        "tsattn/data/windows.py",
        "has_place = (places >= 0)[:, None]",
        "has_place = (places >= -1)[:, None]",
        "tests/data/test_windows.py",
    ),
    Mutant(
        "tsattn/forecaster.py",
        "self.state_ if warm_start else None",
        "None if warm_start else self.state_",
        SOLVED,
    ),
    Mutant(
        NETWORK,
        "has_map = is_warm and hold_linear(network)",
        "has_map = is_warm and not hold_linear(network)",
        SOLVED,
    ),
    Mutant(NETWORK, "self.revised(panel=tail, ", "self.revised(", COVARIATES),
    Mutant(
        FORECASTER, "if 1 < patches < sizes[-1]:", "if 1 < patches <= sizes[-1] + 9:", ESTIMATOR
    ),
    Mutant(FORECASTER, "if panel.n_series < 2:", "if panel.n_series < 1:", MIXING),
    Mutant(FORECASTER, 'self._head != "point" and', 'self._head == "point" and', PROBABILISTIC),
    Mutant(
        FORECASTER,
        "import numpy as np\n\nfrom",
        "import numpy as np\nimport scipy.stats\nfrom",
        SAVED,
    ),
    Mutant(
        "tsattn/forecasters/linear.py",
        'self.kind != "dlinear" and loss',
        'self.kind != "dlinear" or loss',
        SOLVED,
    ),
    # leaks: windows, scales and fillings end where validation begins
    Mutant(
        FITTING,
        "np.zeros_like(self.stops), self.stops)",
        "np.zeros_like(self.stops), self.panel.lengths)",
        ESTIMATOR,
    ),
    Mutant(FITTING, "scaler = make_scaler(panel, stops)", "scaler = make_scaler(panel)", ESTIMATOR),
    Mutant(
        FITTING,
        "values[place_in_series < np.repeat(self.stops, panel.lengths)]",
        "values[place_in_series < np.repeat(panel.lengths, panel.lengths)]",
        ESTIMATOR,
    ),
    Mutant(
        FITTING,
        "CovariateEncoder.fit(columns, panel, stops)",
        "CovariateEncoder.fit(columns, panel, panel.lengths)",
        COVARIATES,
    ),
    Mutant(FITTING, "(has_past & has_future)", "(has_past | has_future)", MASK),
    Mutant(FITTING, "_RIDGE = 1e-3", "_RIDGE = 1e-2", SOLVED),
    Mutant(
        FITTING,
        "rows = rows[ends_finite & (n_changes < 2)]",
        "rows = rows.nan_to_num()",
        SOLVED,
    ),
    Mutant(FITTING, "if current != previous:", "if current and not previous:", COVARIATES),
    Mutant(
        "tsattn/tuning.py",
        "panel.until(stops)",
        "panel.until(panel.lengths)",
        TUNING,
    ),
    Mutant(REGRESSOR_FILE, "scaler = _scaler(x[:n_learn])", "scaler = _scaler(x)", REGRESSOR),
    Mutant(
        REGRESSOR_FILE,
        "fitted = replace(fitted, network=fitted.network.double())",
        "fitted.network.eval()",
        REGRESSOR,
    ),
    Mutant(REGRESSOR_FILE, '"linear_skip": training.solved}', '"linear_skip": False}', REGRESSOR),
    # training
    Mutant(LOOP, "_WARMUP = 0.1", "_WARMUP = 0.3", TRAINING),
    Mutant(LOOP, "or score < best_score:", "or score > best_score:", TRAINING),
    Mutant(LOOP, '"weight_decay": 0.0 if is_vector else', '"weight_decay":', TRAINING),
    Mutant(LOOP, "total = loss.double() * count", "total = loss.double()", TRAINING),
    Mutant(
        LOOP,
        "set_generator(model, None)\n    model.load_state_dict(module.best)",
        "set_generator(model, None)",
        TRAINING,
    ),
    Mutant(
        LOOP,
        "if clearly_lower(best, first, level):",
        "if clearly_lower(first, best, level):",
        EVIDENCE,
    ),
    Mutant(
        "tsattn/training/state.py",
        'self.generators.order.set_state(tensors["generator.order"])',
        "pass",
        TRAINING,
    ),
    Mutant("tsattn/training/evidence.py", "(1 + level / 100) / 2", "level / 100", EVIDENCE),
    Mutant(
        "tsattn/training/evidence.py", "np.minimum(from_end, n_blocks - 1)", "from_end", EVIDENCE
    ),
    Mutant(
        "tsattn/tuning.py",
        "if prune and optuna_trial.should_prune():",
        "if not prune and optuna_trial.should_prune():",
        TUNING,
    ),
    Mutant(
        "tsattn/limits.py",
        "    finally:\n        _HOLDERS.leave(before)",
        "    finally:\n        pass",
        LIMITS,
    ),
    Mutant(
        "tsattn/limits.py",
        "and threads_before == self._latest:",
        "and threads_before != self._latest:",
        LIMITS,
    ),
    # saved models and files
    Mutant(STORE, '_GONE = ("compile", ', "_GONE = (", SAVED),
    Mutant(STORE, "range(1, FORMAT + 1)", "range(1, FORMAT + 2)", TAMPERING),
    Mutant(STORE, "require(bool(torch.isfinite(tensor).all()), ", "require(True, ", TAMPERING),
    Mutant(
        SAVING, "require(bool((scale > 0).all()), ", "require(bool((scale >= 0).all()), ", TAMPERING
    ),
    Mutant(STORE, "values=History(fitted.panel).filled", "values=fitted.panel.values", SAVED),
    Mutant(
        "tsattn/storage.py", "hexdigest() != digest:", "hexdigest() == digest[::-1]:", TAMPERING
    ),
    Mutant(
        "tsattn/storage.py",
        "            write(temporary)\n            temporary.replace(target)",
        "            write(target)",
        STORAGE,
    ),
    Mutant(
        "tsattn/storage.py",
        "        folder.replace(doomed)\n        shutil.rmtree(doomed)",
        "        shutil.rmtree(folder)",
        SAVED,
    ),
    Mutant(
        "tsattn/storage.py",
        "if standing == folder and _identity(standing) == identity:",
        "if True:",
        SAVED,
    ),
    # the command line
    Mutant(
        "tsattn/cli.py", "schema=model.schema.changed(**table.named)", "schema=table.schema", CLI
    ),
    Mutant(
        "tsattn/cli.py",
        "    if saved is not None and model is not None:",
        "    if saved and model and plot:",
        CLI,
    ),
    Mutant(
        "tsattn/cli.py",
        "if path is not None and not columns.future:",
        "if path is not None and not columns.past:",
        CLI_COVARIATES,
    ),
    Mutant("tsattn/console.py", "and not math.isfinite(value):", "and value is None:", CLI),
    Mutant("tsattn/console.py", "or not sys.stderr.isatty():", "or sys.stderr.closed:", CLI),
    Mutant(
        "tsattn/cli.py",
        "verbose=console.progress(quiet) is not None)\n    _tell_choice(forecaster, quiet)\n    forecaster.save",
        "verbose=True)\n    _tell_choice(forecaster, quiet)\n    forecaster.save",
        TERMINAL,
    ),
    # exports
    Mutant(EXPORT_FILE, "return is_usable & ~has_negative", "return is_usable", EXPORT),
    Mutant(EXPORT_FILE, "return x.sqrt()", "return x", EXPORT),
    Mutant(EXPORT_FILE, "if not gap <= _TOLERANCE * size:", "if not gap <= size:", EXPORT),
    Mutant(
        "tsattn/limits.py",
        "_await_end(numbers)\n\n\ndef",
        "pass\n\n\ndef",
        "tests/test_limits.py::test_a_pool_waits_for_threads_that_end_slowly_but_not_for_ever",
    ),
    # the pretrained network
    Mutant(
        "tsattn/pretrained/period.py",
        "fits = _LEAST_CYCLES * lag <=",
        "fits = 0.5 * lag <=",
        PERIOD,
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "weights.shape[1] - first_known(weights)[:, None]",
        "weights.shape[1] - 0 * first_known(weights)[:, None]",
        f"{PERIOD}::test_less_than_one_and_a_half_cycles_are_none",
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "steps = torch.ones_like(n_steps)",
        "steps = torch.zeros_like(n_steps)",
        f"{PERIOD}::test_a_short_series_beside_a_long_one_is_read_step_by_step",
    ),
    Mutant("tsattn/pretrained/period.py", "values.sub_(time", "values.add_(time", PERIOD),
    Mutant(
        "tsattn/pretrained/period.py",
        "torch.where(near & as_good",
        "torch.where(near | as_good",
        PERIOD,
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "(surplus >= _CLEAR) | repeated",
        "(surplus >= -1) | repeated",
        PERIOD,
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "is_repeated = 2 * lag <= length",
        "is_repeated = lag <= length",
        PERIOD,
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "(correlation >= earlier) &",
        "(correlation >= -1) &",
        PERIOD,
    ),
    Mutant(
        "tsattn/pretrained/period.py",
        "residual = values - mean",
        "residual = values - 0 * mean",
        PERIOD,
    ),
    Mutant(
        "tsattn/pretrained/network.py",
        "return (self.n_seasons * self.count)[:, None]",
        "return self.count[:, None]",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/pretrained/network.py",
        "seasons.clear_cycle()\n        has_",
        "seasons.cycle\n        has_",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/pretrained/network.py",
        "torch.where(find_outliers(recent), torch.nan, recent)",
        "recent",
        OUTLIERS,
    ),
    Mutant(
        "tsattn/pretrained/network.py",
        "& (steps > 1)",
        "& (steps > 99)",
        f"{PRETRAINING}::test_the_monday_after_a_weekend_of_five_minutes_is_forecast",
    ),
    Mutant(
        "tsattn/pretrained/network.py",
        "(coarse_distance.square() + fine_distance.square()).sqrt()",
        "fine_distance.abs()",
        f"{PRETRAINING}::test_distances_of_a_sum_are_those_of_independent_parts",
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "far & (_near_later(observed, far) |",
        "far & (_near_later(observed, far) &",
        OUTLIERS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py", "n_far <= _most_wrong(count)", "n_far <= count", OUTLIERS
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "n_others >= n_sentinels.clamp_min(LEAST_OTHERS)",
        "n_others > 0",
        OUTLIERS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py", "SENTINEL_RANGES * (largest - smallest)", "0", OUTLIERS
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "return n_of_rarer_half >= _HALF_SHARE * n_true",
        "return n_of_rarer_half >= 0",
        OUTLIERS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py", "(n_far >= _LEAST_SCATTERED) &", "(n_far > 0) &", OUTLIERS
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "_most_pairs(far, observed) < regular_share",
        "-1 < regular_share",
        OUTLIERS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py", "n_moving > _LEAST_MOVING_SHARE", "n_moving > 0", OUTLIERS
    ),
    Mutant("tsattn/pretrained/outliers.py", "(n_far <= n_most) &", "(n_far <= count) &", OUTLIERS),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "are_usable |= _are_scattered",
        "_ = _are_scattered",
        OUTLIERS,
    ),
    Mutant("tsattn/pretrained/outliers.py", "_ORDER_RANGES * (largest", "3.0 * (largest", OUTLIERS),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "n_in_run[:, -1:] <= most_inside",
        "n_in_run[:, -1:] > 0",
        ZEROS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py", "is_zero = (x == 0) & is_inside", "is_zero = x == 0", ZEROS
    ),
    Mutant("tsattn/pretrained/outliers.py", "(n_very_far == n_zeros)", "(n_very_far > 0)", ZEROS),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "(n_far >= _ZERO_FAR_SHARE * n_zeros)",
        "(n_far > 0)",
        ZEROS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "_most_pairs(is_zero, is_inside, longest)",
        "_most_pairs(is_zero, is_inside)",
        ZEROS,
    ),
    Mutant("tsattn/pretrained/outliers.py", "& is_moving & ~follow_rule", "& is_moving", ZEROS),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "(n_zeros <= _ZERO_SHARE * n_inside)",
        "(n_zeros <= n_inside)",
        ZEROS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "(lag > longest) & (2 * lag <= n_steps)",
        "(lag > longest)",
        ZEROS,
    ),
    Mutant(
        "tsattn/pretrained/outliers.py",
        "has_runs & _are_spread(is_start, is_inside) &",
        "has_runs &",
        ZEROS,
    ),
    Mutant(
        "tsattn/pretrained/faults.py",
        "(draws < faulty_share) & is_early",
        "draws < faulty_share",
        "tests/pretrained/test_faults.py",
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "if seen is None else network.look(seen, horizon)",
        "if True else network.look(seen, horizon)",
        LOSSES,
    ),
    Mutant("tsattn/pretrained/period.py", "is_whole & is_day", "is_whole | is_day", PERIOD),
    Mutant("tsattn/pretrained/period.py", "_LIKELY_CHANCE / _CALENDAR_CHANCE", "1", PERIOD),
    Mutant("tsattn/pretrained/network.py", "4 * steps < 3 *", "steps < 3 *", PRETRAINING),
    Mutant(
        "tsattn/pretrained/losses.py",
        "below = (levels - 1) * error",
        "below = (1 - levels) * error",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/contexts.py",
        "settled |= usable & (",
        "settled |= usable | (",
        PRETRAINING,
    ),
    Mutant("tsattn/pretrained/contexts.py", "rule.n_horizons * horizon)", "horizon)", PRETRAINING),
    Mutant(
        "tsattn/pretrained/network.py",
        "seasons = seasons.where(is_cut, ",
        "_ = seasons.where(is_cut, ",
        PRETRAINING,
    ),
    Mutant("tsattn/pretrained/contexts.py", ".nan_to_num(torch.inf)", "", PRETRAINING),
    Mutant(
        "tsattn/pretrained/network.py",
        "n_future + min(self.config.encode, n_tokens - n_future)",
        "n_future",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/forecasters/auto.py",
        "x = without_wrong_values(x, columns)",
        "pass",
        "tests/forecasters/test_auto.py",
    ),
    Mutant(TRIALS, "not (is_slow_fit and few_new_rows)", "not is_slow_fit", COMBINED),
    Mutant(TRIALS, "not (is_slow_fit and few_new_rows)", "not few_new_rows", COMBINED),
    Mutant(
        TRIALS,
        "if candidate.name in _LEARNERS else _FIT_SHARE",
        "if False else _FIT_SHARE",
        COMBINED,
    ),
    Mutant(DEADLINES, "permutation(len(target))[:n_rows]", "permutation(n_rows)", DEADLINES_TESTS),
    Mutant(
        "tsattn/forecasters/regression.py",
        "spread_order(n_windows) if math.isfinite(seconds) else np.arange(n_windows)",
        "np.arange(n_windows)",
        "tests/forecasters/test_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/pooled.py",
        "moving = complete & (spreads > _STILL_SHARE * usual_spreads).to_numpy()",
        "moving = complete & (spreads > 0).to_numpy()",
        "tests/forecasters/test_regression.py"
        "::test_a_sensor_that_hung_does_not_decide_the_forecasts_of_other_windows",
    ),
    Mutant(
        "tsattn/forecasters/regression.py",
        "return share**2",
        "return np.ones(len(y))",
        "tests/forecasters/test_regression.py"
        "::test_a_sensor_that_hung_does_not_decide_the_forecasts_of_other_windows",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "truth = past.truth",
        "truth = past_without.truth + np.nan",
        "tests/forecasters/test_covariate_regression.py"
        "::test_scattered_wrong_values_hardly_hurt_beside_columns_and_are_told",
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "without_wrong_values(x, columns, self.covariate_regression_.leaves_out)",
        "without_wrong_values(x, columns)",
        "tests/forecasters/test_covariate_regression.py"
        "::test_scattered_wrong_values_hardly_hurt_beside_columns_and_are_told",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "order = spread_order(n_windows)",
        "pass",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "for weights in _sets_of_weights():",
        "for weights in [(1.0, 1.0, 0.0)]:",
        "tests/forecasters/test_covariate_regression.py"
        "::test_what_there_is_no_time_for_is_left_out_and_the_rest_stays",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "if self.clearly_lower(with_pooled.losses, best.losses):",
        "if True:",
        "tests/forecasters/test_covariate_regression.py"
        "::test_the_pooled_regression_counts_only_where_it_is_clearly_better_with_it",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "and target_weight <= _MOST_TARGET_WEIGHT",
        "",
        "tests/forecasters/test_covariate_regression.py"
        "::test_target_trees_have_half_of_the_weight_at_most",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "if self.clearly_lower(with_target.losses, best.losses):",
        "if True:",
        "tests/forecasters/test_covariate_regression.py"
        "::test_target_trees_count_only_where_it_is_clearly_better_with_them",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "if best.pooled_weight or not mix.pooled_weight",
        "",
        "tests/forecasters/test_covariate_regression.py"
        "::test_a_declined_pooled_regression_does_not_come_back_with_target_trees",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "target_errors = target - self._scaled(share)[check]",
        "target_errors = target",
        "tests/forecasters/test_covariate_regression.py"
        "::test_target_trees_count_where_the_base_forecasts_nothing",
    ),
    Mutant(
        "tsattn/forecasters/covariate_regression.py",
        "target_error = target - features.scaled(point)[..., 0]",
        "target_error = target",
        "tests/forecasters/test_covariate_regression.py"
        "::test_opinions_stand_before_and_after_the_base",
    ),
    Mutant(
        "tsattn/forecasters/pooled_regression.py",
        "season_before = ahead - season * (steps // season + 1)",
        "season_before = ahead - season",
        "tests/forecasters/test_covariate_regression.py::test_features_are_those_of_a_loop",
    ),
    Mutant(
        "tsattn/forecasters/band_widths.py",
        "width_of_others[half] = other_half.widths()(errors.features[half])",
        "width_of_others[half] = errors.widths()(errors.features[half])",
        "tests/forecasters/test_band_widths.py",
    ),
    Mutant(
        "tsattn/forecasters/band_widths.py",
        "logarithm = _FOLLOWED * self.trees(features)",
        "logarithm = self.trees(features)",
        "tests/forecasters/test_band_widths.py",
    ),
    Mutant(
        "tsattn/forecasters/band_widths.py",
        "return errors.widths(), factor_of_others",
        "return errors.widths(), usual_factor",
        "tests/forecasters/test_band_widths.py",
    ),
    Mutant(
        "tsattn/forecasters/covariate_regression.py",
        "distance = self.band_factor * width[..., None] * distance",
        "distance = self.band_factor * distance",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "gap = self.truth[places] - point[places]",
        "gap = self.truth[places] - base_point",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "all_rows[places] = rows_at_places",
        "all_rows[: len(places)] = rows_at_places",
        "tests/forecasters/test_covariate_regression.py",
    ),
    Mutant(
        "tsattn/forecasters/auto.py",
        "self._judge(clean,",
        "self._judge(panel,",
        "tests/forecasters/test_auto.py",
    ),
    Mutant("tsattn/pretrained/network.py", "distance.sign() * size", "size", CHANGES),
    Mutant("tsattn/pretrained/contexts.py", "reach = 2 * reach", "reach = reach + 1", CHANGES),
    Mutant("tsattn/pretrained/contexts.py", "+ taken_back *", "+ 0 * taken_back *", CHANGES),
    Mutant("tsattn/pretrained/contexts.py", "has_last[:, None] & varies", "varies", CHANGES),
    Mutant(
        "tsattn/pretrained/contexts.py",
        "n_added.to(unsteadiness).sqrt()",
        "n_added.to(unsteadiness)",
        CHANGES,
    ),
    Mutant("tsattn/pretrained/contexts.py", "share >= self.least_share", "share > 0", CHANGES),
    Mutant(
        "tsattn/data/windows.py",
        "axis=1) <= _GRID",
        "axis=1) < _GRID",
        "tests/data/test_windows.py",
    ),
    Mutant(
        "tsattn/data/windows.py",
        "quarter == np.arange(_N_QUARTERS)",
        "quarter <= np.arange(_N_QUARTERS)",
        "tests/data/test_windows.py",
    ),
    Mutant(
        "tsattn/data/windows.py",
        "np.minimum(_GRID, n_values / 2)",
        "_GRID",
        "tests/data/test_windows.py",
    ),
    Mutant(
        "tsattn/forecasters/pretrained.py",
        "if values is not None:",
        "if values is None:",
        "tests/forecasters/test_pretrained.py",
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "x, seasons = network.look(x, y.shape[1])",
        "_, seasons = network.look(x, y.shape[1])",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "expected = (losses @ probabilities).mean(2)",
        "expected = losses.mean((2, 3))",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "lesson.target[..., None, :] - lesson.quantiles[..., None]",
        "lesson.quantiles[..., None] - lesson.target[..., None, :]",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "quantiles[n_windows:].flip(2)",
        "quantiles[n_windows:]",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "middles = (levels[1:] + levels[:-1]) / 2",
        "middles = levels[1:]",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "weight = weight * weigh(",
        "weight = weight + 0 * weigh(",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/pretraining.py",
        "self.network = self._make(first, generator)",
        "self.network = ZeroNetwork(first, generator=generator)",
        "tests/benchmarks/test_pretraining_study.py",
    ),
    Mutant(
        "tsattn/pretrained/pretraining.py",
        "for name in {**settings, **state_settings}:",
        "for name in settings:",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/pretrained/pretraining.py",
        "shape.n_tokens, weighed=True)",
        "shape.n_tokens)",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/pretraining.py",
        "pinball(self.average, x",
        "pinball(self.network, x",
        f"{PRETRAINING}::test_the_averaged_weights_are_validated",
    ),
    Mutant(
        "tsattn/pretrained/losses.py",
        "change = torch.fmin(",
        "change = torch.fmax(",
        LOSSES,
    ),
    Mutant(
        "tsattn/pretrained/pretraining.py",
        'self.average.load_state_dict(state["average"])',
        "pass",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/pretrained/network.py",
        "observed.any(2) |",
        "observed.isfinite().any(2) |",
        PRETRAINING,
    ),
    Mutant(
        "tsattn/pretrained/synthetic.py",
        "return np.where(observed, filled, np.float32(np.nan))",
        "return filled",
        SYNTHETIC,
    ),
    Mutant(
        "tsattn/pretrained/synthetic.py",
        "is_missing[:, :2] = False",
        "is_missing[:, -2:] = False",
        SYNTHETIC,
    ),
    Mutant(
        "tsattn/pretrained/families.py",
        "_IN_SHORT if length <= SHORT",
        "_IN_SHORT if length < SHORT",
        SYNTHETIC,
    ),
    Mutant(
        "tsattn/pretrained/families.py",
        "0.003, 0.2)\n    steps += drift * source.chance(0.4)",
        "0.03, 2)\n    steps += drift",
        SYNTHETIC,
    ),
    # fine-tuning and the combination
    Mutant(
        TUNING_FILE,
        "if not clearly_lower(best.losses, start.losses, _CONFIDENCE):",
        "if False:",
        TUNED,
    ),
    Mutant(
        TUNING_FILE,
        "self.training_history = History(panel.until(stops))",
        "self.training_history = History(panel)",
        TUNED,
    ),
    Mutant(
        TUNING_FILE,
        "future[rows >= stops] = np.nan",
        "pass",
        f"{TUNED}::test_steps_after_the_last_training_row_teach_nothing",
    ),
    Mutant(
        COMBINATION,
        "near = means <= _ERROR_TOLERANCE * means.min()",
        "near = means < np.inf",
        WEIGHED,
    ),
    Mutant(
        DEADLINES,
        "timed_again = n_rows > 0",
        "timed_again = False",
        f"{DEADLINES_TESTS}::test_a_later_fit_begins_with_the_rows_of_an_earlier_one",
    ),
    Mutant(
        DEADLINES,
        "n_rows = max(_FIRST_ROWS, series_rows, n_rows)",
        "n_rows = max(_FIRST_ROWS, series_rows)",
        f"{DEADLINES_TESTS}::test_a_later_fit_begins_with_the_rows_of_an_earlier_one",
    ),
    Mutant(
        DEADLINES,
        "seconds_per_row = (last_fit.seconds - earlier_fit.seconds) / rows_between",
        "seconds_per_row = last_fit.seconds / last_fit.n_rows",
        f"{DEADLINES_TESTS}::test_a_cost_that_does_not_depend_on_rows_is_no_cost_of_more_rows",
    ),
    Mutant(
        TRIALS,
        "_fit_until(candidate, panel, seconds, trial.fit.n_rows)",
        "_fit_until(candidate, panel, seconds)",
        f"{COMBINED}::test_no_second_fit_begins_with_fewer_rows",
    ),
    Mutant(
        TRIALS,
        "in_time = candidate.by_row or trial.fit.seconds",
        "in_time = candidate.by_row and trial.fit.seconds",
        f"{COMBINED}::test_a_candidate_that_learns_is_fitted_again_on_all_rows",
    ),
    Mutant(
        "tsattn/evaluate/intervals.py",
        "room = np.where(gap > 0, above, below)",
        "room = np.where(gap > 0, below, above)",
        f"{COMBINED}::test_each_side_of_a_band_is_measured_by_the_errors_on_that_side",
    ),
    Mutant(
        COMBINATION,
        "np.where(np.isnan(errors), np.nan, losses[0])",
        "np.where(False, np.nan, losses[0] + 0 * np.nan_to_num(errors))",
        f"{COMBINED}::test_a_candidate_is_compared_on_the_windows_that_it_answers",
    ),
    Mutant(COMBINATION, "prior = near / near.sum()", "pass", WEIGHED),
    Mutant(COMBINATION, "weights[weights < _LEAST_WEIGHT] = 0.0", "pass", WEIGHED),
    Mutant(JUDGED, "np.minimum.at(stops, owner, rows_before)", "pass", COMBINED),
    Mutant(COMBINATION, "factor**trust", "factor", WEIGHED),
    Mutant(COMBINATION, "drawn = first * ratio**trust", "drawn = first * ratio", WEIGHED),
    Mutant(
        "tsattn/forecasters/covariate_weights.py",
        "if option.loss <= highest_loss",
        "if option.loss >= 0",
        "tests/forecasters/test_covariate_regression.py"
        "::test_trees_are_tried_at_the_best_share_first_and_not_at_those_far_behind",
    ),
    Mutant(TRIALS, "if candidate.by_row and not math.isinf(seconds)", "if False", COMBINED),
    Mutant(
        DEADLINES,
        "if available_seconds <= seconds_per_item:",
        "if available_seconds <= -1e9:",
        DEADLINES_TESTS,
    ),
    Mutant(
        DEADLINES,
        "return larger if expected_seconds(larger) <= available_seconds else last_fit.n_rows",
        "return larger",
        DEADLINES_TESTS,
    ),
    Mutant(
        DEADLINES,
        "n_next = self.n_wanted - self.n_trees",
        "n_next = 1",
        DEADLINES_TESTS,
    ),
    Mutant(
        DEADLINES,
        "if clock.n_trees < _LEAST_TREE_SHARE * learner.max_iter:",
        "if False:",
        DEADLINES_TESTS,
    ),
    Mutant(DEADLINES, "learner.set_params(**settings)", "pass", DEADLINES_TESTS),
    Mutant(AUTO, "np.where(np.isnan(last), point, last)", "point", COMBINED),
    Mutant(
        TRIALS,
        "share = _LAST_SHARE if forecaster.covariate_columns_ else _CANDIDATE_SHARE",
        "share = _CANDIDATE_SHARE",
        f"{COMBINED}::test_the_last_fit_on_columns_has_nearly_all_that_is_left",
    ),
    Mutant(AUTO, ".above_zero(are_counts)", "", COMBINED),
    Mutant(
        CANDIDATES,
        "    if not forecaster.masks_:\n        # Rows",
        "    if False:\n        # Rows",
        COMBINED,
    ),
    # what users tell torch, and forecasters of their own
    Mutant(
        "tsattn/limits.py",
        'stack.enter_context(torch.device("cpu"))',
        "pass",
        "tests/test_limits.py::test_what_the_user_tells_torch_changes_no_forecast",
    ),
    Mutant(
        "tsattn/limits.py",
        "stack.enter_context(torch.autocast(kind, enabled=False))",
        "pass",
        "tests/test_limits.py::test_what_the_user_tells_torch_changes_no_forecast",
    ),
    Mutant(
        "tsattn/catalogue.py",
        "reversed(_own_classes(Forecaster))",
        "()",
        "tests/test_catalogue.py",
    ),
    Mutant(
        "tsattn/training/settings.py",
        "or (is_rate and value == 0)",
        "",
        f"{TRAINING}::test_bad_settings_are_named",
    ),
    Mutant(
        "tsattn/training/settings.py",
        'and folder != ""',
        "",
        f"{TRAINING}::test_checkpoints_need_a_folder",
    ),
    Mutant(
        FITTED,
        'or device.type not in ("cpu", "cuda")',
        "",
        f"{REGRESSOR}::test_bad_settings_are_refused",
    ),
    Mutant(
        "tsattn/suite.py",
        "if str(name).lower() not in cards:",
        "if False:",
        "tests/test_benchmark.py::test_what_cannot_be_judged_is_refused_before_any_run",
    ),
    Mutant(
        "tsattn/levels.py",
        "if in_order != ascending:",
        "if False:",
        "tests/test_forecaster.py::test_quantiles_of_windows_stand_in_their_own_order",
    ),
    Mutant(
        "tsattn/adapters/gluonts.py",
        "if device is not None and isinstance(forecaster, NetworkForecaster):",
        "if device is not None:",
        "tests/adapters/test_adapters.py::test_gluonts_baselines_are_serialised_too",
    ),
    Mutant(
        "tsattn/adapters/refusals.py",
        "if Path(path).is_dir():",
        "if False:",
        f"{EXPORT}::test_only_fitted_networks_are_exported",
    ),
    Mutant(STORE, "isinstance(value, Path | torch.device)", "isinstance(value, Path)", SAVED),
    Mutant(STORE, "if not _is_name(alias):", "if False:", SAVED),
    Mutant(
        "tsattn/nn/patching.py",
        "if context is not None and x.shape[1] != context:",
        "if False:",
        "tests/nn/test_networks.py::test_windows_of_another_length_are_refused",
    ),
]
