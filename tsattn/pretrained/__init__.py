"""The pretrained forecaster: synthetic series, seasons, network, pretraining and weights."""
