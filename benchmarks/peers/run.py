"""Training and rolling forecasts beside other libraries' PatchTST, and the pretrained forecaster
beside others.

All sides get the same rows, context, horizon, sizes, dropout and number of series windows in a
step; where a peer's network cannot be made the same, the record says what differs. Training runs in
turns within one process, and the time between one step of the optimiser and the next is taken, so
that start-up does not count. New records take the place of older ones. Run: pip install ".[peers]",
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
from tsattn.data.windows import History, WindowSpec
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
WARM = 4  # steps of a run that are not counted
CHANNELS = 7
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
    """Sizes of the published PatchTST: the first those of ETTh1, the second those of ETTm1 with
    smaller batches.
    """

    d_model: int
    n_heads: int
    d_ff: int
    dropout: float
    windows: int  # a step, each with all channels


SETTINGS = {"width16": Setting(16, 4, 128, 0.3, 128), "width128": Setting(128, 16, 256, 0.2, 32)}
PARTS = ("training", "rolling", "pretrained", "pretraining")
NINE = tuple(round(0.1 * i, 1) for i in range(1, 10))
Train = Callable[[Setting, int, Panel], int]  # some steps; how many parameters were trained
Ready = tuple[Callable[[], Any], Record]  # a forecast, and what a record tells of it


def ours(attention: str, **changes: Any) -> Train:
    """Our estimator, one pass over as many windows as the steps take."""

    def train(setting: Setting, steps: int, panel: Panel) -> int:
        rows = CONTEXT + HORIZON + steps * setting.windows - 1
        return int(
            make_ours(setting, attention, **changes).fit(panel.rows(0, rows)).summary_["parameters"]
        )

    return train


def make_ours(setting: Setting, attention: str, **changes: Any) -> Any:
    """The estimator with a peer's sizes: no linear map beside the transformer, as many threads as
    the peer has.
    """
    sizes = {name: getattr(setting, name) for name in ("d_model", "n_heads", "d_ff", "dropout")}
    sizes |= {
        "context": CONTEXT,
        "n_layers": LAYERS,
        "patch_len": PATCH,
        "patch_stride": STRIDE,
        "linear_skip": False,
    }
    training = {
        "learning_rate": 1e-4,
        "batch_size": setting.windows,
        "max_epochs": 1,
        "val_size": 0,
        "random_state": 0,
    }
    return make_forecaster(
        attention, HORIZON, **sizes, **training, n_threads=torch.get_num_threads(), **changes
    )


def _neuralforecast(setting: Setting, steps: int) -> Any:
    from neuralforecast import NeuralForecast
    from neuralforecast.models import PatchTST

    sizes = {
        "h": HORIZON,
        "input_size": CONTEXT,
        "encoder_layers": LAYERS,
        "patch_len": PATCH,
        "stride": STRIDE,
    }
    sizes |= {
        "n_heads": setting.n_heads,
        "hidden_size": setting.d_model,
        "linear_hidden_size": setting.d_ff,
    }
    dropout = {
        "dropout": setting.dropout,
        "fc_dropout": setting.dropout,
        "head_dropout": 0.0,
        "attn_dropout": 0.0,
    }
    batches = {"batch_size": CHANNELS, "windows_batch_size": setting.windows * CHANNELS}
    batches |= {
        "inference_windows_batch_size": 1024,
        "max_steps": steps,
        "learning_rate": 1e-4,
        "revin": True,
    }
    model = PatchTST(**sizes, **dropout, **batches, **_QUIET, enable_checkpointing=False)
    return NeuralForecast(models=[model], freq="h")


def train_neuralforecast(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of neuralforecast, through ``NeuralForecast.fit`` on a long frame."""
    fitted = _neuralforecast(setting, steps)
    fitted.fit(long_frame(panel))
    return _count(fitted.models[0])


def train_transformers(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of transformers with the flat head; batches are ready tensors."""
    from transformers import PatchTSTConfig, PatchTSTForPrediction

    sizes = {
        "num_input_channels": CHANNELS,
        "context_length": CONTEXT,
        "prediction_length": HORIZON,
    }
    sizes |= {
        "patch_length": PATCH,
        "patch_stride": STRIDE,
        "num_hidden_layers": LAYERS,
        "d_model": setting.d_model,
    }
    sizes |= {"num_attention_heads": setting.n_heads, "ffn_dim": setting.d_ff}
    dropout = {f"{name}_dropout": setting.dropout for name in ("positional", "ff", "path")}
    dropout |= {"attention_dropout": 0.0, "head_dropout": 0.0}
    config = PatchTSTConfig(**sizes, **dropout, pooling_type=None, scaling="std", loss="mse")
    model = PatchTSTForPrediction(config).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    values = torch.as_tensor(panel.grouped().values, dtype=torch.float32)
    windows = values.unfold(0, CONTEXT + HORIZON, 1).transpose(1, 2)[: steps * setting.windows]
    for batch in windows.split(setting.windows):
        optimiser.zero_grad()
        model(past_values=batch[:, :CONTEXT], future_values=batch[:, CONTEXT:]).loss.backward()
        optimiser.step()
    return _count(model)


def train_gluonts(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of GluonTS, through ``Estimator.train``."""
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch.model.patch_tst import PatchTSTEstimator

    sizes = {
        "prediction_length": HORIZON,
        "context_length": CONTEXT,
        "patch_len": PATCH,
        "stride": STRIDE,
    }
    sizes |= {"d_model": setting.d_model, "nhead": setting.n_heads, "dim_feedforward": setting.d_ff}
    sizes |= {"dropout": setting.dropout, "num_encoder_layers": LAYERS}
    batches = {"lr": 1e-4, "batch_size": setting.windows * CHANNELS, "num_batches_per_epoch": steps}
    trainer = {"max_epochs": 1, "enable_checkpointing": True, **_QUIET}
    estimator = PatchTSTEstimator(**sizes, **batches, trainer_kwargs=trainer)
    frame = long_frame(panel).astype({"y": "float32"})
    data = PandasDataset.from_long_dataframe(frame, item_id="unique_id", timestamp="ds", target="y")
    return _count(estimator.train(data).prediction_net)


def _count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


OURS: dict[str, Train] = {
    "standard": ours("standard"),
    "mlr": ours("mlr"),
    "mlr bf16": ours("mlr", precision="bf16"),
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
    """Other libraries' bars, tips, warnings and folders: not on this screen, not in this folder."""
    here = Path.cwd()
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
        os.chdir(here)
        logging.disable(logging.NOTSET)


def steps_of(train: Train, setting: Setting, steps: int, panel: Panel) -> Record:
    """Seconds between the steps of a run, by the clock and by processor time, and the parameters
    trained.
    """
    marks: list[tuple[float, float]] = []
    handle = register_optimizer_step_post_hook(
        lambda *_: marks.append((time.perf_counter(), time.process_time()))
    )
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
    """Our models and one peer in turns; a record for each of ours with the ratio of windows a
    second.
    """
    setting = SETTINGS[name]
    runs: dict[str, list[Record]] = {side: [] for side in (*OURS, peer)}
    for _ in range(turns):
        for side in runs:
            runs[side].append(steps_of(OURS.get(side) or PEERS[peer], setting, steps, panel))
    theirs = runs[peer]
    found = []
    pace = {
        side: setting.windows * CHANNELS / median(run["clock"] for run in each)
        for side, each in runs.items()
    }
    told = {
        "kind": "training",
        "setting": name,
        "peer": peer,
        "peer_version": metadata.version(peer),
        "turns": turns,
    }
    told |= {
        "steps": steps - WARM,
        "peer_windows_per_second": round(pace[peer], 1),
        "differs": DIFFERS[peer],
    }
    told |= {"peer_parameters": theirs[0]["parameters"]}
    for side in OURS:
        ratios = [b["clock"] / a["clock"] for a, b in zip(runs[side], theirs, strict=True)]
        cpu = [b["processor"] / a["processor"] for a, b in zip(runs[side], theirs, strict=True)]
        row = {**spread(ratios), "cpu_ratio": round(median(cpu), 3)}
        speed = {
            "windows_per_second": round(pace[side], 1),
            "parameters": runs[side][0]["parameters"],
        }
        found.append({**told, "model": side, **row, **speed})
    return found


def rolling(turns: int, data_dir: str | None) -> list[Record]:
    """All test windows: our rolling evaluation beside one bare pass, and beside neuralforecast's
    own.
    """
    data = load_dataset("ETTh1", data_dir=data_dir)
    split = data.split
    setting = SETTINGS["width16"]
    stop = split.train + split.valid + split.test
    panel = data.panel.rows(0, stop)
    known = data.panel.rows(0, split.train)
    model = make_ours(setting, "mlr").fit(known.rows(0, CONTEXT + HORIZON + 4 * setting.windows))
    ends = WindowSpec(CONTEXT, HORIZON).ends(
        panel.starts, np.array([split.train + split.valid]), panel.lengths
    )
    contexts = torch.as_tensor(History(panel).contexts(ends, CONTEXT), dtype=torch.float32)
    peer = _neuralforecast(setting, 4)
    frame = long_frame(panel)
    with hushed():
        peer.fit(long_frame(known))
    times: dict[str, list[float]] = {"ours": [], "bare": [], "neuralforecast": []}
    for turn in range(turns):
        times["bare"].append(clocked(lambda: bare_pass(model, contexts)))
        times["ours"].append(clocked(lambda: roll(model, panel, ends, keep=False)))
        if turn < 2:  # minutes, and not near any border
            with hushed():
                found = clocked(
                    lambda: peer.cross_validation(
                        frame, n_windows=len(ends), step_size=1, use_fitted=True
                    )
                )
            times["neuralforecast"].append(found)
    seconds = {side: median(values) for side, values in times.items()}
    same = {
        "kind": "rolling",
        "setting": "width16",
        "model": "mlr",
        "windows": len(ends) * CHANNELS,
    }
    rows = []
    for side in ("bare", "neuralforecast"):
        row = {"peer": side, "peer_version": metadata.version(side) if side != "bare" else None}
        row |= {
            "ratio": round(seconds[side] / seconds["ours"], 3),
            "seconds": round(seconds["ours"], 3),
        }
        rows.append(
            {**same, **row, "peer_seconds": round(seconds[side], 3), "turns": len(times[side])}
        )
    return rows


def bare_pass(model: Any, contexts: torch.Tensor) -> None:
    """The network alone over ready windows, in chunks as large as those of the evaluation."""
    network = model.network_.eval()
    with torch.inference_mode():
        for chunk in contexts.split(585):
            network(chunk)


def chronos(x: np.ndarray, horizon: int, threads: int) -> Ready:
    """The network of Chronos-Bolt tiny with random weights, nine quantiles of 64 steps; fastest
    batch and threading.
    """
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    sizes = {
        "d_model": 256,
        "d_ff": 1024,
        "d_kv": 64,
        "num_heads": 4,
        "num_layers": 4,
        "num_decoder_layers": 4,
    }
    config = T5Config(
        **sizes, vocab_size=2, pad_token_id=0, decoder_start_token_id=0, feed_forward_proj="relu"
    )
    patches = {"input_patch_size": 16, "input_patch_stride": 16, "use_reg_token": True}
    config.chronos_config = {
        "context_length": 2048,
        "prediction_length": 64,
        **patches,
        "quantiles": list(NINE),
    }
    network = ChronosBoltModelForForecasting(config).eval()
    series = torch.as_tensor(x, dtype=torch.float32)

    one = torch.inference_mode()(network.forward)

    def forecast(n_series: int, size: int, apart: bool) -> None:
        batches = series[:n_series].split(size)
        with (
            limit_threads(1 if apart else threads),
            ThreadPoolExecutor(threads if apart else 1) as pool,
        ):
            list(pool.map(one, batches))

    ways = [(size, apart) for size in (16, 64, 256) for apart in (True, False)[:threads]]
    size, apart = min(ways, key=lambda way: clocked(lambda: forecast(256 * threads, *way)))
    told = {"batch": size, "threads_apart": apart, "peer_parameters": _count(network)}
    return lambda: forecast(len(x), size, apart), told


def theta(x: np.ndarray, horizon: int, threads: int, name: str) -> Ready:
    """A Theta model of statsforecast, points only."""
    from statsforecast import StatsForecast, models

    fitted = StatsForecast(models=[getattr(models, name)(season_length=24)], freq=1, n_jobs=threads)
    frame = stacked(x)
    return lambda: fitted.forecast(df=frame, h=horizon), {}


def nhits(x: np.ndarray, horizon: int, threads: int) -> Ready:
    """NHITS of neuralforecast, points only, after ten steps of training, whose time is
    told apart.
    """
    from neuralforecast import NeuralForecast
    from neuralforecast.models import NHITS

    sizes = {
        "h": horizon,
        "input_size": x.shape[1] - 2 * horizon,
        "max_steps": 10,
        "inference_windows_batch_size": 256,
    }
    fitted = NeuralForecast(models=[NHITS(**sizes, **_QUIET, enable_checkpointing=False)], freq=1)
    frame = stacked(x)
    return fitted.predict, {"train_seconds": round(clocked(lambda: fitted.fit(frame)), 2)}


def stacked(x: np.ndarray) -> pd.DataFrame:
    """Series ``[N, T]`` as ``unique_id, ds, y``, gaps filled."""
    n, steps = x.shape
    y = pd.DataFrame(x.T).ffill().bfill().to_numpy().T
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.arange(n), steps),
            "ds": np.tile(np.arange(steps), n),
            "y": y.ravel(),
        }
    )


# Who forecasts beside the pretrained forecaster: distribution, series of every ten, and how it is
# made ready.
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
    """Series a second of the pretrained forecaster, 17 quantiles each, beside others in turns."""
    x = make(n_series, context, seed=0)
    ours = make_forecaster("zero", horizon, weights=weights, n_threads=threads)
    ours.fit(to_panel(stacked(x[:1]), freq=1))
    levels = ours.network_.quantile_levels
    ready: dict[str, tuple[int, Callable[[], Any], Record]] = {}
    for peer in peers:
        _, share, build = FORECASTERS[peer]
        some = x[: max(round(share * n_series), 8)]
        with hushed():
            ready[peer] = len(some), *build(some, horizon, threads)
    pairs: dict[str, list[tuple[float, float]]] = {peer: [] for peer in ready}
    for _ in range(turns):
        mine = n_series / clocked(lambda: ours.predict_windows(x[..., None], quantiles=levels))
        for peer, (n, theirs, _) in ready.items():
            with hushed():
                pairs[peer].append((mine, n / clocked(theirs)))
    for peer, (n, _, told) in ready.items():
        package = FORECASTERS[peer][0]
        found = pairs[peer]
        row = {
            "kind": "pretrained",
            "setting": f"{context} rows, {horizon} ahead",
            "peer": peer,
            "model": weights,
        }
        row |= {"peer_version": f"{package} {metadata.version(package)}", "turns": turns}
        row |= {"series": n_series, "peer_series": n, **told}
        yield {
            **row,
            **spread([mine / other for mine, other in found]),
            **paces(found, "series_per_second"),
        }


def pretraining(turns: int, steps: int = 12) -> Record:
    """Steps of pretraining with seasonal levels beside ordinary attention, on the same batches."""
    pairs = []
    for _ in range(turns):
        seconds = []
        for make_run in (Pretraining, partial(Study, ARMS["standard"])):
            run = make_run(ZeroConfig(), Recipe(1000))
            seconds.append(clocked(lambda run=run: [run.advance() for _ in range(steps)]))
        pairs.append((run.windows / seconds[0], run.windows / seconds[1]))
    row = {
        "kind": "pretraining",
        "setting": f"{steps} steps",
        "peer": "standard",
        "model": "season",
        "turns": turns,
    }
    return {**row, **spread([a / b for a, b in pairs]), **paces(pairs, "windows_per_second")}


def spread(ratios: list[float]) -> Record:
    """Median of the turns, and the second tenths at either end."""
    low, middle, high = (round(float(each), 3) for each in np.quantile(ratios, [0.2, 0.5, 0.8]))
    return {"ratio": middle, "ratio_low": low, "ratio_high": high}


def paces(pairs: list[tuple[float, float]], name: str) -> Record:
    """Medians of our paces and theirs."""
    ours, theirs = (round(median(each), 1) for each in zip(*pairs, strict=True))
    return {name: ours, f"peer_{name}": theirs}


def clocked(work: Callable[[], Any]) -> float:
    """Seconds by the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def main(argv: list[str] | None = None) -> None:
    """Measure what is asked for; every record is printed and kept as it comes."""
    defaults = {
        "part": PARTS,
        "setting": tuple(SETTINGS),
        "peer": tuple(PEERS),
        "turns": 7,
        "steps": 16,
        "threads": 1,
    }
    defaults |= {"context": 512, "horizon": 24, "series": 10_000, "weights": ("zero-5b",)}
    defaults |= {"forecaster": tuple(FORECASTERS)}
    choices = {"part": PARTS, "setting": SETTINGS, "peer": PEERS, "forecaster": FORECASTERS}
    options = parse(argv, __doc__, {"data_dir": None, **defaults}, choices=choices)
    if options.steps <= WARM + 1 or options.turns < 1:
        raise ValueError(f"--steps must be above {WARM + 1} and --turns at least 1")
    found = Records(RESULTS / FILE, KEY)

    def keep(rows: list[Record]) -> None:
        for row in rows:
            place = {"threads": options.threads, "processor": processor()}
            found.add({**row, **place}, again=True)
            print(
                {name: row[name] for name in ("kind", "setting", "model", "peer", "ratio")},
                flush=True,
            )

    with limit_threads(options.threads):
        if "training" in options.part:
            panel = load_dataset("ETTh1", data_dir=options.data_dir).panel.rows(0, 8640)
            for name in options.setting:
                for peer in options.peer:
                    keep(throughput(name, peer, options.turns, options.steps, panel))
        if "rolling" in options.part:
            keep(rolling(options.turns, options.data_dir))
        if "pretrained" in options.part:
            sizes = options.turns, options.threads, options.context, options.horizon, options.series
            for weights in options.weights:
                keep(list(pretrained(weights, *sizes, options.forecaster)))
        if "pretraining" in options.part:
            keep([pretraining(options.turns)])


if __name__ == "__main__":
    main()
