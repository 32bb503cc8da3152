"""Training of networks: settings, loop, checkpoints, evidence and several processes."""
