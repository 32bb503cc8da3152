"""Zero-shot forecasts of public series beside published scores; this folder needs ``PYTHONPATH=benchmarks``."""
