"""Planted breaks of records, pages and measurements; the test beside each must fail with it."""

from mutants import Mutant

STUDY = "tests/benchmarks/test_pretraining_study.py"

MUTANTS = [
    Mutant(
        "tsattn/storage.py",
        "        if same and not again:\n            return same[0]\n",
        "        if same:\n            return same[0]\n",
        "tests/benchmarks/test_records.py",
    ),
    Mutant(
        "tsattn/storage.py",
        'with FileLock(path.with_name(f".{path.name}.lock")):',
        "if FileLock:",
        "tests/benchmarks/test_records.py",
    ),
    Mutant(
        "tsattn/storage.py",
        "return [row for row in (*rows, _row(last)) if row is not None]",
        "return rows",
        "tests/benchmarks/test_records.py",
    ),
    Mutant(
        "tsattn/benchmark.py",
        "seconds_of_model.keys() >= set(models_left)",
        "seconds_of_model",
        "tests/command_line/test_terminal.py::test_a_benchmark_tells_the_time_of_the_runs_to_come",
    ),
    Mutant(
        "tsattn/benchmark.py",
        "0 if network is None else sum(numbers.numel() for numbers in network.parameters())",
        "0",
        "tests/test_benchmark.py",
    ),
    Mutant(
        "tsattn/benchmark.py",
        "if record.keys() >= set(REQUIRED) and",
        "if record.keys() >= set(key) and",
        "tests/test_benchmark.py",
    ),
    Mutant(
        "tsattn/benchmark.py",
        "cutoffs = np.arange(n_before_test, n_rows - self.horizon + 1)",
        "cutoffs = np.arange(n_before_test, n_rows - self.horizon)",
        "tests/test_benchmark.py",
    ),
    Mutant(
        "tsattn/benchmark.py",
        'n_fit = n_before_test if "val_size" in self.settings else n_train',
        "n_fit = n_before_test",
        "tests/test_benchmark.py::test_models_without_early_stopping_learn_from_training_rows_alone",
    ),
    Mutant(
        "benchmarks/records.py",
        "if again or key_values not in recorded:",
        "if again or key_values:",
        "tests/benchmarks/test_records.py",
    ),
    Mutant(
        "benchmarks/records.py",
        "        row_keys.add(row_key)\n",
        "",
        "tests/benchmarks/test_records.py",
    ),
    Mutant(
        "benchmarks/render.py",
        "fmean(row[name] for row in rows)",
        "max(row[name] for row in rows)",
        "tests/benchmarks/test_report.py",
    ),
    Mutant(
        "benchmarks/render.py",
        'path.exists() and _mark(panels) in path.read_text("utf-8")',
        "path.exists()",
        "tests/benchmarks/test_report.py",
    ),
    Mutant(
        "benchmarks/suite/page.py",
        'if {row["horizon"] for row in model_rows} < horizons:',
        'if {row["horizon"] for row in model_rows} > horizons:',
        "tests/benchmarks/test_report.py",
    ),
    Mutant(
        "benchmarks/suite/page.py",
        'row["config"].get("linear_skip") == MAP and row["best_epoch"] == 0',
        'row["config"].get("linear_skip") == MAP',
        "tests/benchmarks/test_report.py",
    ),
    Mutant(
        "benchmarks/suite/pretrained.py",
        "weights.append(weigh(products))",
        "weights.append(weigh(products[-3:]))",
        "tests/benchmarks/test_pretrained_tables.py",
    ),
    Mutant(
        "benchmarks/suite/pretrained.py",
        "ends_inside = self.ends + horizon <= stop",
        "ends_inside = self.ends + horizon < stop",
        "tests/benchmarks/test_pretrained_tables.py",
    ),
    Mutant("benchmarks/pretraining_study/run.py", "period = self.lent[place]", "pass", STUDY),
    Mutant(
        "benchmarks/pretraining_study/run.py",
        'cycle.remainder(n_cycles), groups["near"]',
        'groups["near"], groups["near"]',
        STUDY,
    ),
    Mutant(
        "benchmarks/pretraining_study/run.py",
        'groups["phase"] = torch.where(has_season, phase, wide)',
        'groups["phase"] = torch.where(has_season, cycle, wide)',
        STUDY,
    ),
    Mutant("benchmarks/pretraining_study/run.py", "clamp_max(1),", "clamp_max(0),", STUDY),
    Mutant(
        "benchmarks/paper/page.py",
        "if len(rate_runs) == most_seeds:",
        "if rate_runs:",
        "tests/benchmarks/test_paper.py",
    ),
    Mutant(
        "benchmarks/paper/language_model.py",
        'losses[row["rate"]] = row["validation"]',
        'losses[row["rate"]] = row.get("test")',
        "tests/benchmarks/test_paper.py",
    ),
    Mutant(
        "benchmarks/paper/shared.py",
        "block_numbers = (places + offset) // (block",
        "block_numbers = places // (block",
        "tests/benchmarks/test_paper.py",
    ),
    Mutant(
        "benchmarks/speed/gate.py",
        "    errors += _check_last(case, candidate)\n",
        "",
        "tests/benchmarks/test_speed.py",
    ),
    Mutant(
        "benchmarks/speed/run.py",
        "np.percentile(seconds / base_seconds, (20, 50, 80))",
        "np.percentile(base_seconds / seconds, (20, 50, 80))",
        "tests/benchmarks/test_speed.py",
    ),
    Mutant(
        "benchmarks/covariates/pack.py",
        "ahead = frame.iloc[end : end + task.horizon]",
        "ahead = frame.iloc[end - 1 : end - 1 + task.horizon]",
        "tests/benchmarks/test_covariates.py",
    ),
    Mutant(
        "benchmarks/covariates/page.py",
        '**model["scores"], **stand_ins}',
        '**model["scores"]}',
        "tests/benchmarks/test_covariates.py",
    ),
    Mutant(
        "benchmarks/zero_shot/pack.py",
        "lag = 1 if season > len(past) and suite != STRICT else season",
        "lag = 1 if season > len(past) else season",
        "tests/benchmarks/test_zero_shot.py",
    ),
    Mutant(
        "tests/run_suites.py",
        "if not failures and passed < suite.least:",
        "if not failures and passed < 0:",
        "tests/house/test_suites.py",
    ),
    Mutant(
        "docs/benchmarks.md",
        "In 17 of 20 cells",
        "In 16 of 20 cells",
        "tests/benchmarks/test_claims.py",
    ),
    Mutant(
        "docs/paper.md", "in 6 of 7 pairs", "in 7 of 7 pairs", "tests/benchmarks/test_claims.py"
    ),
    Mutant(
        "benchmarks/pretraining_study/groups.py",
        "optimizer.load_state_dict(values)",
        "pass",
        "tests/benchmarks/test_groups_study.py::test_a_killed_run_goes_on",
    ),
]
