"""What can be done from a shell? The commands of `tsattn`, thin, with one line for every mistake."""

import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tsattn import console

if TYPE_CHECKING:
    import pandas as pd

    from tsattn.data.covariates import CovariateColumns
    from tsattn.data.frames import Panel

# Heavy modules are imported inside the commands that need them: `tsattn --help` answers at once.

# Exit codes beside console.BAD_INPUT follow the shell's 128 + signal.
_INTERRUPTED, _BROKEN_PIPE = 130, 141
# typer has carried its own copy of click since 0.2x; this is the class of all usage errors in either.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="tsattn",
    help="Time-series forecasting with structured attention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
datasets = typer.Typer(help="Published data sets: what is known, where the files are.", rich_markup_mode=None)
app.add_typer(datasets, name="datasets")

_ATTENTIONS = "mlr, standard, sliding_window, global_local, bilinear_mlr, bilinear_btt or mlbtc"
Table = Annotated[Path, typer.Argument(metavar="DATA.csv", help="Table, long or wide, as CSV.")]
Horizon = Annotated[int, typer.Option(help="Rows to forecast.")]
IdCol = Annotated[str | None, typer.Option(help="Series column of a long table [unique_id].")]
TimeCol = Annotated[str | None, typer.Option(help="Time column [ds; of a wide table its first].")]
TargetCol = Annotated[str | None, typer.Option(help="Value column of a long table [y].")]
Freq = Annotated[str | None, typer.Option(help="Frequency, such as h or W-SAT [inferred].")]
Missing = Annotated[str | None, typer.Option(help="Missing values: error, interpolate or ffill [error].")]
PastCol = Annotated[list[str] | None, typer.Option(help="Column known up to the cutoff; repeatable.")]
FutureCol = Annotated[list[str] | None, typer.Option(help="Column known through the horizon as well; repeatable.")]
StaticCol = Annotated[list[str] | None, typer.Option(help="Column with one value in a series; repeatable.")]
Calendar = Annotated[list[str] | None, typer.Option(help="Cycle such as weekday, or auto; repeatable.")]
Context = Annotated[int | None, typer.Option(help="Rows of history a forecast reads [by horizon and length].")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training windows at most.")]
Season = Annotated[int | None, typer.Option(help="Rows of a season [by frequency, or the card's].")]
Seed = Annotated[int, typer.Option(help="Seed of the trained models.")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch [one for small networks].")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the files of published data sets.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Data set, such as ETTh1.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: Arguments after the program's name; default those of the process.

    Returns:
        0, or 2 when the input or its usage is wrong (one line on stderr says what), 130 when interrupted.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    command = typer.main.get_command(app)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            code = command.main(args=arguments, prog_name="tsattn", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
        if "--quiet" not in arguments:
            console.mention(caught)
    except _UsageError as error:
        return console.complain(_usage(error, arguments))
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except SystemExit as left:
        # Lightning turns an interrupt into an exit; typer does so when the reader of stdout has gone.
        return _INTERRUPTED if isinstance(left.__context__, KeyboardInterrupt) else _BROKEN_PIPE
    except BrokenPipeError:
        # The same while flushing; what Python flushes at exit must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return console.complain(console.os_error(error))
    except (ValueError, TypeError, ImportError) as error:
        return console.complain(str(error))
    return code if isinstance(code, int) else 0


def _usage(error: Any, arguments: Sequence[str]) -> str:
    where = error.ctx.command_path if error.ctx is not None else "tsattn"
    names = getattr(getattr(error, "param", None), "opts", [])
    # typer's own message names the option and the rule, not what stood there.
    pairs = [*itertools.pairwise(arguments), *(each.partition("=")[::2] for each in arguments)]
    given = [value for name, value in pairs if name in names and isinstance(error, typer.BadParameter)]
    value = f", got {given[0]!r}" if given else ""
    return f"{error.format_message().rstrip('.')}{value}; see `{where} --help`"


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(metadata.version("tsattn"))
    elif context.invoked_subcommand is None:
        raise ValueError("no command given; see `tsattn --help`")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for forecast.csv, backtest.csv, forecast.png.")] = Path("demo"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forecast real data that ships with a dependency, with intervals, judged beside baselines."""
    console.check_target(out, folder=True)
    from tsattn.demo import run_demo

    result = run_demo(progress=console.progress(quiet))
    result.write(out)
    if as_json:
        console.print_json(console.score_rows(result.scores))
    else:
        typer.echo(result.report(out))


@app.command()
def fit(
    data: Table,
    horizon: Horizon,
    out: Annotated[Path, typer.Option(help="Folder for the fitted model.")],
    attention: Annotated[str, typer.Option(help=f"{_ATTENTIONS}.")] = "mlr",
    context: Context = None,
    max_epochs: Epochs = None,
    seed: Seed = 0,
    threads: Threads = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    target_col: TargetCol = None,
    freq: Freq = None,
    missing: Missing = None,
    past_col: PastCol = None,
    future_col: FutureCol = None,
    static_col: StaticCol = None,
    calendar: Calendar = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit an attention model to a table and save it in a folder."""
    console.check_target(out, folder=True)
    reads = _covariates(past_col, future_col, static_col, calendar)
    panel = _read(data, id_col, time_col, target_col, freq, missing, reads=reads)
    asked = {"context": context, "max_epochs": max_epochs, "random_state": seed, "n_threads": threads}
    model = _attention_model(attention, horizon, quiet, **asked, **_settings(reads)).fit(panel)
    model.save(out)
    if as_json:
        console.print_json([{**model.summary_, "out": str(out)}])
    else:
        console.print_facts({**model.summary_, "saved in": out})


@app.command()
def forecast(
    data: Table,
    horizon: Annotated[int | None, typer.Option(help="Rows to forecast [the model's, with --from].")] = None,
    model: Annotated[str | None, typer.Option(help="Model [zero, which needs no training].")] = None,
    saved: Annotated[Path | None, typer.Option("--from", help="Folder of a fitted model: no new fit.")] = None,
    level: Annotated[list[float] | None, typer.Option(help="Interval in percent, such as 80; repeatable.")] = None,
    future: Annotated[Path | None, typer.Option(help="CSV table of the future columns after each series.")] = None,
    out: Annotated[Path | None, typer.Option(help="CSV file for the forecast [-, standard output].")] = None,
    plot: Annotated[Path | None, typer.Option(help="Picture of the first series, such as F.png.")] = None,
    context: Context = None,
    max_epochs: Epochs = None,
    seed: Seed = 0,
    threads: Threads = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    target_col: TargetCol = None,
    freq: Freq = None,
    missing: Missing = None,
    past_col: PastCol = None,
    future_col: FutureCol = None,
    static_col: StaticCol = None,
    calendar: Calendar = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forecast the rows after a table, with intervals where asked; without a model named, without training."""
    _check_forecast(saved, horizon, model, plot)
    for target in filter(None, (out, plot)):
        console.check_target(target, as_json=as_json)
    from tsattn.forecaster import check_request

    check_request(level, None)
    reads = _covariates(past_col, future_col, static_col, calendar)
    if saved is None:
        asked = {"context": context, "max_epochs": max_epochs, "random_state": seed, "n_threads": threads}
        forecaster = _model(model or "zero", cast(int, horizon), quiet, **asked, **_settings(reads))
    else:
        forecaster, reads = _saved_model(saved, reads, threads)
    missing = getattr(forecaster, "missing", None) if missing is None else missing
    panel = _read(data, id_col, time_col, target_col, freq, missing, reads=reads)
    ahead = _read_future(future, panel, reads, forecaster.horizon if horizon is None else horizon)
    # Baselines have one horizon and read no future: they are asked for neither.
    more = {"horizon": horizon if saved is not None else None, "future": ahead}
    if saved is None:
        forecaster.fit(panel)
    given = {name: value for name, value in more.items() if value is not None}
    result = forecaster.predict(panel, level=level, **given)
    frame = result.to_frame()
    if plot is not None:
        from tsattn.plotting import plot_forecast, save_plot

        save_plot(plot_forecast(panel, result), plot)
    if out is not None:
        console.write_csv(frame, out, index=result.dialect.time_col is None)
    if as_json:
        console.print_json(console.frame_rows(frame, result.dialect.time_col is None))
    elif out is None:
        typer.echo(frame.to_csv(index=result.dialect.time_col is None), nl=False)


@app.command()
def backtest(
    data: Table,
    horizon: Horizon,
    model: Annotated[list[str] | None, typer.Option(help="Model; repeatable [mlr, naive, seasonal_naive].")] = None,
    n_windows: Annotated[int, typer.Option(help="Windows judged, ending at the last row.")] = 10,
    step: Annotated[int, typer.Option(help="Rows between windows.")] = 1,
    out: Annotated[Path | None, typer.Option(help="CSV file for every forecast beside its truth; - is stdout.")] = None,
    context: Context = None,
    max_epochs: Epochs = None,
    season_length: Season = None,
    seed: Seed = 0,
    threads: Threads = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    target_col: TargetCol = None,
    freq: Freq = None,
    missing: Missing = None,
    past_col: PastCol = None,
    future_col: FutureCol = None,
    static_col: StaticCol = None,
    calendar: Calendar = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge models on the last windows of a table, each fitted on the rows before them."""
    if out is not None:
        console.check_target(out, as_json=as_json)
    from tsattn.catalogue import make_forecaster, settings_for
    from tsattn.evaluate.backtest import backtest as judge

    names = list(dict.fromkeys(model or ["mlr", "naive", "seasonal_naive"]))
    asked: dict[str, Any] = {
        "context": context,
        "max_epochs": max_epochs,
        "season_length": season_length,
        "random_state": seed,
        "n_threads": threads,
        "verbose": console.progress(quiet) is not None,
    }
    reads = _covariates(past_col, future_col, static_col, calendar)
    settings = {name: settings_for(name, **asked, **_settings(reads)) for name in names}
    if reads and not any("past_cols" in each for each in settings.values()):
        raise ValueError(f"{', '.join(names)} read no covariates; add a model that does, such as --model mlr")
    models = {name: make_forecaster(name, horizon, **each) for name, each in settings.items()}
    panel = _read(data, id_col, time_col, target_col, freq, missing, reads=reads)
    result = judge(models, panel, n_windows=n_windows, step_size=step, season_length=season_length)
    if out is not None:
        console.write_csv(result.frame, out, index=False)
    if console.is_stdout(out):
        return
    if as_json:
        console.print_json({"horizon": horizon, "step": step, **row} for row in console.score_rows(result.scores))
    else:
        console.print_table(result.scores)


@app.command()
def benchmark(
    suite: Annotated[Path | None, typer.Argument(metavar="[SUITE.toml]", help="What to run.")] = None,
    dataset: Annotated[list[str] | None, typer.Option(help="Published data set; repeatable.")] = None,
    data: Annotated[Path | None, typer.Option(help="CSV table without a card.")] = None,
    split: Annotated[str | None, typer.Option(help="Its shares of train, validation, test: 0.7,0.1,0.2.")] = None,
    horizon: Annotated[list[int] | None, typer.Option(help="Rows to forecast; repeatable [the card's].")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Model; repeatable [mlr, naive, seasonal_naive].")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeatable [0].")] = None,
    season_length: Season = None,
    context: Annotated[int | None, typer.Option(help="Rows a trained model reads [the card's, or 336].")] = None,
    max_epochs: Epochs = None,
    threads: Threads = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, typer.Option(help="Folder of records; what stands there is not run.")] = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    target_col: TargetCol = None,
    freq: Freq = None,
    missing: Missing = None,
    engine: Annotated[str | None, typer.Option(help="Where runs go: a number of processes, ray, dask, spark.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge models on published data sets by the published protocol, on every test window."""
    if out is not None:
        console.check_target(out, folder=True)
    from tsattn.benchmark import Suite, run_suite

    given: dict[str, Any] = {
        "datasets": tuple(dataset or ()),
        "horizons": tuple(horizon or ()),
        "models": tuple(model or ()),
        "seeds": tuple(seed or ()),
        "table": data,
        "split": split,
        "season_length": season_length,
        "context": context,
        "max_epochs": max_epochs,
        "columns": _columns(id_col, time_col, target_col, freq, missing),
    }
    asked = {name: value for name, value in given.items() if value not in (None, (), {})}
    plan = Suite(**asked) if suite is None else Suite.from_toml(suite, **asked)
    asked = {"progress": console.progress(quiet), "engine": engine, "n_threads": threads}
    records = run_suite(plan, data_dir=data_dir, out=out, **asked)
    if as_json:
        console.print_json(records)
    else:
        import pandas as pd

        shown = ["dataset", "horizon", "model", "seed", "n_windows", "mse", "mae", "params", "fit_seconds"]
        console.print_table(pd.DataFrame(records)[shown].set_index("dataset"))


@datasets.command("list")
def list_datasets(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the data sets that have a card."""
    from tsattn.data.cards import list_cards, read_card

    cards = [read_card(name) for name in list_cards()]
    if as_json:
        console.print_json({"name": c.name, "title": c.title, "rows": c.rows, "frequency": c.frequency} for c in cards)
        return
    for card in cards:
        typer.echo(f"{card.name:<12} {card.rows:>6} rows  {card.frequency:<6} {card.title}")


@datasets.command()
def show(name: Name, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show what the card of a data set says."""
    from dataclasses import asdict

    from tsattn.data.cards import read_card

    facts = asdict(read_card(name))
    if as_json:
        console.print_json([facts])
    else:
        console.print_facts(facts)


@datasets.command("fetch")
def fetch_dataset(name: Name, data_dir: DataDir = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Make sure that the file of a data set is here, downloading it if need be, and check it."""
    from tsattn.data.cards import fetch

    console.print_checked(fetch(name, data_dir), as_json)


@datasets.command("verify")
def verify_dataset(name: Name, data_dir: DataDir = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Check the file of a data set that is here, without downloading."""
    from tsattn.data.cards import verify

    console.print_checked(verify(name, data_dir), as_json)


# --- what the commands share ------------------------------------------------------------------------------------


def _columns(*how: str | None) -> dict[str, Any]:
    """How to read a table, from the values of the options in the order of the commands, where given."""
    names = ("id_col", "time_col", "target_col", "freq", "missing")
    given: dict[str, Any] = {name: each for name, each in zip(names, how, strict=True) if each is not None}
    if (step := given.get("freq", "")).isascii() and step.isdigit():
        given["freq"] = int(step)  # integer stamps
    return given


def _covariates(*named: list[str] | None) -> "CovariateColumns":
    """What a model is to read, from the values of the options in the order of the commands."""
    from tsattn.data.covariates import CovariateColumns

    past, future, static, calendar = (each or [] for each in named)
    return CovariateColumns.checked(past, future, static, "auto" if calendar == ["auto"] else calendar)


def _settings(reads: "CovariateColumns") -> dict[str, Any]:
    """The settings of a forecaster that reads them; none where it reads nothing."""
    names = ("past_cols", "future_cols", "static_cols", "calendar")
    return dict(zip(names, (reads.past, reads.future, reads.static, reads.calendar), strict=True)) if reads else {}


def _read(path: Path, *how: str | None, reads: "CovariateColumns") -> "Panel":
    from tsattn.data.files import read_table

    return read_table(path, **_columns(*how), covariate_cols=reads.moving, static_cols=reads.static)


def _read_future(path: Path | None, panel: "Panel", reads: "CovariateColumns", steps: int) -> "pd.DataFrame | None":
    """The rows after each series, refused before any training where something is missing in them."""
    from tsattn.data.files import read_csv
    from tsattn.data.future import read_future

    if path is None and reads.future:
        names = ", ".join(map(str, reads.future))
        raise ValueError(f"--future is missing; give a CSV table with {names} for the {steps} rows after each series")
    if path is not None and not reads.future:
        raise ValueError("--future was given, but the model reads no future columns; name them by --future-col")
    frame = None if path is None else read_csv(path, {panel.dialect.id_col, panel.dialect.time_col})
    read_future(frame, panel, reads, steps)
    return frame


def _saved_model(path: Path, reads: "CovariateColumns", threads: int | None) -> "tuple[Any, CovariateColumns]":
    from tsattn.forecaster import columns_of
    from tsattn.forecasters.attention import AttentionForecaster

    if reads:
        raise ValueError("--from takes a model that knows its columns; leave --past-col and the like out")
    model = AttentionForecaster.load(path)
    if threads is not None:
        model.set_params(n_threads=threads)
    return model, columns_of(model)


def _model(name: str, horizon: int, quiet: bool, **asked: Any) -> Any:
    """A forecaster of the catalogue, refused where an option was given that means nothing to it."""
    from tsattn.catalogue import make_forecaster, settings_for

    settings = settings_for(name, verbose=console.progress(quiet) is not None, **asked)
    named = {"past_cols": "past-col", "future_cols": "future-col", "static_cols": "static-col"}
    for setting, value in asked.items():
        if value and setting not in settings and setting not in ("random_state", "n_threads"):
            option = f"--{named.get(setting, setting).replace('_', '-')}"
            raise ValueError(
                f"{option} means nothing to {name}; leave it out, or name another model, as by --model mlr"
            )
    return make_forecaster(name, horizon, **settings)


def _attention_model(attention: str, horizon: int, quiet: bool, **asked: Any) -> Any:
    from tsattn.catalogue import MODELS, find_model, make_forecaster, settings_for

    if "attention" not in find_model(attention).fixed:
        kinds = ", ".join(name for name, entry in MODELS.items() if "attention" in entry.fixed)
        raise ValueError(f"{attention!r} is a model without attention; use --attention with one of {kinds}")
    verbose = console.progress(quiet) is not None
    return make_forecaster(attention, horizon, verbose=verbose, **settings_for(attention, **asked))


def _check_forecast(saved: Path | None, horizon: int | None, model: str | None, plot: Path | None) -> None:
    if saved is None and horizon is None:
        raise ValueError("--horizon is missing; say how many rows to forecast, such as --horizon 24")
    if saved is not None and model is not None:
        raise ValueError("--model names a new model and --from takes a fitted one; give one of the two")
    if plot is not None:
        from tsattn.plotting import check_format

        check_format(plot)
