"""Compares the speed of training and rolling forecasts with other libraries' PatchTST, and that of
the pretrained forecaster with other forecasters.

All sides have the same rows, context, horizon, sizes, dropout and number of series windows in a
step; where a peer's network cannot be made the same, the record names the difference. Training runs
in turns within one process; the time from one step of the optimiser to the next is measured, so
that start-up does not count. New records replace older ones. Run: pip install ".[peers]",
then PYTHONPATH=benchmarks python benchmarks/peers/run.py --data-dir DIR
     [--part pretrained --threads 2 --forecaster NHITS] [--setting width16] [--peer neuralforecast]
"""

import contextlib
import io
import logging
import os
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pretraining_study.run import ARMS, Study
from records import RESULTS, Record, Records, parse
from torch.optim.optimizer import register_optimizer_step_post_hook

from tsattn.catalogue import make_forecaster
from tsattn.data.cards import load_dataset
from tsattn.data.frames import to_long, to_panel
from tsattn.data.panel import Panel
from tsattn.data.training_windows import WindowSpec
from tsattn.data.windows import History
from tsattn.evaluate.rolling import roll
from tsattn.limits import limit_threads
from tsattn.pretrained.network import ZeroConfig
from tsattn.pretrained.pretraining import Pretraining, Recipe
from tsattn.pretrained.synthetic import make

FILE = "peers.jsonl"
# The oldest rows name no processor.
KEY = ("kind", "setting", "peer", "model", "threads", "processor")
CONTEXT = 336
HORIZON = 96
PATCH = 16
STRIDE = 8
LAYERS = 3
# First steps of a run, which are not counted.
WARM = 4
# Series of ETTh1.
CHANNELS = 7
# Turns in which neuralforecast forecasts in a rolling way: each takes minutes.
_NEURALFORECAST_TURNS = 2
# Windows of a bare pass at once, as in the evaluation.
_CHUNK = 585
# Series of a Chronos batch; the fastest size is used, tried on so many series a thread.
_CHRONOS_BATCHES = (16, 64, 256)
_CHRONOS_TRIAL_SERIES = 256
_QUIET = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "logger": False,
}
DIFFERS = {
    "neuralforecast": "post-norm with batch norm, residual scores, learned query scale",
    "transformers": (
        "41 patches (no padding at the end), batch norm; a bare loop without Trainer or data loader"
    ),
    "gluonts": "Student-t head whose flat layer is d_model times as wide; relu; mean scaling",
}


class Setting(NamedTuple):
    """Sizes of the published PatchTST: of ETTh1 ("width16"), and of ETTm1 with smaller batches
    ("width128").
    """

    d_model: int
    n_heads: int
    d_ff: int
    dropout: float
    windows: int  # of a step, each with all channels


SETTINGS = {"width16": Setting(16, 4, 128, 0.3, 128), "width128": Setting(128, 16, 256, 0.2, 32)}
PARTS = ("training", "rolling", "pretrained", "pretraining")
# Quantile levels of Chronos-Bolt.
NINE = tuple(round(0.1 * i, 1) for i in range(1, 10))
# Trains for some steps, and returns the number of trained parameters.
Train = Callable[[Setting, int, Panel], int]
# A forecast, and the fields that it adds to a record.
Ready = tuple[Callable[[], Any], Record]


def own_training(attention: str, **changes: Any) -> Train:
    """The training of our estimator: one pass over as many windows as the steps take."""

    def train(setting: Setting, steps: int, panel: Panel) -> int:
        n_rows = CONTEXT + HORIZON + steps * setting.windows - 1
        forecaster = make_own(setting, attention, **changes).fit(panel.rows(0, n_rows))
        return int(forecaster.summary_["parameters"])

    return train


def make_own(setting: Setting, attention: str, **changes: Any) -> Any:
    """Our estimator with the sizes and the threads of the peers, and without its linear map."""
    settings = {
        "d_model": setting.d_model,
        "n_heads": setting.n_heads,
        "d_ff": setting.d_ff,
        "dropout": setting.dropout,
        "context": CONTEXT,
        "n_layers": LAYERS,
        "patch_len": PATCH,
        "patch_stride": STRIDE,
        "linear_skip": False,
        "learning_rate": 1e-4,
        "batch_size": setting.windows,
        "max_epochs": 1,
        "val_size": 0,
        "random_state": 0,
        "n_threads": torch.get_num_threads(),
    }
    return make_forecaster(attention, HORIZON, **settings, **changes)


def _neuralforecast(setting: Setting, steps: int) -> Any:
    from neuralforecast import NeuralForecast
    from neuralforecast.models import PatchTST

    model = PatchTST(
        h=HORIZON,
        input_size=CONTEXT,
        encoder_layers=LAYERS,
        patch_len=PATCH,
        stride=STRIDE,
        n_heads=setting.n_heads,
        hidden_size=setting.d_model,
        linear_hidden_size=setting.d_ff,
        dropout=setting.dropout,
        fc_dropout=setting.dropout,
        head_dropout=0.0,
        attn_dropout=0.0,
        batch_size=CHANNELS,
        windows_batch_size=setting.windows * CHANNELS,
        inference_windows_batch_size=1024,
        max_steps=steps,
        learning_rate=1e-4,
        revin=True,
        enable_checkpointing=False,
        **_QUIET,
    )
    return NeuralForecast(models=[model], freq="h")


def train_neuralforecast(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of neuralforecast, through ``NeuralForecast.fit`` on a long frame."""
    forecaster = _neuralforecast(setting, steps)
    forecaster.fit(long_frame(panel))
    return _count(forecaster.models[0])


def train_transformers(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of transformers with the flat head; batches are ready tensors."""
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    config = PatchTSTConfig(
        num_input_channels=CHANNELS,
        context_length=CONTEXT,
        prediction_length=HORIZON,
        patch_length=PATCH,
        patch_stride=STRIDE,
        num_hidden_layers=LAYERS,
        d_model=setting.d_model,
        num_attention_heads=setting.n_heads,
        ffn_dim=setting.d_ff,
        positional_dropout=setting.dropout,
        ff_dropout=setting.dropout,
        path_dropout=setting.dropout,
        attention_dropout=0.0,
        head_dropout=0.0,
        pooling_type=None,
        scaling="std",
        loss="mse",
    )
    model = PatchTSTForPrediction(config).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    values = torch.as_tensor(panel.grouped().values, dtype=torch.float32)
    all_windows = values.unfold(0, CONTEXT + HORIZON, 1).transpose(1, 2)
    windows = all_windows[: steps * setting.windows]
    for batch in windows.split(setting.windows):
        optimiser.zero_grad()
        model(past_values=batch[:, :CONTEXT], future_values=batch[:, CONTEXT:]).loss.backward()
        optimiser.step()
    return _count(model)


def train_gluonts(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of GluonTS, through ``Estimator.train``."""
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch.model.patch_tst import PatchTSTEstimator

    estimator = PatchTSTEstimator(
        prediction_length=HORIZON,
        context_length=CONTEXT,
        patch_len=PATCH,
        stride=STRIDE,
        d_model=setting.d_model,
        nhead=setting.n_heads,
        dim_feedforward=setting.d_ff,
        dropout=setting.dropout,
        num_encoder_layers=LAYERS,
        lr=1e-4,
        batch_size=setting.windows * CHANNELS,
        num_batches_per_epoch=steps,
        trainer_kwargs={"max_epochs": 1, "enable_checkpointing": True, **_QUIET},
    )
    frame = long_frame(panel).astype({"y": "float32"})
    data = PandasDataset.from_long_dataframe(frame, item_id="unique_id", timestamp="ds", target="y")
    return _count(estimator.train(data).prediction_net)


def _count(model: Any) -> int:
    """Number of trained parameters."""
    parameters = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return sum(parameter.numel() for parameter in parameters)


OWN_MODELS: dict[str, Train] = {
    "standard": own_training("standard"),
    "mlr": own_training("mlr"),
    "mlr bf16": own_training("mlr", precision="bf16"),
}
PEERS = {
    "neuralforecast": train_neuralforecast,
    "transformers": train_transformers,
    "gluonts": train_gluonts,
}


def long_frame(panel: Panel) -> pd.DataFrame:
    """The wide panel as ``unique_id, ds, y``."""
    return to_long(panel)[["unique_id", "ds", "y"]]


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keep other libraries' bars, tips and warnings off the screen, and their folders out of this
    folder.
    """
    old_folder = Path.cwd()
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.chdir(folder)
            with (
                contextlib.redirect_stdout(io.StringIO()),
                contextlib.redirect_stderr(io.StringIO()),
            ):
                yield
    finally:
        os.chdir(old_folder)
        logging.disable(logging.NOTSET)


def steps_of(train: Train, setting: Setting, steps: int, panel: Panel) -> Record:
    """Seconds between the steps of a run, by the clock and by processor time, and the number of
    trained parameters.
    """
    marks: list[tuple[float, float]] = []

    def mark(*_: Any) -> None:
        marks.append((time.perf_counter(), time.process_time()))

    handle = register_optimizer_step_post_hook(mark)
    try:
        with hushed():
            parameters = train(setting, steps, panel)
    finally:
        handle.remove()
    clock, processor = np.diff(np.array(marks), axis=0)[WARM - 1 :].T
    return {
        "clock": float(np.median(clock)),
        "processor": float(np.median(processor)),
        "parameters": parameters,
    }


def throughput(name: str, peer: str, turns: int, steps: int, panel: Panel) -> list[Record]:
    """Our models and one peer in turns; a record for each of our models with the ratio of windows a
    second.
    """
    setting = SETTINGS[name]
    trainings = {**OWN_MODELS, peer: PEERS[peer]}
    runs: dict[str, list[Record]] = {side: [] for side in trainings}
    for _ in range(turns):
        for side, train in trainings.items():
            runs[side].append(steps_of(train, setting, steps, panel))
    windows_per_second = {}
    for side, side_runs in runs.items():
        step_seconds = median(run["clock"] for run in side_runs)
        windows_per_second[side] = setting.windows * CHANNELS / step_seconds
    peer_runs = runs[peer]
    rows = []
    for model in OWN_MODELS:
        pairs = list(zip(runs[model], peer_runs, strict=True))
        ratios = [peer_run["clock"] / run["clock"] for run, peer_run in pairs]
        cpu_ratios = [peer_run["processor"] / run["processor"] for run, peer_run in pairs]
        row = {
            "kind": "training",
            "setting": name,
            "peer": peer,
            "peer_version": metadata.version(peer),
            "turns": turns,
            "steps": steps - WARM,
            "peer_windows_per_second": round(windows_per_second[peer], 1),
            "differs": DIFFERS[peer],
            "peer_parameters": peer_runs[0]["parameters"],
            "model": model,
            **spread(ratios),
            "cpu_ratio": round(median(cpu_ratios), 3),
            "windows_per_second": round(windows_per_second[model], 1),
            "parameters": runs[model][0]["parameters"],
        }
        rows.append(row)
    return rows


def rolling(turns: int, data_dir: str | None) -> list[Record]:
    """All test windows of ETTh1: our rolling evaluation, one bare pass of the same network, and the
    rolling evaluation of neuralforecast.
    """
    data = load_dataset("ETTh1", data_dir=data_dir)
    split = data.split
    setting = SETTINGS["width16"]
    first_test = split.train + split.valid
    panel = data.panel.rows(0, first_test + split.test)
    train_panel = data.panel.rows(0, split.train)
    # Speed does not depend on how well a model is trained: four steps are enough.
    few_rows = train_panel.rows(0, CONTEXT + HORIZON + 4 * setting.windows)
    model = make_own(setting, "mlr").fit(few_rows)
    peer = _neuralforecast(setting, 4)
    with hushed():
        peer.fit(long_frame(train_panel))
    spec = WindowSpec(CONTEXT, HORIZON)
    ends = spec.ends(panel.starts, np.array([first_test]), panel.lengths)
    seconds = _rolling_seconds(turns, model, peer, panel, ends)
    own_seconds = median(seconds["ours"])
    rows = []
    for side in ("bare", "neuralforecast"):
        side_seconds = median(seconds[side])
        row = {
            "kind": "rolling",
            "setting": "width16",
            "model": "mlr",
            "windows": len(ends) * CHANNELS,
            "peer": side,
            "peer_version": None if side == "bare" else metadata.version(side),
            "ratio": round(side_seconds / own_seconds, 3),
            "seconds": round(own_seconds, 3),
            "peer_seconds": round(side_seconds, 3),
            "turns": len(seconds[side]),
        }
        rows.append(row)
    return rows


def _rolling_seconds(
    turns: int, model: Any, peer: Any, panel: Panel, ends: np.ndarray
) -> dict[str, list[float]]:
    """Seconds of each turn by side: of a bare pass, of our evaluation, and of neuralforecast's."""
    contexts = torch.as_tensor(History(panel).contexts(ends, CONTEXT), dtype=torch.float32)
    frame = long_frame(panel)

    def peer_forecasts() -> None:
        peer.cross_validation(frame, n_windows=len(ends), step_size=1, use_fitted=True)

    seconds: dict[str, list[float]] = {"bare": [], "ours": [], "neuralforecast": []}
    for turn in range(turns):
        seconds["bare"].append(clocked(lambda: bare_pass(model, contexts)))
        seconds["ours"].append(clocked(lambda: roll(model, panel, ends, keep=False)))
        if turn < _NEURALFORECAST_TURNS:
            with hushed():
                peer_seconds = clocked(peer_forecasts)
            seconds["neuralforecast"].append(peer_seconds)
    return seconds


def bare_pass(model: Any, contexts: torch.Tensor) -> None:
    """The network alone over ready windows, in chunks as large as those of the evaluation."""
    network = model.network_.eval()
    with torch.inference_mode():
        for chunk in contexts.split(_CHUNK):
            network(chunk)


def chronos(x: np.ndarray, horizon: int, threads: int) -> Ready:
    """The network of Chronos-Bolt tiny with random weights, nine quantiles of 64 steps; fastest
    batch and threading.
    """
    network = _chronos_network()
    series = torch.as_tensor(x, dtype=torch.float32)
    forecast_batch = torch.inference_mode()(network.forward)

    def forecast(n_series: int, size: int, apart: bool) -> None:
        """Forecast in batches, with a thread each (``apart``) or all threads for every batch."""
        batches = series[:n_series].split(size)
        with (
            limit_threads(1 if apart else threads),
            ThreadPoolExecutor(threads if apart else 1) as pool,
        ):
            list(pool.map(forecast_batch, batches))

    def seconds(way: tuple[int, bool]) -> float:
        return clocked(lambda: forecast(_CHRONOS_TRIAL_SERIES * threads, *way))

    # With one thread both kinds of threading are the same.
    threadings = (True, False)[:threads]
    size, apart = min(product(_CHRONOS_BATCHES, threadings), key=seconds)
    facts = {"batch": size, "threads_apart": apart, "peer_parameters": _count(network)}
    return lambda: forecast(len(x), size, apart), facts


def _chronos_network() -> Any:
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        d_model=256,
        d_ff=1024,
        d_kv=64,
        num_heads=4,
        num_layers=4,
        num_decoder_layers=4,
        vocab_size=2,
        pad_token_id=0,
        decoder_start_token_id=0,
        feed_forward_proj="relu",
    )
    config.chronos_config = {
        "context_length": 2048,
        "prediction_length": 64,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "use_reg_token": True,
        "quantiles": list(NINE),
    }
    return ChronosBoltModelForForecasting(config).eval()


def theta(x: np.ndarray, horizon: int, threads: int, name: str) -> Ready:
    """A Theta model of statsforecast, points only."""
    from statsforecast import StatsForecast, models

    model = getattr(models, name)(season_length=24)
    forecaster = StatsForecast(models=[model], freq=1, n_jobs=threads)
    frame = stacked(x)
    return lambda: forecaster.forecast(df=frame, h=horizon), {}


def nhits(x: np.ndarray, horizon: int, threads: int) -> Ready:
    """NHITS of neuralforecast, points only, after ten steps of training; the record has their time
    in a field of its own.
    """
    from neuralforecast import NeuralForecast
    from neuralforecast.models import NHITS

    model = NHITS(
        h=horizon,
        input_size=x.shape[1] - 2 * horizon,
        max_steps=10,
        inference_windows_batch_size=256,
        enable_checkpointing=False,
        **_QUIET,
    )
    forecaster = NeuralForecast(models=[model], freq=1)
    frame = stacked(x)
    train_seconds = clocked(lambda: forecaster.fit(frame))
    return forecaster.predict, {"train_seconds": round(train_seconds, 2)}


def stacked(x: np.ndarray) -> pd.DataFrame:
    """Series ``[N, T]`` as ``unique_id, ds, y``, gaps filled."""
    n_series, n_steps = x.shape
    y = pd.DataFrame(x.T).ffill().bfill().to_numpy().T
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(n_series), n_steps),
            "ds": np.tile(np.arange(n_steps), n_series),
            "y": y.ravel(),
        }
    )


# Forecasters to compare with the pretrained one: distribution, share of the series, and the
# function that makes it ready.
FORECASTERS: dict[str, tuple[str, float, Callable[..., Ready]]] = {
    "Chronos-Bolt tiny": ("chronos-forecasting", 0.2, chronos),
    "Theta": ("statsforecast", 0.1, partial(theta, name="Theta")),
    "DynamicOptimizedTheta": ("statsforecast", 0.02, partial(theta, name="DynamicOptimizedTheta")),
    "NHITS": ("neuralforecast", 0.2, nhits),
}


def processor() -> str:
    """Name and family of the processor; generations of a maker may share the name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    facts = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    return f"{facts['model name']}, family {facts['cpu family']}, model {facts['model']}"


def pretrained(
    weights: str,
    turns: int,
    threads: int,
    context: int,
    horizon: int,
    n_series: int,
    peers: Sequence[str],
) -> Iterator[Record]:
    """Series a second of the pretrained forecaster, 17 quantiles each, and of others in turns."""
    x = make(n_series, context, seed=0)
    forecaster = make_forecaster("zero", horizon, weights=weights, n_threads=threads)
    forecaster.fit(to_panel(stacked(x[:1]), freq=1))
    levels = forecaster.network_.quantile_levels

    def forecast() -> None:
        forecaster.predict_windows(x[..., None], quantiles=levels)

    ready = {peer: _make_ready(peer, x, horizon, threads) for peer in peers}
    pairs: dict[str, list[tuple[float, float]]] = {peer: [] for peer in peers}
    for _ in range(turns):
        pace = n_series / clocked(forecast)
        for peer, ready_peer in ready.items():
            with hushed():
                peer_pace = ready_peer.n_series / clocked(ready_peer.forecast)
            pairs[peer].append((pace, peer_pace))
    for peer, ready_peer in ready.items():
        package = FORECASTERS[peer][0]
        ratios = [pace / peer_pace for pace, peer_pace in pairs[peer]]
        yield {
            "kind": "pretrained",
            "setting": f"{context} rows, {horizon} ahead",
            "peer": peer,
            "model": weights,
            "peer_version": f"{package} {metadata.version(package)}",
            "turns": turns,
            "series": n_series,
            "peer_series": ready_peer.n_series,
            **ready_peer.facts,
            **spread(ratios),
            **paces(pairs[peer], "series_per_second"),
        }


class ReadyPeer(NamedTuple):
    """A peer that is ready to forecast a number of series, and the fields that it adds."""

    n_series: int
    forecast: Callable[[], Any]
    facts: Record


def _make_ready(peer: str, x: np.ndarray, horizon: int, threads: int) -> ReadyPeer:
    """Make a peer ready for its share of the series, at least 8."""
    _, share, build = FORECASTERS[peer]
    n_series = max(round(share * len(x)), 8)
    with hushed():
        forecast, facts = build(x[:n_series], horizon, threads)
    return ReadyPeer(len(x[:n_series]), forecast, facts)


def pretraining(turns: int, steps: int = 12) -> Record:
    """Windows a second of pretraining with seasonal levels and with ordinary attention, on the same
    batches.
    """
    pairs = []
    for _ in range(turns):
        pace = _pretraining_pace(Pretraining(ZeroConfig(), Recipe(1000)), steps)
        standard_run = Study(ARMS["standard"], ZeroConfig(), Recipe(1000))
        pairs.append((pace, _pretraining_pace(standard_run, steps)))
    ratios = [pace / standard_pace for pace, standard_pace in pairs]
    return {
        "kind": "pretraining",
        "setting": f"{steps} steps",
        "peer": "standard",
        "model": "season",
        "turns": turns,
        **spread(ratios),
        **paces(pairs, "windows_per_second"),
    }


def _pretraining_pace(run: Pretraining, steps: int) -> float:
    """Windows a second of the first steps of a run."""

    def work() -> None:
        for _ in range(steps):
            run.advance()

    seconds = clocked(work)
    return run.windows / seconds


def spread(ratios: list[float]) -> Record:
    """Median of the ratios, and their 20% and 80% quantiles."""
    quantiles = np.quantile(ratios, [0.2, 0.5, 0.8])
    low, middle, high = (round(float(quantile), 3) for quantile in quantiles)
    return {"ratio": middle, "ratio_low": low, "ratio_high": high}


def paces(pairs: list[tuple[float, float]], name: str) -> Record:
    """Medians of pairs of our pace and a peer's, as fields of a record."""
    own_paces, peer_paces = zip(*pairs, strict=True)
    return {name: round(median(own_paces), 1), f"peer_{name}": round(median(peer_paces), 1)}


def clocked(work: Callable[[], Any]) -> float:
    """Seconds by the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main(argv: list[str] | None = None) -> None:
    """Measure the parts that the options name; every record is printed and written as it comes."""
    defaults = {
        "data_dir": None,
        "part": PARTS,
        "setting": tuple(SETTINGS),
        "peer": tuple(PEERS),
        "turns": 7,
        "steps": 16,
        "threads": 1,
        "context": 512,
        "horizon": 24,
        "series": 10_000,
        "weights": ("zero-5h",),
        "forecaster": tuple(FORECASTERS),
        "out": RESULTS / FILE,
    }
    choices = {"part": PARTS, "setting": SETTINGS, "peer": PEERS, "forecaster": FORECASTERS}
    options = parse(argv, __doc__, defaults, choices=choices)
    if options.steps <= WARM + 1 or options.turns < 1:
        raise ValueError(f"--steps must be above {WARM + 1} and --turns at least 1")
    file = Records(options.out, KEY)
    with limit_threads(options.threads):
        for row in measured(options):
            place = {"threads": options.threads, "processor": processor()}
            file.add({**row, **place}, again=True)
            shown = ("kind", "setting", "model", "peer", "ratio")
            print({name: row[name] for name in shown}, flush=True)


def measured(options: Any) -> Iterator[Record]:
    """The records of the parts that the options name, one after the other."""
    if "training" in options.part:
        panel = load_dataset("ETTh1", data_dir=options.data_dir).panel.rows(0, 8640)
        for name, peer in product(options.setting, options.peer):
            yield from throughput(name, peer, options.turns, options.steps, panel)
    if "rolling" in options.part:
        yield from rolling(options.turns, options.data_dir)
    if "pretrained" in options.part:
        for weights in options.weights:
            yield from pretrained(
                weights,
                options.turns,
                options.threads,
                options.context,
                options.horizon,
                options.series,
                options.forecaster,
            )
    if "pretraining" in options.part:
        yield pretraining(options.turns)


if __name__ == "__main__":
    main()
