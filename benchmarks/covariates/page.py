"""Records of the covariates benchmark: their files, and what tells runs apart."""

FILE, PUBLISHED = "covariates.jsonl", "covariates_published.jsonl"
KEY = ("suite", "task", "split", "model", "columns", "settings", "weights")
