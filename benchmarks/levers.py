"""Which settings are worth their cost? Trains each on one training span and records the validation loss.

The test span is never read: defaults are chosen from these records alone (docs/log.md).
Run: python benchmarks/levers.py --data-dir DIR [--dataset ETTh1] [--horizon 96] [--name NAME ...]
"""

import argparse
import json
from pathlib import Path

import numpy as np

from tsattn import AttentionForecaster, load_dataset
from tsattn.benchmark import provenance
from tsattn.evaluate.rolling import roll

# A setting is what differs from the defaults of AttentionForecaster.
SETTINGS: dict[str, dict[str, object]] = {
    "default": {},
    "no linear skip": {"linear_skip": False},
    "four heads": {"n_heads": 4},
    "standard attention": {"attention": "standard"},
    "MAE loss": {"loss": "mae"},
    "twice the rate": {"learning_rate": 2e-3},
    "dropout 0.2": {"dropout": 0.2},
    "patches of 8": {"patch_len": 8, "patch_stride": 8},
}
RECORDS = Path(__file__).parent / "results" / "levers.jsonl"


def run(name: str, *, dataset: str, horizon: int, seed: int, data_dir: str | None) -> dict[str, object]:
    """Train one setting; the score is the best validation MSE, whatever the loss, and the MAE beside it."""
    data = load_dataset(dataset, data_dir=data_dir)
    split = data.split
    known = data.panel.rows(0, split.train + split.valid)
    model = AttentionForecaster(
        horizon, context=data.card.protocol.context, val_size=split.valid, random_state=seed, **SETTINGS[name]
    ).fit(known)
    ends = np.arange(split.train, split.train + split.valid - horizon + 1)
    rolled = roll(model, known, ends, scaler=model.scaler_, keep=False)
    return {
        "setting": name,
        "changes": SETTINGS[name],
        "dataset": data.card.name,
        "horizon": horizon,
        "seed": seed,
        "valid_mse": rolled.mse,
        "valid_mae": rolled.mae,
        "best_epoch": model.summary_["best_epoch"],
        "parameters": model.summary_["parameters"],
        "fit_seconds": model.summary_["fit_seconds"],
        **provenance(model),
    }


def main() -> None:
    """Run what is asked for and not recorded yet; append each record as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir")
    parser.add_argument("--dataset", default="ETTh1")
    parser.add_argument("--horizon", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", action="append", choices=list(SETTINGS))
    chosen = parser.parse_args()
    done = [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []
    for name in chosen.name or SETTINGS:
        key = (name, SETTINGS[name], chosen.dataset.lower(), chosen.horizon, chosen.seed)
        if key in [(r["setting"], r["changes"], r["dataset"], r["horizon"], r["seed"]) for r in done]:
            continue
        record = run(name, dataset=chosen.dataset, horizon=chosen.horizon, seed=chosen.seed, data_dir=chosen.data_dir)
        with RECORDS.open("a") as file:
            file.write(json.dumps(record) + "\n")
        print(f"{name}: validation MSE {record['valid_mse']:.4f}, {record['fit_seconds']:.0f} s")


if __name__ == "__main__":
    main()
