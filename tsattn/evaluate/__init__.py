"""Metrics, rolling evaluation, backtests and calibrated intervals."""
