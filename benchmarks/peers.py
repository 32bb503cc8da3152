"""How fast do we train and roll beside other libraries' PatchTST, each through its own front door?

All sides get the same rows, context, horizon, sizes, dropout and number of series windows in a step; where a peer's
network cannot be made the same, the record says what differs. Training runs in turns within one process (ours, theirs,
ours, ...), one torch thread unless --threads says otherwise, and the time between one step of the optimiser and the
next is taken, so that start-up does not count. A profile says what our own steps spend their time on. Records are
appended to results/peers.jsonl.
Run: pip install ".[peers]", then python benchmarks/peers.py --data-dir DIR [--setting width16] [--peer neuralforecast]
They agree with what this library asks for: no environment of its own is needed. docs/peers.md shows the records.
"""

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from tsattn import AttentionForecaster, load_dataset
from tsattn.benchmark import provenance
from tsattn.data.frames import Panel, to_long
from tsattn.data.windows import History, WindowSpec
from tsattn.evaluate.rolling import roll

RECORDS = Path(__file__).parent / "results" / "peers.jsonl"
CONTEXT, HORIZON, PATCH, STRIDE, LAYERS = 336, 96, 16, 8, 3
WARM = 4  # steps of a run that are not counted
CHANNELS = 7


class Setting(NamedTuple):
    """Sizes of the published PatchTST: the first those of ETTh1, the second those of ETTm1 with smaller batches."""

    d_model: int
    n_heads: int
    d_ff: int
    dropout: float
    windows: int  # a step, each with all channels

    @property
    def series_windows(self) -> int:
        return self.windows * CHANNELS


SETTINGS = {"width16": Setting(16, 4, 128, 0.3, 128), "width128": Setting(128, 16, 256, 0.2, 32)}
DIFFERS = {
    "neuralforecast": "post-norm with batch norm, residual scores, learned query scale",
    "transformers": "41 patches (no padding at the end), batch norm; a bare loop without Trainer or data loader",
    "gluonts": "Student-t head whose flat layer is d_model times as wide; relu; mean scaling",
}


class Side(NamedTuple):
    """One library: trains for some steps and says how many parameters it trained."""

    train: Callable[[Setting, int, Panel], int]


# --- who is compared --------------------------------------------------------------------------------------------


def ours(attention: str, **changes: Any) -> Callable[[Setting, int, Panel], int]:
    """Our estimator, one pass over as many windows as the steps take."""

    def train(setting: Setting, steps: int, panel: Panel) -> int:
        rows = CONTEXT + HORIZON + steps * setting.windows - 1
        model = make_ours(setting, attention, **changes).fit(panel.rows(0, rows))
        return int(model.summary_["parameters"])

    return train


def make_ours(setting: Setting, attention: str, **changes: Any) -> AttentionForecaster:
    """The estimator with a peer's sizes: no linear map beside the transformer, four or sixteen heads."""
    return AttentionForecaster(
        HORIZON,
        context=CONTEXT,
        attention=attention,
        d_model=setting.d_model,
        n_heads=setting.n_heads,
        n_layers=LAYERS,
        d_ff=setting.d_ff,
        patch_len=PATCH,
        patch_stride=STRIDE,
        dropout=setting.dropout,
        linear_skip=False,
        learning_rate=1e-4,
        batch_size=setting.windows,
        max_epochs=1,
        val_size=0,
        random_state=0,
        n_threads=torch.get_num_threads(),  # as many as the peer has
        **changes,
    )


def _neuralforecast(setting: Setting, steps: int) -> Any:
    from neuralforecast import NeuralForecast
    from neuralforecast.models import PatchTST

    model = PatchTST(
        h=HORIZON,
        input_size=CONTEXT,
        encoder_layers=LAYERS,
        n_heads=setting.n_heads,
        hidden_size=setting.d_model,
        linear_hidden_size=setting.d_ff,
        dropout=setting.dropout,
        fc_dropout=setting.dropout,
        head_dropout=0.0,
        attn_dropout=0.0,
        patch_len=PATCH,
        stride=STRIDE,
        revin=True,
        learning_rate=1e-4,
        max_steps=steps,
        batch_size=CHANNELS,
        windows_batch_size=setting.series_windows,
        inference_windows_batch_size=1024,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        logger=False,
    )
    return NeuralForecast(models=[model], freq="h")


def train_neuralforecast(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of neuralforecast, through ``NeuralForecast.fit`` on a long frame."""
    fitted = _neuralforecast(setting, steps)
    fitted.fit(long_frame(panel))
    return sum(p.numel() for p in fitted.models[0].parameters() if p.requires_grad)


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
        attention_dropout=0.0,
        positional_dropout=setting.dropout,
        ff_dropout=setting.dropout,
        path_dropout=setting.dropout,
        head_dropout=0.0,
        pooling_type=None,
        scaling="std",
        loss="mse",
    )
    model = PatchTSTForPrediction(config).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    values = torch.as_tensor(panel.values, dtype=torch.float32)
    windows = values.unfold(0, CONTEXT + HORIZON, 1).transpose(1, 2)[: steps * setting.windows]
    for batch in windows.split(setting.windows):
        optimiser.zero_grad()
        model(past_values=batch[:, :CONTEXT], future_values=batch[:, CONTEXT:]).loss.backward()
        optimiser.step()
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def train_gluonts(setting: Setting, steps: int, panel: Panel) -> int:
    """PatchTST of GluonTS, through ``Estimator.train``."""
    from gluonts.dataset.pandas import PandasDataset
    from gluonts.torch.model.patch_tst import PatchTSTEstimator

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "accelerator": "cpu"}
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
        batch_size=setting.series_windows,
        num_batches_per_epoch=steps,
        trainer_kwargs={"max_epochs": 1, "enable_checkpointing": True, **quiet},
    )
    frame = long_frame(panel).astype({"y": "float32"})
    data = PandasDataset.from_long_dataframe(frame, item_id="unique_id", timestamp="ds", target="y")
    predictor = estimator.train(data)
    return sum(p.numel() for p in predictor.prediction_net.parameters() if p.requires_grad)


OURS = {"standard": ours("standard"), "mlr": ours("mlr"), "mlr bf16": ours("mlr", precision="bf16")}
PEERS = {"neuralforecast": train_neuralforecast, "transformers": train_transformers, "gluonts": train_gluonts}


def long_frame(panel: Panel) -> pd.DataFrame:
    """The wide panel as ``unique_id, ds, y``."""
    return to_long(panel)[["unique_id", "ds", "y"]]


# --- how it is measured -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Other libraries' bars, tips, warnings and folders: not on this screen, not in this folder."""
    here = Path.cwd()
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            os.chdir(folder)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        os.chdir(here)
        logging.disable(logging.NOTSET)


def steps_of(train: Callable[[Setting, int, Panel], int], setting: Setting, steps: int, panel: Panel) -> dict[str, Any]:
    """Seconds between the steps of a run, by the clock and by processor time, and the parameters trained."""
    marks: list[tuple[float, float]] = []
    handle = register_optimizer_step_post_hook(lambda *_: marks.append((time.perf_counter(), time.process_time())))
    try:
        with hushed():
            parameters = train(setting, steps, panel)
    finally:
        handle.remove()
    clock, processor = np.diff(np.array(marks), axis=0)[WARM - 1 :].T
    return {"clock": float(np.median(clock)), "processor": float(np.median(processor)), "parameters": parameters}


def throughput(name: str, peer: str, turns: int, steps: int, panel: Panel) -> list[dict[str, Any]]:
    """Our models and one peer in turns; a record for each of ours with the ratio of windows a second."""
    setting = SETTINGS[name]
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in (*OURS, peer)}
    for _ in range(turns):
        for side in runs:
            runs[side].append(steps_of(OURS.get(side) or PEERS[peer], setting, steps, panel))
    theirs = runs[peer]
    records = []
    for side in OURS:
        ratios = [b["clock"] / a["clock"] for a, b in zip(runs[side], theirs, strict=True)]
        cpu = [b["processor"] / a["processor"] for a, b in zip(runs[side], theirs, strict=True)]
        low, high = np.quantile(ratios, [0.2, 0.8])
        records.append(
            {
                "kind": "training",
                "setting": name,
                "peer": peer,
                "peer_version": metadata.version(peer),
                "model": side,
                "ratio": round(median(ratios), 3),
                "ratio_low": round(float(low), 3),
                "ratio_high": round(float(high), 3),
                "cpu_ratio": round(median(cpu), 3),
                "turns": turns,
                "steps": steps - WARM,
                "windows_per_second": round(setting.series_windows / median(r["clock"] for r in runs[side]), 1),
                "peer_windows_per_second": round(setting.series_windows / median(r["clock"] for r in theirs), 1),
                "parameters": runs[side][0]["parameters"],
                "peer_parameters": theirs[0]["parameters"],
                "differs": DIFFERS[peer],
            }
        )
    return records


def rolling(turns: int, data_dir: str | None) -> list[dict[str, Any]]:
    """All test windows: our rolling evaluation beside one bare pass, and beside neuralforecast's own."""
    data = load_dataset("ETTh1", data_dir=data_dir)
    split, setting = data.split, SETTINGS["width16"]
    stop = split.train + split.valid + split.test
    panel, known = data.panel.rows(0, stop), data.panel.rows(0, split.train)
    model = make_ours(setting, "mlr").fit(known.rows(0, CONTEXT + HORIZON + 4 * setting.windows))
    ends = WindowSpec(CONTEXT, HORIZON).ends(panel.starts, np.array([split.train + split.valid]), panel.lengths)
    contexts = torch.as_tensor(History(panel).contexts(ends, CONTEXT), dtype=torch.float32)
    peer, frame = _neuralforecast(setting, 4), long_frame(panel)
    with hushed():
        peer.fit(long_frame(known))
    times: dict[str, list[float]] = {"ours": [], "bare": [], "neuralforecast": []}
    for turn in range(turns):
        times["bare"].append(clocked(lambda: bare_pass(model, contexts)))
        times["ours"].append(clocked(lambda: roll(model, panel, ends, keep=False)))
        if turn < 2:  # minutes, and not near any border
            with hushed():
                found = clocked(lambda: peer.cross_validation(frame, n_windows=len(ends), step_size=1, use_fitted=True))
            times["neuralforecast"].append(found)
    seconds = {side: median(values) for side, values in times.items()}
    return [
        {
            "kind": "rolling",
            "setting": "width16",
            "peer": side,
            "peer_version": metadata.version(side) if side != "bare" else None,
            "model": "mlr",
            "windows": len(ends) * CHANNELS,
            "ratio": round(seconds[side] / seconds["ours"], 3),
            "seconds": round(seconds["ours"], 3),
            "peer_seconds": round(seconds[side], 3),
            "turns": len(times[side]),
        }
        for side in ("bare", "neuralforecast")
    ]


# Operations of torch by what they are for; the rest is views, small operations and Python.
WORK = {
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::addmm_", "aten::baddbmm", "aten::baddbmm_"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data"),
    "activation": ("aten::gelu", "aten::gelu_backward"),
    "norms": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "dropout masks": ("aten::random_", "aten::ge"),
    "sums and products by element": ("aten::mul", "aten::mul_", "aten::add", "aten::add_", "aten::sub_", "aten::sum"),
    "copies": ("aten::copy_", "aten::cat"),
    "optimiser": ("Optimizer.step#AdamW.step", "aten::_fused_adamw_"),
}


def profiled(name: str, steps: int, panel: Panel) -> dict[str, Any]:
    """Where the time of our training steps goes, start-up left out: shares by kind of operation."""
    seen = {"steps": 0, "begin": 0.0, "seconds": 0.0}
    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def mark(*_: Any) -> None:
        seen["steps"] += 1
        if seen["steps"] == WARM:
            profiler.start()
            seen["begin"] = time.perf_counter()
        elif seen["steps"] == steps:
            seen["seconds"] = time.perf_counter() - seen["begin"]
            profiler.stop()

    handle = register_optimizer_step_post_hook(mark)
    try:
        with hushed():
            OURS["mlr"](SETTINGS[name], steps, panel)
    finally:
        handle.remove()
    own = {event.key: event.self_cpu_time_total / 1e6 for event in profiler.key_averages()}
    shares = {kind: sum(own.get(each, 0.0) for each in names) / seen["seconds"] for kind, names in WORK.items()}
    shares["everything else"] = 1 - sum(shares.values())
    rounded = {kind: round(share, 3) for kind, share in shares.items()}
    return {"kind": "profile", "setting": name, "model": "mlr", "steps": steps - WARM, "shares": rounded}


def bare_pass(model: AttentionForecaster, contexts: torch.Tensor) -> None:
    """The network alone over ready windows, in chunks as large as those of the evaluation."""
    network = model.network_.eval()
    with torch.inference_mode():
        for chunk in contexts.split(585):
            network(chunk)


def clocked(work: Callable[[], Any]) -> float:
    """Seconds by the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# --- records ----------------------------------------------------------------------------------------------------


def key_of(record: dict[str, Any]) -> tuple[Any, ...]:
    """What tells one record from another."""
    return tuple(record.get(name) for name in ("kind", "setting", "peer", "model", "threads"))


def keep(path: Path, records: list[dict[str, Any]]) -> None:
    """Put records in the place of older ones of the same key, in one step."""
    from tsattn.storage import write_atomic

    old = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    new = {key_of(record) for record in records}
    lines = [json.dumps(record) for record in [*(r for r in old if key_of(r) not in new), *records]]
    write_atomic(path, lambda aside: (aside.write_text("\n".join(lines) + "\n"), None)[1])


def main(argv: list[str] | None = None) -> int:
    """Measure what is asked for; every record is printed and kept as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--setting", action="append", choices=list(SETTINGS))
    parser.add_argument("--peer", action="append", choices=list(PEERS))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=16, help="of the optimiser in one run, the first few not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-rolling", action="store_true")
    parser.add_argument("--no-profile", action="store_true")
    parser.add_argument("--out", type=Path, default=RECORDS)
    options = parser.parse_args(argv)
    if options.steps <= WARM + 1 or options.turns < 1:
        parser.error(f"--steps must be above {WARM + 1} and --turns at least 1")
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    origin = {"threads": options.threads, **provenance(None)}
    panel = load_dataset("ETTh1", data_dir=options.data_dir).panel.rows(0, 8640)
    try:
        for name in options.setting or SETTINGS:
            for peer in options.peer or PEERS:
                records = throughput(name, peer, options.turns, options.steps, panel)
                keep(options.out, [record | origin for record in records])
                for r in records:
                    print(f"{name}, {r['model']}: {r['ratio']:.2f} times {peer}", flush=True)
            if not options.no_profile:
                keep(options.out, [profiled(name, options.steps, panel) | origin])
        if not options.no_rolling:
            records = rolling(options.turns, options.data_dir)
            keep(options.out, [record | origin for record in records])
            for r in records:
                print(f"rolling: {r['peer']} takes {r['ratio']:.2f} times as long as ours", flush=True)
    finally:
        torch.set_num_threads(threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
