"""The commands of ``tsattn``: options, calls of the library, and one line for each mistake."""

import inspect
import itertools
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tsattn import console
from tsattn.checks import InputError
from tsattn.storage import check_replaceable

if TYPE_CHECKING:
    import pandas as pd

    from tsattn.data.covariates import CovariateColumns
    from tsattn.data.panel import Panel
    from tsattn.data.schema import Schema

# Heavy modules are imported inside the commands that need them: `tsattn --help` answers at once.

# Exit codes beside console.BAD_INPUT follow the shell's 128 + signal.
_INTERRUPTED = 130
_BROKEN_PIPE = 141
# The class of all usage errors. typer has its own copy of click since 0.2x, so that the class
# cannot be imported from click.
_UsageError = cast(type[Exception], typer.BadParameter.__base__)

# Parameter of the library -> parameter of a command, where the names differ.
_COMMAND_NAMES = {
    "past_cols": "past_col",
    "future_cols": "future_col",
    "static_cols": "static_col",
    "step_size": "step",
    "n_threads": "threads",
    "random_state": "seed",
    "datasets": "dataset",
    "horizons": "horizon",
    "table": "data",
}
# Models of a backtest: none of them is trained.
_DEFAULT_MODELS = ("zero", "naive", "seasonal_naive")
# Columns of the records that a benchmark prints.
_BENCHMARK_COLUMNS = [
    "dataset",
    "horizon",
    "model",
    "seed",
    "n_windows",
    "mse",
    "mae",
    "params",
    "fit_seconds",
]

app = typer.Typer(
    name="tsattn",
    help="Time-series forecasting with structured attention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
datasets = typer.Typer(help="Facts and files of published data sets.", rich_markup_mode=None)
app.add_typer(datasets, name="datasets")

Table = Annotated[
    Path,
    typer.Argument(
        metavar="DATA.csv", help="Table as CSV, Parquet, Feather or Excel; - is CSV on stdin."
    ),
]
# How the number of rows to forecast is read and shown.
_ROWS: dict[str, Any] = {"parser": console.row_count, "metavar": "<int>"}
Horizon = Annotated[int, typer.Option(help="Rows to forecast.", **_ROWS)]
Levels = Annotated[
    list[Any] | None,
    typer.Option(
        help="Interval in percent, such as 80 or 80,95; repeatable.",
        parser=console.levels,
        callback=console.all_levels,
        metavar="<float>",
    ),
]
Season = Annotated[int | None, typer.Option(help="Rows of a season [by frequency, or the card's].")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch [one for small networks].")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the files of published data sets.")]
DatasetName = Annotated[str, typer.Argument(metavar="NAME", help="Data set, such as ETTh1.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print no progress and no warnings.")]
Text = str | None
Names = list[str] | None


# --- options that several commands share ----------------------------------------------------------


@dataclass(frozen=True)
class TableChoice:
    """How a table is read.

    Args:
        schema: What its columns are.
        named: The fields of the schema that are set by options, also where they are the defaults.
        max_size: Bytes that a packed file may hold unpacked; ``None`` is the library's limit.
        encoding: Encoding of CSV; ``None`` is found.
    """

    schema: "Schema"
    named: Mapping[str, Any] = field(default_factory=dict)
    max_size: str | None = None
    encoding: str | None = None

    def read(self, path: Path, schema: "Schema") -> "pd.DataFrame":
        """Read a file, and refuse one without a column that an option names.

        Args:
            path: The file.
            schema: What its columns are, by these options and by the model.
        """
        from tsattn.data.columns import require_named

        frame = self.read_as_is(path, schema)
        require_named(frame, self.named)
        return frame

    def read_as_is(self, path: Path, schema: "Schema") -> "pd.DataFrame":
        """Read a file whatever its columns are.

        Args:
            path, schema: As :meth:`read` takes them.
        """
        from tsattn.data.files import read_frame

        return read_frame(path, schema, max_size=self.max_size, encoding=self.encoding)


def _table_options(
    id_col: Annotated[
        Names, typer.Option(help="Series column of a long table [unique_id]; repeatable.")
    ] = None,
    time_col: Annotated[
        Text, typer.Option(help="Time column [ds; of a wide table its first].")
    ] = None,
    target_col: Annotated[Text, typer.Option(help="Value column of a long table [y].")] = None,
    freq: Annotated[Text, typer.Option(help="Frequency, such as h or W-SAT [inferred].")] = None,
    missing: Annotated[
        Text,
        typer.Option(
            help="Missing values: error, interpolate, ffill, mask [mask, else interpolate]."
        ),
    ] = None,
    gaps: Annotated[
        Text, typer.Option(help="What absent rows are: closed or missing [by their pattern].")
    ] = None,
    bad: Annotated[
        Text, typer.Option(help="Series without values or too short: skip or error [skip].")
    ] = None,
    past_col: Annotated[
        Names, typer.Option(help="Column known up to the cutoff; repeatable.")
    ] = None,
    future_col: Annotated[
        Names, typer.Option(help="Column known through the horizon; repeatable.")
    ] = None,
    static_col: Annotated[
        Names, typer.Option(help="Column with one value in a series; repeatable.")
    ] = None,
    calendar: Annotated[
        Names, typer.Option(help="Cycle such as weekday, auto, or holidays:DE; repeatable.")
    ] = None,
    max_size: Annotated[
        Text, typer.Option(help="Largest unpacked size of a file, such as 4GB [1GB; Excel 50MB].")
    ] = None,
    encoding: Annotated[
        Text, typer.Option(help="Encoding of CSV, such as cp1250 [UTF-8, else cp1252].")
    ] = None,
) -> TableChoice:
    """How a table is read."""
    from tsattn.data.schema import Schema

    settings: dict[str, Any] = {
        "id_col": id_col,
        "time_col": time_col,
        "target_col": target_col,
        "freq": freq,
        "missing": missing,
        "gaps": gaps,
        "bad": bad,
        "past_cols": past_col,
        "future_cols": future_col,
        "static_cols": static_col,
        "calendar": calendar,
    }
    # A number is the step of integer stamps.
    if freq is not None and freq.isascii() and freq.isdigit():
        settings["freq"] = int(freq)
    if calendar == ["auto"]:
        settings["calendar"] = "auto"
    named = _given(settings)
    return TableChoice(Schema(**named), named, max_size, encoding)


def _fit_options(
    context: Annotated[
        int | None, typer.Option(help="Rows of history a forecast reads [by horizon and length].")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="Passes over the training windows [10; more if few].")
    ] = None,
    season_length: Season = None,
    max_time: Annotated[
        Text, typer.Option(help="Time of a fit, such as 90s or 10m [no limit; of auto 1m].")
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Train the weights of zero on the table.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the trained models.")] = 0,
    threads: Threads = None,
) -> dict[str, Any]:
    """How a model is fitted."""
    return {
        "context": context,
        "max_epochs": max_epochs,
        "season_length": season_length,
        "max_time": max_time,
        "fine_tune": fine_tune or None,
        "random_state": seed,
        "n_threads": threads,
    }


def _answer_options(
    plot: Annotated[
        Path | None, typer.Option(help="Picture of up to twelve series, such as F.png.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Page with plots and scores of all series, such as F.html.")
    ] = None,
    batch_series: Annotated[
        int | None,
        typer.Option(help="Series at a time, Parquet to Parquet [20000 of a long file]."),
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="What runs batches: a number of processes, ray, dask, spark.")
    ] = None,
) -> dict[str, Any]:
    """What is drawn of a forecast, and how a long file is forecast."""
    batches = {"batch_series": batch_series, "engine": engine}
    return {"plot": plot, "report": report, "batches": batches}


def _grid_options(
    dataset: Annotated[Names, typer.Option(help="Published data set; repeatable.")] = None,
    data: Annotated[Path | None, typer.Option(help="Table without a card, such as F.csv.")] = None,
    split: Annotated[
        Text, typer.Option(help="Shares of its rows to train, validate, test: 0.7,0.1,0.2.")
    ] = None,
    horizon: Annotated[
        list[int] | None, typer.Option(help="Rows to forecast; repeatable [the card's].", **_ROWS)
    ] = None,
    model: Annotated[
        Names, typer.Option(help="Model; repeatable [mlr, naive, seasonal_naive].")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed; repeatable [0].")] = None,
    season_length: Season = None,
    context: Annotated[
        int | None, typer.Option(help="Rows a trained model reads [the card's, or 336].")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="Passes over the training windows at most.")
    ] = None,
) -> dict[str, Any]:
    """What a benchmark runs."""
    settings = {
        "datasets": dataset,
        "horizons": horizon,
        "models": model,
        "seeds": seed,
        "table": data,
        "split": split,
        "season_length": season_length,
        "context": context,
        "max_epochs": max_epochs,
    }
    return _given(settings)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given on the command line, lists as tuples."""
    options = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return {name: value for name, value in options.items() if value not in (None, ())}


TableOptions = Annotated[Any, _table_options]
FitOptions = Annotated[Any, _fit_options]
AnswerOptions = Annotated[Any, _answer_options]
GridOptions = Annotated[Any, _grid_options]
_GROUPS = (_table_options, _fit_options, _answer_options, _grid_options)


def _with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Put the single options of a group in the place of the one parameter that is the group.

    typer reads options off a signature. A parameter of the type ``Annotated[Any, group]`` therefore
    becomes the parameters of the function ``group``, which makes the one object from them.
    """
    groups = {}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        (metadata, *_) = getattr(parameter.annotation, "__metadata__", (None,))
        if metadata in _GROUPS:
            groups[name] = metadata
        else:
            parameters.append(parameter)
    options_of = {name: inspect.signature(group).parameters for name, group in groups.items()}
    for options in options_of.values():
        parameters += options.values()

    def command_of_options(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{option: values.pop(option) for option in options_of[name]})
        command(**values)

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    command_of_options.__name__ = command.__name__
    command_of_options.__doc__ = command.__doc__
    command_of_options.__annotations__ = {p.name: p.annotation for p in parameters}
    command_of_options.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    return command_of_options


# --- the program ----------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: Arguments after the program's name; default those of the process.

    Returns:
        0 on success. 2 where the input or the usage is wrong, after one line on stderr, which
        follows warnings. 130 where the user interrupts, 141 where the reader of standard output has
        gone.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return _run(arguments)
    except _UsageError as error:
        message = _usage_message(error, arguments)
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except SystemExit as error:
        # Lightning turns an interrupt into an exit. typer exits where the reader of standard output
        # has gone.
        interrupted = isinstance(error.__context__, KeyboardInterrupt)
        return _INTERRUPTED if interrupted else _BROKEN_PIPE
    except BrokenPipeError:
        # Python flushes standard output once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        message = console.os_error(error)
    except (MemoryError, RuntimeError) as error:
        # Torch has no error of its own for this.
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error):
            raise
        reason = str(error).rpartition("can't allocate memory: ")[2] or "no room"
        message = f"memory is too small: {reason}; ask for fewer steps, or give fewer rows"
    except InputError as error:
        message = error.for_command_line(_options_of(arguments))
    except (ValueError, TypeError, ImportError) as error:
        message = console.other_error(error)
    return console.complain(message)


def _run(arguments: list[str]) -> int:
    """Run a command and show the warnings of the library, unless ``--quiet`` is set."""
    command = typer.main.get_command(app)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            code = command.main(args=arguments, prog_name="tsattn", standalone_mode=False)
        finally:
            # Before an error, too, which they may explain.
            if sys.stdout is not None:
                sys.stdout.flush()
            if "--quiet" not in arguments:
                console.mention(caught, _options_of(arguments))
    return code if isinstance(code, int) else 0


def _options_of(arguments: Sequence[str]) -> dict[str, str]:
    """Parameters of the library and the options of the command in ``arguments`` that set them."""
    command = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    options = {
        parameter.name: parameter.opts[0]
        for parameter in command.params
        if parameter.opts[0].startswith("--")
    }
    for library_name, command_name in _COMMAND_NAMES.items():
        if command_name in options:
            options[library_name] = options[command_name]
    return options


def _usage_message(error: Any, arguments: Sequence[str]) -> str:
    """What typer says of a mistake, the value that was given, and the help to read."""
    command = "tsattn"
    if error.ctx is not None:
        command = error.ctx.command_path
    elif arguments and not arguments[0].startswith("-"):
        # typer tells of an option without its value, but not of which command.
        command += f" {arguments[0]}"
    message = error.format_message().rstrip(".")
    # typer names the option and the rule, but not the value.
    parameter = getattr(error, "param", None)
    if isinstance(error, typer.BadParameter) and parameter is not None:
        values = _values_of(parameter.opts, arguments)
        if values:
            message += f", got {values[0]!r}"
    return f"{message}; see `{command} --help`"


def _values_of(options: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Values that follow an option, as ``--option value`` or ``--option=value``."""
    pairs = list(itertools.pairwise(arguments))
    for argument in arguments:
        option, _, value = argument.partition("=")
        pairs.append((option, value))
    return [value for option, value in pairs if option in options]


# --- the commands ---------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(metadata.version("tsattn"))
    elif context.invoked_subcommand is None:
        raise ValueError("no command given; see `tsattn --help`")


@app.command(short_help="Forecast an example series, and score models on it.")
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for forecast.csv, backtest.csv, forecast.png.")
    ] = Path("demo"),
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forecast weekly CO2 at Mauna Loa, and score models and baselines on it."""
    console.check_target(out, folder=True)
    from tsattn.demo import run_demo

    result = run_demo(progress=console.progress(quiet))
    result.write(out)
    if as_json:
        console.print_json(console.score_rows(result.scores))
    else:
        typer.echo(result.report(out))


@app.command()
@_with_groups
def fit(
    data: Table,
    horizon: Horizon,
    out: Annotated[Path, typer.Option(help="Folder for the fitted model.")],
    table: TableOptions,
    settings: FitOptions,
    model: Annotated[str, typer.Option(help="Model.")] = "mlr",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a model to a table and save it in a folder."""
    console.check_target(out, folder=True)
    check_replaceable(out)
    forecaster = _new_model(model, horizon, table.schema, settings)
    frame = table.read(data, forecaster.schema)
    forecaster.fit(frame, verbose=console.progress(quiet) is not None)
    _tell_choice(forecaster, quiet)
    forecaster.save(out)
    panel = forecaster.panel_
    facts = {
        "model": forecaster.alias_,
        "context": forecaster.max_context,
        "horizon": horizon,
        "series": panel.n_series,
        "frequency": panel.freq,
        **getattr(forecaster, "summary_", {}),
    }
    if as_json:
        console.print_json([{**facts, "out": str(out)}])
    else:
        console.print_facts({**facts, "saved in": out})


@app.command(short_help="Forecast the rows after a table.")
@_with_groups
def forecast(
    data: Table,
    table: TableOptions,
    settings: FitOptions,
    answer: AnswerOptions,
    horizon: Annotated[
        int | None, typer.Option(help="Rows to forecast [the model's, with --from].", **_ROWS)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model [zero, which needs no training].")
    ] = None,
    saved: Annotated[
        Path | None, typer.Option("--from", help="Folder of a fitted model, which is not refitted.")
    ] = None,
    level: Levels = None,
    future: Annotated[
        Path | None, typer.Option(help="Table with the future columns of the rows to forecast.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="File for the forecast, its ending is the format [-, CSV on stdout]."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forecast the rows after a table, with intervals if --level is set.

    Without --model the forecast needs no training. A long Parquet file is forecast in batches; if
    the command is killed, the same command continues.
    """
    plot = answer["plot"]
    report = answer["report"]
    batches = answer["batches"]
    _check_forecast(saved, horizon, model, plot)
    _check_out(out, as_json, data, future, plot=plot, report=report)
    from tsattn.levels import check_request

    check_request(level, None)
    if saved is None:
        name = model or "zero"
        if future is not None:
            table = _with_future_columns(table, data, future, name)
        forecaster = _new_model(name, cast(int, horizon), table.schema, settings)
    else:
        forecaster = _saved_model(saved, table, settings)
    steps = None if saved is None else horizon
    whole = {"--future": future, "--plot": plot, "--report": report, "--json": as_json}
    verbose = console.progress(quiet) is not None
    if _in_batches(data, out, batches, whole, forecaster):
        options = {"level": level, "horizon": steps, "verbose": verbose}
        _forecast_in_batches(forecaster, data, cast(Path, out), batches, **options)
        return
    schema = forecaster.schema if saved is None else _schema_of_fit(forecaster)
    frame = table.read(data, schema)
    panel = forecaster.read(frame, fitted=saved is not None)
    future_rows = _read_future(future, panel, forecaster, horizon, table)

    def predicted(series: Any) -> Any:
        if saved is None:
            forecaster.fit(series, verbose=verbose)
        return forecaster.predict(series, level=level, horizon=steps, future=future_rows)

    from tsattn.data.panel import skip_bad, tell_skipped

    result, panel = skip_bad(panel, predicted, forecaster.schema.bad)
    tell_skipped(panel)
    _tell_choice(forecaster, quiet)
    _write_forecast(result, frame, panel, out, as_json)
    # The pictures come last, so that the forecast is not lost where they fail. A saved model has
    # read the rows that would judge it.
    _draw(plot, report, forecaster, panel, result, judge=saved is None)


def _draw(
    plot: Path | None,
    report: Path | None,
    forecaster: Any,
    panel: Any,
    result: Any,
    *,
    judge: bool,
) -> None:
    """Write the picture and the page of a forecast that were asked for."""
    if plot is not None:
        from tsattn.plotting import plot_forecast, save_plot

        save_plot(plot_forecast(panel, result), plot)
    if report is not None:
        from tsattn.report import write_report

        write_report(report, forecaster, panel, result, judge=judge)


@app.command(short_help="Score models on the last windows of a table.")
@_with_groups
def backtest(
    data: Table,
    horizon: Horizon,
    table: TableOptions,
    settings: FitOptions,
    model: Annotated[
        list[str] | None, typer.Option(help="Model; repeatable [zero, naive, seasonal_naive].")
    ] = None,
    n_windows: Annotated[
        int, typer.Option(help="Windows scored, the last at the table's end.")
    ] = 10,
    step: Annotated[int, typer.Option(help="Rows between windows.")] = 1,
    refit: Annotated[
        int | None, typer.Option(help="Fit again before every k-th window [once].")
    ] = None,
    level: Levels = None,
    out: Annotated[
        Path | None, typer.Option(help="File for all forecasts with observed values; - is stdout.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score models on the last windows of a table, each fitted on the rows before them."""
    _check_out(out, as_json, data)
    from tsattn.evaluate.backtest import backtest as run_backtest

    # The rules give points only.
    names = model or (_DEFAULT_MODELS if level is None else _DEFAULT_MODELS[:1])
    forecasters = _models_to_judge(names, horizon, table.schema, settings)
    frame = table.read(data, table.schema)
    result = run_backtest(
        forecasters,
        frame,
        n_windows=n_windows,
        step_size=step,
        refit=False if refit is None else refit,
        level=level,
        season_length=settings["season_length"],
        verbose=console.progress(quiet) is not None,
    )
    if out is not None:
        judged = _as_written(result.frame, frame, result.panel, out)
        console.write_table(judged, out, index=False)
    if console.is_stdout(out):
        return
    if as_json:
        rows = console.score_rows(result.scores)
        console.print_json({"horizon": horizon, "step": step, **row} for row in rows)
    else:
        console.print_table(result.scores)


@app.command(short_help="Score models on published data sets.")
@_with_groups
def benchmark(
    grid: GridOptions,
    table: TableOptions,
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE.toml]", help="File that lists the runs.")
    ] = None,
    threads: Threads = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of records; a run on record is not repeated.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What does the runs: a number of processes, ray, dask, spark."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score models on published data sets by the published protocol, on every test window."""
    if out is not None:
        console.check_target(out, folder=True)
    from tsattn.benchmark import Suite, run_suite

    settings = dict(grid)
    if table.max_size is not None:
        raise ValueError("--max-size is not for a benchmark; unpack its table first")
    if table.encoding is not None:
        raise ValueError("--encoding is not for a benchmark; write its table as UTF-8 first")
    columns = table.schema.to_dict()
    if columns:
        settings["columns"] = columns
    plan = Suite(**settings) if suite is None else Suite.from_toml(suite, **settings)
    records = run_suite(
        plan,
        data_dir=data_dir,
        out=out,
        progress=console.progress(quiet),
        engine=engine,
        n_threads=threads,
    )
    if as_json:
        console.print_json(records)
    else:
        import pandas as pd

        console.print_table(pd.DataFrame(records)[_BENCHMARK_COLUMNS].set_index("dataset"))


@app.command("models")
def list_models(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the names that --model takes."""
    from tsattn.catalogue import MODELS

    if as_json:
        console.print_json({"model": name} for name in MODELS)
        return
    for name in MODELS:
        typer.echo(name)


@datasets.command("list")
def list_datasets(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the data sets that have a card."""
    from tsattn.data.cards import list_cards, read_card

    cards = [read_card(name) for name in list_cards()]
    if as_json:
        names = ("name", "title", "rows", "frequency")
        console.print_json({name: getattr(card, name) for name in names} for card in cards)
        return
    for card in cards:
        typer.echo(f"{card.name:<12} {card.rows:>6} rows  {card.frequency:<6} {card.title}")


@datasets.command()
def show(name: DatasetName, as_json: Json = False, quiet: Quiet = False) -> None:
    """Show the card of a data set."""
    from dataclasses import asdict

    from tsattn.data.cards import read_card

    facts = asdict(read_card(name))
    if as_json:
        console.print_json([facts])
    else:
        console.print_facts(facts)


@datasets.command("fetch")
def fetch_dataset(
    name: DatasetName, data_dir: DataDir = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Download the file of a data set unless it exists, and check it."""
    from tsattn.data.cards import load_dataset

    console.print_checked(load_dataset(name, data_dir).report(), as_json)


@datasets.command("verify")
def verify_dataset(
    name: DatasetName, data_dir: DataDir = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Check the file of a data set without downloading it."""
    from tsattn.data.cards import verify

    console.print_checked(verify(name, data_dir), as_json)


# --- tables and files -----------------------------------------------------------------------------


def _as_written(
    frame: "pd.DataFrame", source: "pd.DataFrame", panel: "Panel", out: Path | None
) -> "pd.DataFrame":
    """Forecasts with stamps in the layout of the table that they continue.

    Args:
        frame: Forecasts, with cutoffs if they are those of a backtest.
        source: The table as it was read.
        panel: Its series.
        out: Where the forecasts go. Files that know stamps get stamps.
    """
    from tsattn.data.files import kind_of
    from tsattn.data.layouts import find_layout

    time_col = panel.dialect.time_col
    is_text = out is None or console.is_stdout(out) or kind_of(out) == "CSV"
    if not is_text or time_col not in source.columns:
        return frame
    write = find_layout(source[time_col], panel.times)
    if write is None:
        return frame
    written = frame.copy()
    for name in {time_col, "ds", "cutoff"} & {*frame.columns}:
        if frame[name].dtype.kind == "M":
            written[name] = write(frame[name])
            if written[name].dtype.kind == "M":  # either all columns in this layout, or none
                return frame
    return written


def _write_forecast(
    result: Any, source: "pd.DataFrame", panel: "Panel", out: Path | None, as_json: bool
) -> None:
    """Write a forecast to a file, or print it."""
    frame = result.to_frame()
    stamps_in_index = result.dialect.time_col is None
    if out is not None:
        written = _as_written(frame, source, panel, out)
        console.write_table(written, out, index=stamps_in_index)
    if as_json:
        console.print_json(console.frame_rows(frame, stamps_in_index))
    elif out is None:
        written = _as_written(frame, source, panel, None)
        typer.echo(written.to_csv(index=stamps_in_index), nl=False)


def _check_out(
    out: Path | None,
    as_json: bool,
    *sources: Path | None,
    plot: Path | None = None,
    report: Path | None = None,
) -> None:
    """Refuse files that cannot be written, and files that are read."""
    from tsattn.data.files import check_ending

    is_printed = as_json or out is None or console.is_stdout(out)
    if is_printed and sys.stdout is None:
        raise ValueError(
            "standard output is closed, so the result would be lost; leave it open, or name a file"
            " by --out, without --json"
        )
    # Tables, pictures and pages have endings of their own, so that none replaces another.
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report writes an HTML page; got {report}: write it as page.html")
    targets = [path for path in (out, plot, report) if path is not None]
    for path in targets:
        console.check_target(path, as_json=as_json)
        for other in targets:
            if other.absolute() in path.absolute().parents:
                raise ValueError(f"{other} is a file to write, so {path} cannot lie below it")
        for source in sources:
            if source is None or not path.is_file() or not source.is_file():
                continue
            if path.samefile(source):
                raise ValueError(f"{path} is the table that is read; name another file to write to")
    if out is not None:
        check_ending(out)


def _in_batches(
    data: Path,
    out: Path | None,
    batches: Mapping[str, Any],
    whole: Mapping[str, Any],
    forecaster: Any,
) -> bool:
    """Whether a table is forecast in batches: by an option, or since it is long and nothing needs
    the whole of it.

    Args:
        data, out: The table, and where the forecast goes.
        batches: Options of batches.
        whole: Options that need the whole table, and their values.
        forecaster: The model.
    """
    whole_options = [option for option, value in whole.items() if value]
    if any(value is not None for value in batches.values()):
        if whole_options:
            raise ValueError(
                f"{whole_options[0]} needs the whole table, not batches of it; leave it out, or"
                " leave --batch-series and --engine out"
            )
        if out is None or console.is_stdout(out):
            raise ValueError(
                "batches are written to a file; add --out, such as --out ahead.parquet"
            )
        return True
    if whole_options or out is None or not data.is_file():
        return False
    from tsattn.data.files import kind_of

    if kind_of(data) != "Parquet" or kind_of(out) != "Parquet":
        return False
    from tsattn.batches import is_long

    return is_long(data, forecaster)


def _forecast_in_batches(
    forecaster: Any, data: Path, out: Path, batches: Mapping[str, Any], **options: Any
) -> None:
    """Forecast a Parquet file into another one, and print what was done."""
    from dataclasses import asdict

    from tsattn.batches import forecast_file

    settings = {name: value for name, value in batches.items() if value is not None}
    run = forecast_file(forecaster, data, out, **settings, **options)
    console.print_facts({**asdict(run), "saved in": out})


def _check_forecast(
    saved: Path | None, horizon: int | None, model: str | None, plot: Path | None
) -> None:
    if saved is None and horizon is None:
        raise ValueError(
            "--horizon is missing; say how many rows to forecast, such as --horizon 24"
        )
    if saved is not None and model is not None:
        raise ValueError(
            "--model names a new model and --from takes a fitted one; give one of the two"
        )
    if plot is not None:
        from tsattn.plotting import check_format

        check_format(plot)


def _read_future(
    path: Path | None,
    panel: "Panel",
    forecaster: Any,
    horizon: int | None,
    table: TableChoice,
) -> "pd.DataFrame | None":
    """The rows after each series; missing values in them are refused before any training."""
    from tsattn.data.encoding import learn_columns
    from tsattn.data.future import read_future

    steps = forecaster.horizon if horizon is None else horizon
    columns = forecaster.covariate_columns_
    if path is None and columns.future:
        names = ", ".join(map(str, columns.future))
        raise ValueError(
            f"--future is missing; give a table with {names} for the {steps} rows after each series"
        )
    if path is not None and not columns.future:
        raise ValueError(
            "--future was given, but the model reads no future columns; leave it out, or fit with"
            " --future-col"
        )
    frame = None
    if path is not None:
        dialect = panel.dialect
        schema = forecaster.schema.changed(id_col=dialect.id_names, time_col=dialect.time_col)
        frame = table.read_as_is(path, schema)
        if not columns.categories:
            # The table tells them before a fit.
            columns = learn_columns(columns, panel)
    read_future(frame, panel, columns, steps)
    return frame


# --- models ---------------------------------------------------------------------------------------


def _saved_model(path: Path, table: TableChoice, settings: dict[str, Any]) -> Any:
    """A fitted model, which remembers how its table was read.

    Options of the table overrule what the model remembers.
    """
    from tsattn.catalogue import load_forecaster

    if table.schema.columns:
        raise ValueError(
            "--from takes a model that knows its columns; leave --past-col and the like out"
        )
    option_values = {**settings, "freq": table.named.get("freq")}
    for name in ("context", "max_epochs", "max_time", "season_length", "fine_tune", "freq"):
        if option_values[name] is not None:
            raise ValueError(
                f"--from takes a fitted model, to which {_option(name)} means nothing: leave it out"
            )
    model = load_forecaster(path)
    if table.named:
        model.set_params(schema=model.schema.changed(**table.named))
    threads_setting = "training__n_threads" if hasattr(model, "training") else "n_threads"
    n_threads = settings["n_threads"]
    if n_threads is not None and threads_setting in model.get_params():
        model.set_params(**{threads_setting: n_threads})
    return model


def _schema_of_fit(forecaster: Any) -> "Schema":
    """How a fitted model reads a table, with the ids that it found in the table of its fit."""
    schema = forecaster.schema
    id_names = forecaster.panel_.dialect.id_names
    if schema.id_col != "unique_id" or id_names is None:
        return schema
    return schema.changed(id_col=id_names)


def _tell_choice(forecaster: Any, quiet: bool) -> None:
    """Print on a terminal what a combination of models is made of."""
    progress = console.progress(quiet)
    chosen = getattr(forecaster, "chosen_", None)
    if progress is not None and chosen is not None:
        progress(f"{forecaster.alias_}: {chosen}")


def _new_model(name: str, horizon: int, schema: "Schema", settings: dict[str, Any]) -> Any:
    """A forecaster of the catalogue; options that mean nothing to it are refused.

    Seed and threads have no effect on some models, and are not refused.
    """
    from tsattn.catalogue import find_model, make_forecaster

    setting_names = find_model(name).settings()
    chosen = {}
    for setting, value in settings.items():
        if value is None:
            continue
        if setting in setting_names:
            chosen[setting] = value
        elif setting not in ("random_state", "n_threads"):
            _refuse(_option(setting), name, _model_with(setting))
    forecaster = make_forecaster(name, horizon, schema=schema, **chosen)
    if schema.columns and not forecaster.covariate_columns:
        _refuse(_first_column_option(schema.columns), name, "zero")
    return forecaster


def _with_future_columns(table: TableChoice, data: Path, future: Path, model: str) -> TableChoice:
    """The choice with the columns of ``--future``, if it names none."""
    from tsattn.catalogue import make_forecaster, with_future_columns

    if table.schema.columns.future:
        return table
    frame = table.read(data, table.schema)
    rows = table.read_as_is(future, table.schema)
    _, schema = with_future_columns(frame, rows, table.schema)
    if not make_forecaster(model, 1, schema=schema).covariate_columns:
        _refuse("--future", model, "zero")
    return replace(table, schema=schema)


def _models_to_judge(
    names: Sequence[str], horizon: int, schema: "Schema", settings: dict[str, Any]
) -> dict[str, Any]:
    """Forecasters by name; each takes the options that mean something to it, and one of them must.

    Seed and threads have no effect on some models, and the season also serves the scores.
    """
    from tsattn.catalogue import find_model, make_forecaster, settings_for

    for setting, value in settings.items():
        if value is None or setting in ("random_state", "n_threads", "season_length"):
            continue
        if not any(setting in find_model(name).settings() for name in names):
            _refuse(_option(setting), ", ".join(names), _model_with(setting))
    models = {
        name: make_forecaster(name, horizon, schema=schema, **settings_for(name, **settings))
        for name in dict.fromkeys(names)
    }
    if schema.columns and not any(model.covariate_columns for model in models.values()):
        raise ValueError(
            f"{', '.join(models)} read no covariates; add a model that does, such as --model zero"
        )
    return models


def _first_column_option(columns: "CovariateColumns") -> str:
    """The first option that names a covariate."""
    for role in ("past", "future", "static"):
        if getattr(columns, role):
            return f"--{role}-col"
    return "--calendar"


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _model_with(setting: str) -> str:
    """The first model of the catalogue to which a setting means something."""
    from tsattn.catalogue import MODELS, find_model

    return next(
        name for name in ("zero", "auto", *MODELS) if setting in find_model(name).settings()
    )


def _refuse(option: str, model: str, other: str) -> None:
    """Refuse an option that means nothing to a model, but something to another one."""
    raise ValueError(
        f"{option} means nothing to {model}; leave it out, or name another model, as by --model"
        f" {other}"
    )
