"""The pretrained forecaster: synthetic series, season detection, network, pretraining and shipped
weights.
"""
