"""Does attention with levels forecast ETTh1 better than standard attention, and more so at long horizons? The paper's
experiment: a two-layer encoder, two and four levels, judged on every test window.

All variants share every setting; the rate is that of the least validation MAE with the first seed. Runs that stand in
the record are not done again.
Run: python benchmarks/paper_etth1.py --data-dir DIR [--horizon 96 ...] [--seed 0 ...] [--variant mlr4 ...] [--paper]
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsattn.limits import limit_threads

# Shares of a head's features, coarse to fine.
LEVELS: dict[str, tuple[int, ...]] = {"mlr2": (2, 2), "mlr4": (2, 4, 8, 8)}
HORIZONS = (96, 192, 336)
SEEDS = (0, 1, 2)
RATES = (3e-4, 1e-3)
WIDTH, HEADS = 32, 4
PAPER_WIDTH, PAPER_HEADS = 512, 8
# What one run is told from others by.
KEY = ("variant", "horizon", "seed", "learning_rate", "settings")


# Its own folder is not searched for modules (PYTHONSAFEPATH), so neighbours are loaded by their paths.
def _neighbour(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


experiment, paper_etth1_page = _neighbour("experiment"), _neighbour("paper_etth1_page")
FILE, STANDARD, TUNING_SEED = paper_etth1_page.FILE, paper_etth1_page.STANDARD, paper_etth1_page.TUNING_SEED
VARIANTS = tuple(paper_etth1_page.VARIANTS)


def attention_of(variant: str, n_features: int) -> dict[str, Any]:
    """The settings of a variant whose heads have so many features.

    Raises:
        ValueError: If the features cannot be shared among the levels.
    """
    if variant == STANDARD:
        return {"attention": "standard"}
    shares = LEVELS[variant]
    if n_features % max(shares):
        raise ValueError(
            f"{variant} needs a multiple of {max(shares)} features a head; got {n_features}; change --width or --heads"
        )
    return {"attention": "mlr", "ranks": tuple(n_features // share for share in shares)}


def run(cell: dict[str, Any], data: Any) -> dict[str, Any]:
    """Train one forecaster on the training rows, stopped by the validation rows, and judge it on all windows of both
    the validation and the test rows.

    Args:
        cell: The fields of ``KEY``.
        data: A data set of known split, from ``load_dataset``.

    Returns:
        The cell with its scores on the scale of the training rows.
    """
    from tsattn.data.windows import make_scaler
    from tsattn.evaluate.rolling import roll
    from tsattn.forecasters.attention import AttentionForecaster

    settings, horizon = cell["settings"], cell["horizon"]
    first, valid, stop = data.split.bounds
    panel = data.panel.rows(0, stop)
    known, scaler = panel.rows(0, valid), make_scaler(panel, first)
    model = AttentionForecaster(
        horizon,
        **settings,
        **attention_of(cell["variant"], settings["d_model"] // settings["n_heads"]),
        learning_rate=cell["learning_rate"],
        random_state=cell["seed"],
        val_size=data.split.valid,
        device="cpu",
    )
    cpu = time.process_time()
    model.fit(known)
    scores: dict[str, Any] = {}
    for name, rows, begin, end in (("valid", known, first, valid), ("test", panel, valid, stop)):
        ends = (rows.starts[:-1, None] + np.arange(begin, end - horizon + 1)).ravel()
        rolled = roll(model, rows, ends, scaler=scaler, keep=False)
        scores |= {f"{name}_mse": rolled.mse, f"{name}_mae": rolled.mae, f"{name}_windows": rolled.n_windows}
    told = {name: model.summary_[name] for name in ("epochs", "best_epoch", "parameters", "patches", "fit_seconds")}
    return {"kind": "run", **cell, **scores, **told, "cpu_seconds": round(time.process_time() - cpu, 1)}


def grid(options: argparse.Namespace, records: Any) -> Iterator[dict[str, Any]]:
    """The runs that are asked for: all rates with the first seed, then the other seeds at the rate that was best.

    Asked for one after another, since the second kind depends on what was recorded of the first.
    """
    for horizon in options.horizon:
        for variant in options.variant:
            shared = {"variant": variant, "horizon": horizon, "settings": options.settings}
            rates = options.rate
            if len(rates) > 1:
                for rate in rates:
                    yield {**shared, "seed": TUNING_SEED, "learning_rate": rate}
                same = [row for row in records.rows() if all(row[name] == shared[name] for name in shared)]
                rates = (paper_etth1_page.best_rate([row for row in same if row["learning_rate"] in rates]),)
            for seed in options.seed:
                yield {**shared, "seed": seed, "learning_rate": rates[0]}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is asked for and not recorded yet; 2 when a name or size is not usable."""
    from tsattn.data.cards import load_dataset

    options = _options(argv)
    records = experiment.Records(options.out, KEY)
    try:
        data = load_dataset("ETTh1", data_dir=options.data_dir)
    except (ValueError, OSError) as error:
        print(f"paper_etth1: {error}", file=sys.stderr)
        return 2
    with limit_threads(1):
        for cell in records.missing(grid(options, records)):
            row = records.add(run(cell, data))
            name = f"{row['variant']}, horizon {row['horizon']}, seed {row['seed']}, rate {row['learning_rate']:g}"
            scores = f"validation MAE {row['valid_mae']:.4f}, test MAE {row['test_mae']:.4f}"
            print(f"{name}: {scores}, epoch {row['best_epoch']}, {row['cpu_seconds']:.0f} s", flush=True)
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--horizon", action="append", type=int, help="default 96, 192, 336")
    parser.add_argument("--seed", action="append", type=int, help="default 0, 1, 2")
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("--rate", action="append", type=float, help="several are compared by validation")
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument(
        "--paper", action="store_true", help=f"width {PAPER_WIDTH}, {PAPER_HEADS} heads, a feed-forward 4 times as wide"
    )
    parser.add_argument("--heads", type=int, default=HEADS)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--context", type=int, default=336)
    parser.add_argument("--patch-len", type=int, default=16, help="rows a token")
    parser.add_argument("--patch-stride", type=int, help="default half a patch")
    parser.add_argument("--head-rank", type=int, help="numbers through which states reach the horizon; default all")
    parser.add_argument("--linear-skip", action="store_true", help="a linear map beside the encoder")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--patience", type=int, default=2)
    parser.add_argument("--out", type=Path, default=experiment.RESULTS / FILE)
    options = parser.parse_args(argv)
    given = {"horizon": HORIZONS, "seed": SEEDS, "variant": VARIANTS, "rate": RATES}
    for name, default in given.items():
        setattr(options, name, tuple(dict.fromkeys(getattr(options, name) or default)))
    if options.paper:
        options.width, options.heads = PAPER_WIDTH, PAPER_HEADS
    if options.heads < 1 or options.width % options.heads:
        parser.error(f"--heads must divide the width; got {options.heads} for {options.width}")
    try:
        for variant in options.variant:
            attention_of(variant, options.width // options.heads)
    except ValueError as error:
        parser.error(str(error))
    options.settings = _settings(options)
    return options


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What all variants share."""
    return {
        "context": options.context,
        "patch_len": options.patch_len,
        "patch_stride": options.patch_stride or max(1, options.patch_len // 2),
        "d_model": options.width,
        "n_heads": options.heads,
        "n_layers": options.layers,
        "d_ff": (4 if options.paper else 2) * options.width,
        "head_rank": options.head_rank,
        "linear_skip": options.linear_skip,
        "loss": "huber",
        "max_epochs": options.epochs,
        "patience": options.patience,
    }


if __name__ == "__main__":
    sys.exit(main())
