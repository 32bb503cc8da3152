"""The commands of `tsattn`, thin, with one line for every mistake."""

import functools
import inspect
import itertools
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tsattn import console

if TYPE_CHECKING:
    import pandas as pd

    from tsattn.data.frames import Panel
    from tsattn.data.schema import Schema

# Heavy modules are imported inside the commands that need them: `tsattn --help` answers at once.

# Exit codes beside console.BAD_INPUT follow the shell's 128 + signal.
_INTERRUPTED = 130
_BROKEN_PIPE = 141
# typer has carried its own copy of click since 0.2x; this is the class of all usage errors in
# either.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])

# Parameters whose options have other names.
_OTHER_NAMES = {
    "past_cols": "past_col",
    "future_cols": "future_col",
    "static_cols": "static_col",
    "step_size": "step",
}
_OTHER_NAMES |= {"n_threads": "threads", "random_state": "seed"}
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
# A parameter by its bare name, or with a value as in missing='ffill'; what is quoted is passed by.
_PARAMETER = re.compile(
    rf"{_QUOTED.pattern}|(?<![\w.-])(?P<name>[a-z_]+)\b(?P<given>=(?:'?(?P<value>\w+(?:\.\w+)?|\[[^]]*\])'?)?)?"
)
_CODE = re.compile(r"\w\(|\b[a-z_]+=|\bpd\.")

app = typer.Typer(
    name="tsattn",
    help="Time-series forecasting with structured attention.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
datasets = typer.Typer(
    help="Published data sets: what is known, where the files are.", rich_markup_mode=None
)
app.add_typer(datasets, name="datasets")

Table = Annotated[
    Path,
    typer.Argument(
        metavar="DATA.csv", help="Table as CSV, Parquet, Feather or Excel; - is CSV on stdin."
    ),
]
Horizon = Annotated[int, typer.Option(help="Rows to forecast.")]
Season = Annotated[int | None, typer.Option(help="Rows of a season [by frequency, or the card's].")]
Threads = Annotated[int | None, typer.Option(help="Threads of torch [one for small networks].")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with the files of published data sets.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Data set, such as ETTh1.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]


# --- options that several commands share, handed over as one object -------------------------------

Text = str | None
Names = list[str] | None


def _table_options(
    id_col: Annotated[Text, typer.Option(help="Series column of a long table [unique_id].")] = None,
    time_col: Annotated[
        Text, typer.Option(help="Time column [ds; of a wide table its first].")
    ] = None,
    target_col: Annotated[Text, typer.Option(help="Value column of a long table [y].")] = None,
    freq: Annotated[Text, typer.Option(help="Frequency, such as h or W-SAT [inferred].")] = None,
    missing: Annotated[
        Text, typer.Option(help="Missing values: error, interpolate, ffill or mask.")
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
) -> "Schema":
    """How a table is read."""
    from tsattn.data.schema import Schema

    columns = {"past_cols": past_col, "future_cols": future_col, "static_cols": static_col}
    given: dict[str, Any] = {
        "id_col": id_col,
        "time_col": time_col,
        "target_col": target_col,
        "missing": missing,
    }
    given["freq"] = (
        int(freq) if freq is not None and freq.isascii() and freq.isdigit() else freq
    )  # integer stamps
    given |= {name: tuple(names) for name, names in columns.items() if names}
    given["calendar"] = "auto" if calendar == ["auto"] else tuple(calendar or ()) or None
    return Schema(**{name: value for name, value in given.items() if value is not None})


def _fit_options(
    context: Annotated[
        int | None, typer.Option(help="Rows of history a forecast reads [by horizon, length].")
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="Passes over the training windows [10, more of few].")
    ] = None,
    season_length: Season = None,
    max_time: Annotated[
        Text, typer.Option(help="Time of a fit, such as 90s or 10m [no limit; of auto 1m].")
    ] = None,
    fine_tune: Annotated[
        bool, typer.Option("--fine-tune", help="Let zero learn from the table.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the trained models.")] = 0,
    threads: Threads = None,
) -> dict[str, Any]:
    """How a model is fitted."""
    chosen = {
        "context": context,
        "max_epochs": max_epochs,
        "season_length": season_length,
        "max_time": max_time,
    }
    return {**chosen, "fine_tune": fine_tune or None, "random_state": seed, "n_threads": threads}


def _grid_options(
    dataset: Annotated[Names, typer.Option(help="Published data set; repeatable.")] = None,
    data: Annotated[Path | None, typer.Option(help="Table without a card, such as F.csv.")] = None,
    split: Annotated[
        Text, typer.Option(help="Its shares of train, validation, test: 0.7,0.1,0.2.")
    ] = None,
    horizon: Annotated[
        list[int] | None, typer.Option(help="Rows to forecast; repeatable [the card's].")
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
    names = {
        "datasets": dataset,
        "horizons": horizon,
        "models": model,
        "seeds": seed,
        "table": data,
        "split": split,
    }
    return {**names, "season_length": season_length, "context": context, "max_epochs": max_epochs}


TableOptions = Annotated[Any, _table_options]
FitOptions = Annotated[Any, _fit_options]
GridOptions = Annotated[Any, _grid_options]


def _with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameters of a group's type are spelt out as the options of that group."""
    own = inspect.signature(command).parameters
    annotated = {name: getattr(p.annotation, "__metadata__", (None,))[0] for name, p in own.items()}
    groups: dict[str, Any] = {
        name: found
        for name, found in annotated.items()
        if found in (_table_options, _fit_options, _grid_options)
    }
    inside = {name: inspect.signature(group).parameters for name, group in groups.items()}

    @functools.wraps(command)
    def spelt_out(**given: Any) -> None:
        made = {
            name: groups[name](**{o: given.pop(o) for o in options})
            for name, options in inside.items()
        }
        command(**given, **made)

    asked = [p for name, p in own.items() if name not in groups]
    asked += [p for options in inside.values() for p in options.values()]
    asked = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in asked]
    vars(spelt_out).update(
        __signature__=inspect.Signature(asked),
        __annotations__={p.name: p.annotation for p in asked},
    )
    del spelt_out.__wrapped__  # typer would ask it for its annotations
    return spelt_out


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        argv: Arguments after the program's name; default those of the process.

    Returns:
        0, or 2 when the input or its usage is wrong (one line on stderr says what), 130 when
        interrupted.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        command = typer.main.get_command(app)
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
        # Lightning turns an interrupt into an exit; typer does so when the reader of stdout has
        # gone.
        return _INTERRUPTED if isinstance(left.__context__, KeyboardInterrupt) else _BROKEN_PIPE
    except BrokenPipeError:
        # The same while flushing; what Python flushes at exit must not complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return console.complain(_in_options(console.os_error(error), arguments))
    except MemoryError as error:
        return console.complain(
            f"memory is too small: {error or 'no room'}; ask for fewer steps, or give fewer rows"
        )
    except (ValueError, TypeError, ImportError) as error:
        return console.complain(_in_options(str(error), arguments))
    return code if isinstance(code, int) else 0


def _in_options(message: str, arguments: Sequence[str]) -> str:
    """An error of the library in the words of a command: its options, and no advice that only
    Python can follow.
    """
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word, command)
    options = {each.name: each.opts[0] for each in command.params if each.opts[0].startswith("--")}
    options |= {name: options[own] for name, own in _OTHER_NAMES.items() if own in options}

    def spelt(found: re.Match[str]) -> str:
        name = found["name"]
        given = found["given"]
        value = found["value"]
        if name not in options or value == "None" or not (given or "_" in name):
            return found[0]
        return (
            " ".join(f"{options[name]} {each}" for each in value.strip("[]").split(", "))
            if value
            else options[name]
        )

    fact, *advice = _PARAMETER.sub(spelt, message).split("; ")
    return "; ".join([fact, *filter(None, map(_without_code, advice))])


def _without_code(advice: str) -> str:
    """Those of several ways out that are no Python."""
    for between in (", or ", " or "):
        ways = [way for way in advice.split(between) if not _CODE.search(_QUOTED.sub("", way))]
        if ways:
            return between.join(ways)
    return ""


def _usage(error: Any, arguments: Sequence[str]) -> str:
    where = error.ctx.command_path if error.ctx is not None else "tsattn"
    names = getattr(getattr(error, "param", None), "opts", [])
    # typer's own message names the option and the rule, not what stood there.
    pairs = [*itertools.pairwise(arguments), *(each.partition("=")[::2] for each in arguments)]
    given = [
        value for name, value in pairs if name in names and isinstance(error, typer.BadParameter)
    ]
    value = f", got {given[0]!r}" if given else ""
    return f"{error.format_message().rstrip('.')}{value}; see `{where} --help`"


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.")
    ] = False,
) -> None:
    if version:
        from importlib import metadata

        typer.echo(metadata.version("tsattn"))
    elif context.invoked_subcommand is None:
        raise ValueError("no command given; see `tsattn --help`")


@app.command()
def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for forecast.csv, backtest.csv, forecast.png.")
    ] = Path("demo"),
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
@_with_groups
def fit(
    data: Table,
    horizon: Horizon,
    out: Annotated[Path, typer.Option(help="Folder for the fitted model.")],
    schema: TableOptions,
    settings: FitOptions,
    model: Annotated[str, typer.Option(help="Model.")] = "mlr",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit a model to a table and save it in a folder."""
    console.check_target(out, folder=True)
    forecaster = _model(model, horizon, schema, settings)
    forecaster.fit(_read(data, forecaster.schema), verbose=console.progress(quiet) is not None)
    forecaster.save(out)
    panel = forecaster.panel_
    facts = {"model": forecaster.alias_, "context": forecaster.max_context, "horizon": horizon}
    facts |= {"series": panel.n_series, "channels": panel.n_channels, "frequency": panel.freq}
    facts |= getattr(forecaster, "summary_", {})
    if as_json:
        console.print_json([{**facts, "out": str(out)}])
    else:
        console.print_facts({**facts, "saved in": out})


@app.command()
@_with_groups
def forecast(
    data: Table,
    schema: TableOptions,
    settings: FitOptions,
    horizon: Annotated[
        int | None, typer.Option(help="Rows to forecast [the model's, with --from].")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model [zero, which needs no training].")
    ] = None,
    saved: Annotated[
        Path | None, typer.Option("--from", help="Folder of a fitted model: no new fit.")
    ] = None,
    level: Annotated[
        list[float] | None, typer.Option(help="Interval in percent, such as 80; repeatable.")
    ] = None,
    future: Annotated[
        Path | None, typer.Option(help="Table of the future columns after each series.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the forecast, by its ending [-, CSV on stdout].")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of up to twelve series, such as F.png.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Forecast the rows after a table, with intervals where asked; without a model named, without
    training.
    """
    _check_forecast(saved, horizon, model, plot)
    _check_out(out, as_json, data, future, plot=plot)
    from tsattn.levels import check_request

    check_request(level, None)
    if saved is None:
        forecaster = _model(model or "zero", cast(int, horizon), schema, settings)
    else:
        forecaster = _saved_model(saved, schema, settings)
    panel = forecaster.read(_read(data, forecaster.schema), fitted=saved is not None)
    ahead = _read_future(future, panel, forecaster, horizon)
    if saved is None:
        forecaster.fit(panel, verbose=console.progress(quiet) is not None)
    result = forecaster.predict(
        panel, level=level, horizon=horizon if saved is not None else None, future=ahead
    )
    frame = result.to_frame()
    index = result.dialect.time_col is None
    if out is not None:
        console.write_table(frame, out, index=index)
    if as_json:
        console.print_json(console.frame_rows(frame, index))
    elif out is None:
        typer.echo(frame.to_csv(index=index), nl=False)
    if plot is not None:  # last, so that a picture that fails loses nothing
        from tsattn.plotting import plot_forecast, save_plot

        save_plot(plot_forecast(panel, result), plot)


@app.command()
@_with_groups
def backtest(
    data: Table,
    horizon: Horizon,
    schema: TableOptions,
    settings: FitOptions,
    model: Annotated[
        list[str] | None, typer.Option(help="Model; repeatable [mlr, naive, seasonal_naive].")
    ] = None,
    n_windows: Annotated[int, typer.Option(help="Windows judged, ending at the last row.")] = 10,
    step: Annotated[int, typer.Option(help="Rows between windows.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="File for every forecast beside its truth; - is stdout.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge models on the last windows of a table, each fitted on the rows before them."""
    _check_out(out, as_json, data)
    from tsattn.catalogue import make_forecaster, settings_for
    from tsattn.evaluate.backtest import backtest as judge

    names = list(dict.fromkeys(model or ["mlr", "naive", "seasonal_naive"]))
    models = {
        name: make_forecaster(name, horizon, schema=schema, **settings_for(name, **settings))
        for name in names
    }
    if schema.columns and not any(each.covariate_columns for each in models.values()):
        raise ValueError(
            f"{', '.join(names)} read no covariates; add a model that does, such as --model mlr"
        )
    how: dict[str, Any] = {
        "n_windows": n_windows,
        "step_size": step,
        "season_length": settings["season_length"],
    }
    result = judge(models, _read(data, schema), **how, verbose=console.progress(quiet) is not None)
    if out is not None:
        console.write_table(result.frame, out, index=False)
    if console.is_stdout(out):
        return
    if as_json:
        console.print_json(
            {"horizon": horizon, "step": step, **row} for row in console.score_rows(result.scores)
        )
    else:
        console.print_table(result.scores)


@app.command()
@_with_groups
def benchmark(
    grid: GridOptions,
    schema: TableOptions,
    suite: Annotated[
        Path | None, typer.Argument(metavar="[SUITE.toml]", help="What to run.")
    ] = None,
    threads: Threads = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of records; what stands there is not run.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Where runs go: a number of processes, ray, dask, spark.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge models on published data sets by the published protocol, on every test window."""
    if out is not None:
        console.check_target(out, folder=True)
    from tsattn.benchmark import Suite, run_suite

    asked: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in grid.items()
    }
    asked |= {"columns": schema.to_dict()}
    asked = {name: value for name, value in asked.items() if value not in (None, (), {})}
    plan = Suite(**asked) if suite is None else Suite.from_toml(suite, **asked)
    how: dict[str, Any] = {
        "progress": console.progress(quiet),
        "engine": engine,
        "n_threads": threads,
    }
    records = run_suite(plan, data_dir=data_dir, out=out, **how)
    if as_json:
        console.print_json(records)
    else:
        import pandas as pd

        shown = [
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
        console.print_table(pd.DataFrame(records)[shown].set_index("dataset"))


@datasets.command("list")
def list_datasets(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the data sets that have a card."""
    from tsattn.data.cards import list_cards, read_card

    cards = [read_card(name) for name in list_cards()]
    if as_json:
        console.print_json(
            {"name": c.name, "title": c.title, "rows": c.rows, "frequency": c.frequency}
            for c in cards
        )
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
def fetch_dataset(
    name: Name, data_dir: DataDir = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Make sure that the file of a data set is here, downloading it if need be, and check it."""
    from tsattn.data.cards import fetch

    console.print_checked(fetch(name, data_dir), as_json)


@datasets.command("verify")
def verify_dataset(
    name: Name, data_dir: DataDir = None, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Check the file of a data set that is here, without downloading."""
    from tsattn.data.cards import verify

    console.print_checked(verify(name, data_dir), as_json)


# --- what the commands share ----------------------------------------------------------------------


def _read(path: Path, schema: "Schema") -> "pd.DataFrame":
    from tsattn.data.files import read_frame

    return read_frame(path, schema)


def _check_out(
    out: Path | None, as_json: bool, *sources: Path | None, plot: Path | None = None
) -> None:
    """Refuse files that could not be written in the end, or that would take the place of what is
    read.
    """
    from tsattn.data.files import check_ending

    for path in filter(None, (out, plot)):
        console.check_target(path, as_json=as_json)
        for source in filter(None, sources):
            if path.is_file() and source.is_file() and path.samefile(source):
                raise ValueError(f"{path} is the table that is read; name another file to write to")
    if out is not None:
        check_ending(out)


def _read_future(
    path: Path | None, panel: "Panel", forecaster: Any, horizon: int | None
) -> "pd.DataFrame | None":
    """The rows after each series, refused before any training where something is missing
    in them.
    """
    from tsattn.data.encoding import learn_columns
    from tsattn.data.future import read_future

    steps = forecaster.horizon if horizon is None else horizon
    reads = forecaster.covariate_columns_
    if path is None and reads.future:
        names = ", ".join(map(str, reads.future))
        raise ValueError(
            f"--future is missing; give a table with {names} for the {steps} rows after each series"
        )
    if path is not None and not reads.future:
        raise ValueError(
            "--future was given, but the model reads no future columns; name them by --future-col"
        )
    own: dict[str, Any] = {"id_col": panel.dialect.id_col, "time_col": panel.dialect.time_col}
    frame = None if path is None else _read(path, forecaster.schema.changed(**own))
    if (
        frame is not None and not reads.categories
    ):  # before a fit, the table says which columns are text
        reads = learn_columns(reads, panel)
    read_future(frame, panel, reads, steps)
    return frame


def _saved_model(path: Path, schema: "Schema", settings: dict[str, Any]) -> Any:
    """A fitted model, which remembers how its table was read; options count before what it
    remembers.
    """
    from tsattn.catalogue import load_forecaster

    if schema.columns:
        raise ValueError(
            "--from takes a model that knows its columns; leave --past-col and the like out"
        )
    for name in ("context", "max_epochs", "season_length", "fine_tune"):
        if settings[name] is not None:
            raise ValueError(
                f"--from takes a fitted model, to which --{name.replace('_', '-')} means nothing:"
                " leave it out"
            )
    model: Any = load_forecaster(path)
    if said := schema.to_dict():
        model.set_params(schema=model.schema.changed(**said))
    name = "training__n_threads" if hasattr(model, "training") else "n_threads"
    if settings["n_threads"] is not None and name in model.get_params():
        model.set_params(**{name: settings["n_threads"]})
    return model


def _model(name: str, horizon: int, schema: "Schema", settings: dict[str, Any]) -> Any:
    """A forecaster of the catalogue, refused where an option was given that means nothing to it."""
    from tsattn.catalogue import find_model, make_forecaster

    takes = find_model(name).settings()
    known = {
        setting: value
        for setting, value in settings.items()
        if value is not None and setting in takes
    }
    for setting, value in settings.items():
        if value and setting not in known and setting not in ("random_state", "n_threads"):
            _refuse(setting.replace("_", "-"), name)
    forecaster = make_forecaster(name, horizon, schema=schema, **known)
    if schema.columns and not forecaster.covariate_columns:
        column = next(
            kind
            for kind in ("past", "future", "static", "calendar")
            if getattr(schema.columns, kind)
        )
        _refuse(column if column == "calendar" else f"{column}-col", name)
    return forecaster


def _refuse(option: str, model: str) -> None:
    raise ValueError(
        f"--{option} means nothing to {model}; leave it out, or name another model, as by"
        " --model mlr"
    )


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
