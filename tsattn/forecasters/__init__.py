"""Everything that forecasts, one file a family."""
