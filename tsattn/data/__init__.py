"""From tables to windows: what turns a table into arrays that a forecaster can read."""
