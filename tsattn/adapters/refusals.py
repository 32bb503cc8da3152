"""Forecasters that adapters cannot serve, and files that they cannot write."""

from pathlib import Path

from tsattn.forecaster import Forecaster, check_forecaster


def refuse_covariates(forecaster: Forecaster, where: str) -> None:
    """Refuse a forecaster that reads covariates where none can be handed to it.

    Args:
        forecaster: Any.
        where: The place, as the subject of a sentence.

    Raises:
        TypeError: If it is none.
        ValueError: Naming what it reads.
    """
    check_forecaster(forecaster)
    columns = forecaster.covariate_columns or forecaster.covariate_columns_
    if not columns:
        return
    parts = []
    for name in ("past", "future", "static", "calendar"):
        names = getattr(columns, name)
        if names != ():
            parts.append(f"{name} {names!r}")
    raise ValueError(
        f"{where} has no place for covariates, and {forecaster.alias_} reads some"
        f" ({', '.join(parts)}); use one that was made without, or call it directly"
    )


def refuse_folder(path: str | Path) -> None:
    """Refuse a folder in the place of a file, before an export that takes long.

    Args:
        path: The file to write.

    Raises:
        ValueError: If it is a folder.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder; name a file in it to write to")
