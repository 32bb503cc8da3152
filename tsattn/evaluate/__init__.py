"""How good is a forecast? Metrics, rolling evaluation, calibrated intervals and the baselines to
beat.
"""
