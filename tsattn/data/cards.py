"""The published data sets that are known, and their files, checked against their cards."""

import gzip
import hashlib
import io
import os
import secrets
import tomllib
import types
import zlib
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pandas as pd
from pandas.tseries.frequencies import to_offset

from tsattn.data.frames import Panel, from_wide
from tsattn.data.schema import Schema
from tsattn.data.windows import Split
from tsattn.storage import one_line

StrPath = str | os.PathLike[str]
Policy = Literal["keep", "ffill", "interpolate"]  # what becomes of sentinel numbers


@dataclass(frozen=True)
class Source:
    """Where a file comes from: a page for people, and ``base/path`` for programs."""

    url: str
    base: str
    path: str
    commit: str = ""  # "" where the source is not pinned; the checksum then is the only pin


@dataclass(frozen=True)
class Licence:
    """The licence as the source states it; ``NOASSERTION`` where it states none."""

    spdx: str
    redistribute: bool


@dataclass(frozen=True)
class Columns:
    """The header: the time column, the values in order, and the names that are replaced
    when read.
    """

    time: str
    target: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the value columns as a panel carries them."""
        return tuple(self.renamed.get(name, name) for name in self.target)


@dataclass(frozen=True)
class Stamps:
    """What the file's stamps are, and whether the panel takes them or counts rows instead.

    Args:
        stamps: With ``"own"`` the panel takes the file's stamps, which must be regular; with
            ``"position"`` row i gets the first stamp plus i steps, whatever the file says there.
        first: First stamp in the file.
        last: Last stamp in the file.
        repeats: Rows whose stamp equals the one before (only with ``"position"``).
        gaps: Rows more than a step after the one before (only with ``"position"``).
    """

    stamps: Literal["own", "position"]
    first: str
    last: str
    repeats: int = 0
    gaps: int = 0


@dataclass(frozen=True)
class Sentinel:
    """A number that stands for "not measured", how often it occurs, and what becomes of it.

    ``"keep"`` leaves the number in place; ``"ffill"`` and ``"interpolate"`` make it missing, to be
    filled by the panel's policy of that name.
    """

    value: float
    counts: dict[str, int]
    policy: Policy


@dataclass(frozen=True)
class Protocol:
    """How published tables judge on this set; scores made otherwise are not comparable
    with them.
    """

    context: int
    horizons: tuple[int, ...]
    step: int
    context_reach: bool
    drop_last: bool
    scale: Literal["train"]
    missing: Literal["none"]


@dataclass(frozen=True)
class Card:
    """One published data set; ``datasets/README.md`` explains every field.

    Raises:
        ValueError: If the split needs more rows than the file has, or a replaced name is no column.
    """

    name: str
    title: str
    source: Source
    licence: Licence
    citation: str
    format: Literal["wide"]
    frequency: str
    seasonality: int
    rows: int
    columns: Columns
    time: Stamps
    split: Split
    protocol: Protocol
    sha256: str = ""
    bytes: int | None = None
    line_ends: Literal["lf", "crlf"] = "lf"
    sentinel: Sentinel | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        if self.split.bounds[-1] > self.rows:
            raise ValueError(f"split needs {self.split.bounds[-1]} rows, the file has {self.rows}")
        if stray := sorted(set(self.columns.renamed) - set(self.columns.target)):
            raise ValueError(f"columns.renamed names {stray[0]!r}, which is not in columns.target")

    @property
    def file(self) -> str:
        """Name of the file, such as ``ETTh1.csv``."""
        return PurePosixPath(self.source.path).name

    @property
    def checked_by(self) -> str:
        """``"sha256"``, or ``"structure"`` (header, rows, stamps) when the card knows no
        checksum.
        """
        return "sha256" if self.sha256 else "structure"

    def download_url(self, base_url: str | None = None) -> str:
        """Address of the file, at the card's source or below ``base_url``, a mirror of the same
        layout.
        """
        base = (
            self.source.base.replace("{commit}", self.source.commit)
            if base_url is None
            else base_url
        )
        return f"{base.rstrip('/')}/{self.source.path}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked file, read.

    Args:
        card: What is known about the set.
        panel: One series of ``[rows, C]`` values, float64, exactly the decimals of the file.
        split: The published training, validation and test rows.
        path: The file that was read.
        stamps: The file's own stamps, ``[rows]``. They differ from ``panel.times`` only where the
            card counts rows by position.
        sha256: Checksum of the unpacked bytes that were read.
    """

    card: Card
    panel: Panel
    split: Split
    path: Path
    stamps: pd.DatetimeIndex
    sha256: str

    def report(self) -> dict[str, Any]:
        """What was read and how it was checked, in plain values."""
        return {
            "name": self.card.name,
            "path": str(self.path),
            "sha256": self.sha256,
            "checked_by": self.card.checked_by,
            "rows": len(self.panel.values),
            "channels": len(self.panel.channels),
            "frequency": self.card.frequency,
            "first": str(self.stamps[0]),
            "last": str(self.stamps[-1]),
        }


def list_cards() -> list[str]:
    """Names of all known data sets, sorted."""
    return sorted(path.stem for path in _cards_folder().glob("*.toml"))


def read_card(name: str) -> Card:
    """Read one card.

    Args:
        name: Name of the data set; case does not matter.

    Raises:
        ValueError: If no such card exists (the message lists those that do) or a field is wrong.
    """
    known = list_cards()
    if str(name).lower() not in known:
        raise ValueError(f"no data set is called {name!r}; known are {', '.join(known)}")
    path = _cards_folder() / f"{str(name).lower()}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        table["split"] = _split(table.get("split"), table.get("rows"))
        card = _convert(Card, table, "card")
    except ValueError as error:
        raise ValueError(f"{path.name}: {one_line(error)}; see datasets/README.md") from error
    if card.name != path.stem:
        raise ValueError(
            f"{path.name}: the name is {card.name!r}; it must be the file's name, {path.stem!r}"
        )
    return card


def load_dataset(
    name: str,
    data_dir: StrPath | None = None,
    *,
    sentinels: Policy | None = None,
    base_url: str | None = None,
    cache_dir: StrPath | None = None,
) -> Dataset:
    """Read a published data set, checked against its card.

    The file is looked for in ``data_dir``, then in the cache, and is downloaded into the cache at
    last.

    Args:
        name: Name of the data set; case does not matter.
        data_dir: Folder that may hold the file, plain or gzipped, under its usual name in any case.
        sentinels: What becomes of the card's sentinel numbers. ``None`` takes the card's policy,
            ``"ffill"`` and ``"interpolate"`` make them missing values under that policy.
        base_url: Mirror to download from, laid out like the card's source.
        cache_dir: Cache folder; ``None`` is the user's cache folder of this library.

    Returns:
        Panel, published split, card, and the path that was read.

    Raises:
        ValueError: If the name is unknown, or the file is not the one the card describes.
        FileNotFoundError: If ``data_dir`` is no folder, or the file is nowhere and cannot be
            downloaded.
        OSError: If the cache cannot be written or the file cannot be read.
    """
    card = read_card(name)
    policy = _sentinel_policy(card, sentinels)
    cache = _cache_folder(cache_dir)
    path = _look(card, data_dir, cache)
    if path is not None:
        return _open(card, path, policy, str(path))
    return _download(card, card.download_url(base_url), policy, cache, data_dir)


def find_file(card: Card, folder: StrPath) -> Path | None:
    """The card's file in a folder, plain before gzipped, its name matched without regard
    to case.
    """
    if not Path(folder).is_dir():
        return None
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    for wanted in (card.file, f"{card.file}.gz"):
        same = [name for name in names if name.lower() == wanted.lower()]
        if same:
            return Path(folder) / (wanted if wanted in same else same[0])
    return None


def fetch(
    name: str,
    data_dir: StrPath | None = None,
    *,
    base_url: str | None = None,
    cache_dir: StrPath | None = None,
) -> dict[str, Any]:
    """Make sure that a data set is here, downloading it if need be, and report what was checked.

    Arguments and errors as in :func:`load_dataset`; the report as in :meth:`Dataset.report`.
    """
    return load_dataset(name, data_dir, base_url=base_url, cache_dir=cache_dir).report()


def verify(
    name: str, data_dir: StrPath | None = None, *, cache_dir: StrPath | None = None
) -> dict[str, Any]:
    """Check a file that is here, in ``data_dir`` or in the cache, without downloading anything.

    Raises:
        ValueError: If the file is not the one the card describes.
        FileNotFoundError: If the file is in neither folder.
    """
    card = read_card(name)
    cache = _cache_folder(cache_dir)
    path = _look(card, data_dir, cache)
    if path is None:
        raise FileNotFoundError(
            f"{_nowhere(card, data_dir, cache)}; run `tsattn datasets fetch {card.name}` or"
            f" {_by_hand(card)}"
        )
    return _open(card, path, _sentinel_policy(card, None), str(path)).report()


def _cards_folder() -> Path:
    # An installed wheel carries the cards inside the package; a checkout has them beside it.
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_datasets", package.parent / "datasets"):
        if any(folder.glob("*.toml")):
            return folder
    raise FileNotFoundError(f"no data set cards in {package / '_datasets'}; install tsattn again")


def _split(table: Any, rows: Any) -> Split:
    if not isinstance(table, dict) or type(rows) is not int:
        raise ValueError("a card needs a whole number `rows` and a table [split]")
    if set(table) == {"shares"}:
        return Split.from_shares(rows, table["shares"])
    return _convert(Split, table, "split")


def _convert(kind: Any, value: Any, where: str) -> Any:
    """Turn a value read from TOML into the annotated type, or say which field is wrong and how."""
    origin = get_origin(kind)
    inner = get_args(kind)
    if (
        origin is types.UnionType
    ):  # an optional field: TOML has no null, so what is there is not None
        return _convert(inner[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(inner[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _fill(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if value in inner if origin is Literal else type(value) is kind:
        return value
    rule = (
        f"one of {', '.join(map(repr, inner))}"
        if origin is Literal
        else f"of type {getattr(kind, '__name__', kind)}"
    )
    raise ValueError(f"{where} is {value!r}; it must be {rule}")


def _fill(kind: Any, table: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    known = fields(kind)
    required = [
        f.name for f in known if f.default is NO_DEFAULT and f.default_factory is NO_DEFAULT
    ]
    if unknown := sorted(set(table) - set(hints)):
        raise ValueError(
            f"{where} has an unknown field {unknown[0]!r}; known are {', '.join(hints)}"
        )
    if absent := [name for name in required if name not in table]:
        raise ValueError(f"{where} lacks the field {absent[0]!r}")
    return kind(
        **{key: _convert(hints[key], value, f"{where}.{key}") for key, value in table.items()}
    )


def _sentinel_policy(card: Card, asked: Policy | None) -> Policy:
    if asked is None:
        return card.sentinel.policy if card.sentinel else "keep"
    if asked not in get_args(Policy):
        raise ValueError(
            f"sentinels must be None (the card's) or one of {get_args(Policy)}; got {asked!r}"
        )
    return asked


def _cache_folder(cache_dir: StrPath | None) -> Path:
    if cache_dir is not None:
        return Path(cache_dir)
    import pooch

    return Path(pooch.os_cache("tsattn"))


def _look(card: Card, data_dir: StrPath | None, cache: Path) -> Path | None:
    if data_dir is not None:
        if not Path(data_dir).is_dir():
            raise FileNotFoundError(
                f"data_dir {str(data_dir)!r} is no folder; name the one with {card.file}"
            )
        if (path := find_file(card, data_dir)) is not None:
            return path
    return find_file(card, cache)


def _open(card: Card, path: Path, policy: Policy, named: str) -> Dataset:
    """Check and read one file; ``named`` is what messages call it."""
    packed = path.read_bytes()
    try:
        raw = gzip.decompress(packed) if path.suffix.lower() == ".gz" else packed
        digest = hashlib.sha256(raw).hexdigest()
        if card.sha256 and digest != card.sha256:
            raise ValueError(
                f"its sha256 is {digest} instead of {card.sha256}{_size_hint(card, raw)}"
            )
        frame = _table(card, raw)
        own, times = _stamps(card, frame)
        panel = _panel(card, frame, times, policy)
    except (ValueError, TypeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        remedy = f"remove it and {_by_hand(card)}" if named == str(path) else _by_hand(card)
        raise ValueError(
            f"{named} is not what card {card.name} describes: {one_line(error)}; {remedy}"
        ) from error
    return Dataset(card, panel, card.split, path, own, digest)


def _size_hint(card: Card, raw: bytes) -> str:
    found = "crlf" if raw.partition(b"\n")[0].endswith(b"\r") else "lf"
    if found != card.line_ends:
        return (
            f" (its line ends are {found}, the published file's are {card.line_ends}: a tool"
            " rewrote it)"
        )
    if card.bytes is not None and len(raw) != card.bytes:
        return f" ({len(raw)} bytes instead of {card.bytes})"
    return ""


def _table(card: Card, raw: bytes) -> pd.DataFrame:
    # The default parser may miss by the last bit; round_trip gives the very float that the decimals
    # name.
    frame = pd.read_csv(
        io.BytesIO(raw), encoding="utf-8", float_precision="round_trip", low_memory=False
    )
    expected = [card.columns.time, *card.columns.target]
    found = [str(name) for name in frame.columns]
    if found != expected:
        pairs = zip(found, expected, strict=False)
        odd = next((f", the first odd one {a!r} instead of {b!r}" for a, b in pairs if a != b), "")
        raise ValueError(f"it has {len(found)} columns instead of {len(expected)}{odd}")
    if len(frame) != card.rows:
        raise ValueError(f"it has {len(frame)} rows instead of {card.rows}; get the whole file")
    for name in card.columns.target:
        # One foreign cell turns a whole column into text: name that cell, not the first one.
        if not pd.api.types.is_numeric_dtype(frame[name]):
            bad = frame[name][
                pd.to_numeric(frame[name], errors="coerce").isna() & frame[name].notna()
            ]
            raise ValueError(
                f"column {name!r} holds {bad.iloc[0]!r} in row {bad.index[0]}, which is no number"
            )
    return frame


def _stamps(card: Card, frame: pd.DataFrame) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The file's own stamps, and the panel's."""
    own = pd.DatetimeIndex(pd.to_datetime(frame[card.columns.time], format="ISO8601"), name=None)
    for row, stamp in ((0, card.time.first), (-1, card.time.last)):
        if own[row] != pd.Timestamp(stamp):
            raise ValueError(
                f"its {'last' if row else 'first'} stamp is {own[row]} instead of {stamp}"
            )
    if card.time.stamps == "own":
        if not own.is_monotonic_increasing:
            raise ValueError("its rows are not in the order of time")
        return own, own
    step, unit = own[1:] - own[:-1], pd.Timedelta(to_offset(card.frequency))  # type: ignore[arg-type]
    repeats = int((step == pd.Timedelta(0)).sum())
    gaps = int((step > unit).sum())
    odd = int((step < unit).sum()) - repeats
    if (repeats, gaps, odd) != (card.time.repeats, card.time.gaps, 0):
        raise ValueError(
            f"its stamps have {repeats} repeats, {gaps} gaps and {odd} other irregular steps"
            f" instead of {card.time.repeats}, {card.time.gaps} and 0"
        )
    return own, pd.date_range(own[0], periods=len(own), freq=card.frequency)


def _panel(card: Card, frame: pd.DataFrame, times: pd.DatetimeIndex, policy: Policy) -> Panel:
    table = frame[list(card.columns.target)].set_axis(list(card.columns.channels), axis=1)
    if card.sentinel is not None:
        value = card.sentinel.value
        counts = card.sentinel.counts
        marked = table == value
        if (found := {str(name): int(n) for name, n in marked.sum().items() if n}) != counts:
            raise ValueError(f"{value:g} stands in its columns {found} instead of {counts} times")
        if policy != "keep":
            table = table.mask(marked)
    table.insert(0, card.columns.time, times)
    missing = "error" if policy == "keep" else policy
    return from_wide(
        table, Schema(time_col=card.columns.time, freq=card.frequency, missing=missing)
    )


def _download(
    card: Card, url: str, policy: Policy, cache: Path, data_dir: StrPath | None
) -> Dataset:
    import pooch

    part = cache / f".{card.file}.{secrets.token_hex(8)}.part"
    path = cache / card.file
    try:
        cache.mkdir(parents=True, exist_ok=True)
        part.touch(
            exist_ok=False
        )  # readable by whom the umask lets: several users may share a cache
    except OSError as error:
        raise OSError(
            f"cannot write to the cache folder {cache} ({error.strerror}); name another with"
            f" cache_dir, or {_by_hand(card)}"
        ) from error
    try:
        try:
            pooch.HTTPDownloader(chunk_size=1 << 16, timeout=30)(url, str(part), None)
        except OSError as error:  # all errors of the HTTP library are among them
            answer = getattr(error, "response", None)
            cause = error.strerror or type(error).__name__
            cause = cause if answer is None else f"the server answers {answer.status_code}"
            raise FileNotFoundError(
                f"{_nowhere(card, data_dir, cache)}, and {url} cannot be downloaded ({cause});"
                f" {_by_hand(card)}"
            ) from error
        dataset = _open(card, part, policy, url)
        # Nobody ever sees a half or a wrong file under the real name.
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return Dataset(card, dataset.panel, dataset.split, path, dataset.stamps, dataset.sha256)


def _nowhere(card: Card, data_dir: StrPath | None, cache: Path) -> str:
    folders = [str(cache)] if data_dir is None else [os.fspath(data_dir), str(cache)]
    return f"neither {card.file} nor {card.file}.gz is in {' or in '.join(folders)}"


def _by_hand(card: Card) -> str:
    return (
        f"get {card.source.path} from {card.source.url} and put it as {card.file} into the data_dir"
        " folder"
    )
