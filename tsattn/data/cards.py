"""Published data sets: cards that describe them, and files checked against their cards."""

import gzip
import hashlib
import io
import os
import secrets
import tomllib
import types
import zlib
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pandas as pd

from tsattn.checks import check_whole
from tsattn.data.calendar import future_times, locate, parse_freq
from tsattn.data.frames import from_wide
from tsattn.data.panel import Panel
from tsattn.data.schema import Schema
from tsattn.data.training_windows import Split
from tsattn.storage import one_line

StrPath = str | os.PathLike[str]
# Treatment of sentinel numbers.
Policy = Literal["keep", "ffill", "interpolate"]
# Bytes that are read at once while downloading.
_CHUNK_BYTES = 1 << 16
# Seconds without an answer from the server after which a download fails.
_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Source:
    """Source of a file: its web page, and ``base/path`` as the address of the file."""

    url: str
    base: str
    path: str
    # "" if the source has no fixed version; then only the checksum fixes the content.
    commit: str = ""


@dataclass(frozen=True)
class Licence:
    """The licence as the source states it; ``NOASSERTION`` where it states none."""

    spdx: str
    redistribute: bool


@dataclass(frozen=True)
class Columns:
    """The header: the time column, the value columns in order, and new names for some of them."""

    time: str
    target: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the value columns in the panel."""
        return tuple(self.renamed.get(name, name) for name in self.target)


@dataclass(frozen=True)
class Stamps:
    """The stamps of the file, and whether the panel takes them or counts rows instead.

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

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            text = getattr(self, name)
            if pd.isna(pd.to_datetime(text, errors="coerce")):
                raise ValueError(
                    f"time.{name} is {text!r}; it must be a stamp such as 2020-01-31 00:00:00"
                )


@dataclass(frozen=True)
class Sentinel:
    """A number that means "not measured", its count in each column, and its treatment.

    ``"keep"`` leaves the number in place; ``"ffill"`` and ``"interpolate"`` make it a missing value
    under the panel's policy of that name.
    """

    value: float
    counts: dict[str, int]
    policy: Policy


@dataclass(frozen=True)
class Protocol:
    """The protocol of published results on this data set; other scores are not comparable."""

    context: int
    horizons: tuple[int, ...]
    step: int
    context_reach: bool
    drop_last: bool
    scale: Literal["train"]
    missing: Literal["none"]

    def __post_init__(self) -> None:
        check_whole("protocol.context", self.context)
        if not self.horizons:
            raise ValueError("protocol.horizons names no horizon; name one, such as [96]")
        for horizon in self.horizons:
            check_whole("protocol.horizons", horizon)


@dataclass(frozen=True)
class Card:
    """One published data set; ``datasets/README.md`` explains every field.

    Raises:
        ValueError: If fields contradict one another, or no file can have what a field says.
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
        n_split = self.split.bounds[-1]
        if n_split > self.rows:
            raise ValueError(f"split needs {n_split} rows, the file has {self.rows}")
        unknown = sorted(set(self.columns.renamed) - set(self.columns.target))
        if unknown:
            raise ValueError(
                f"columns.renamed names {unknown[0]!r}, which is not in columns.target"
            )
        names = [self.columns.time, *self.columns.channels]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"columns: {min(repeated)!r} occurs twice; columns need unlike names")
        if not PurePosixPath(self.file).suffix:
            raise ValueError(
                f"source.path is {self.source.path!r}; it must end with the name of a file, such as"
                " data/sales.csv"
            )
        check_whole("seasonality", self.seasonality)
        parse_freq(self.frequency)

    @property
    def file(self) -> str:
        """Name of the file, such as ``ETTh1.csv``."""
        return PurePosixPath(self.source.path).name

    @property
    def checked_by(self) -> str:
        """``"sha256"``, or ``"structure"`` (header, rows, stamps) if the card has no checksum."""
        return "sha256" if self.sha256 else "structure"

    def download_url(self, base_url: str | None = None) -> str:
        """Address of the file, at the card's source or below ``base_url``, a mirror of the same
        layout.
        """
        base = base_url
        if base is None:
            base = self.source.base.replace("{commit}", self.source.commit)
        return f"{base.rstrip('/')}/{self.source.path}"


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked file, read.

    Args:
        card: Description of the data set.
        panel: A series for each target column, float64, exactly the decimals of the file.
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
            "rows": int(self.panel.lengths[0]),
            "channels": self.panel.n_series,
            "frequency": self.card.frequency,
            "first": str(self.stamps[0]),
            "last": str(self.stamps[-1]),
        }


def list_cards() -> list[str]:
    """Names of all known data sets, sorted."""
    paths = _cards_folder().glob("*.toml")
    return sorted(path.stem for path in paths)


def read_card(name: str) -> Card:
    """Read one card.

    Args:
        name: Name of the data set; case does not matter.

    Raises:
        ValueError: If no such card exists (the message lists those that do) or a field is wrong.
    """
    names = list_cards()
    file_name = str(name).lower()
    if file_name not in names:
        raise ValueError(f"no data set is called {name!r}; known are {', '.join(names)}")
    path = _cards_folder() / f"{file_name}.toml"
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text)
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

    The file is searched in ``data_dir``, then in the data set's folder of the cache. If neither has
    it, it is downloaded into that folder.

    Args:
        name: Name of the data set; case does not matter.
        data_dir: Folder that may hold the file, plain or gzipped, under its usual name in any case.
        sentinels: Treatment of the card's sentinel numbers. ``None`` takes the card's policy,
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
    cache = _cache_folder(card, cache_dir)
    path = _look(card, data_dir, cache)
    if path is not None:
        return _open(card, path, policy)
    url = card.download_url(base_url)
    return _download(card, url, policy, cache, data_dir)


def find_file(card: Card, folder: StrPath) -> Path | None:
    """The card's file in a folder, plain before gzipped, its name matched without regard
    to case.
    """
    if not Path(folder).is_dir():
        return None
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    for exact_name in (card.file, f"{card.file}.gz"):
        lower_name = exact_name.lower()
        matches = [name for name in names if name.lower() == lower_name]
        if matches:
            return Path(folder) / (exact_name if exact_name in matches else matches[0])
    return None


def verify(
    name: str, data_dir: StrPath | None = None, *, cache_dir: StrPath | None = None
) -> dict[str, Any]:
    """Check a file in ``data_dir`` or in the cache, without downloading anything.

    Raises:
        ValueError: If the file is not the one the card describes.
        FileNotFoundError: If the file is in neither folder.
    """
    card = read_card(name)
    cache = _cache_folder(card, cache_dir)
    path = _look(card, data_dir, cache)
    if path is None:
        raise FileNotFoundError(
            f"{_nowhere(card, data_dir, cache)}; run `tsattn datasets fetch {card.name}` or"
            f" {_by_hand(card)}"
        )
    return _open(card, path, _sentinel_policy(card, None)).report()


def _cards_folder() -> Path:
    # An installed wheel has the cards inside the package; a checkout has them next to it.
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
    """Convert a value of a TOML file to the annotated type of its field.

    Raises:
        ValueError: Naming the field and the rule.
    """
    origin = get_origin(kind)
    inner = get_args(kind)
    if origin is types.UnionType:
        # The field is optional. TOML has no null, so a value is not None.
        return _convert(inner[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(inner[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(inner[1], item, f"{where}.{key}") for key, item in value.items()}
    if is_dataclass(kind) and isinstance(value, dict):
        return _fill(kind, value, where)
    if kind is float and type(value) is int:
        return float(value)
    if origin is Literal:
        valid = value in inner
        choices = ", ".join(map(repr, inner))
        rule = f"one of {choices}"
    else:
        valid = type(value) is kind
        type_name = getattr(kind, "__name__", kind)
        rule = f"of type {type_name}"
    if not valid:
        raise ValueError(f"{where} is {value!r}; it must be {rule}")
    return value


def _fill(kind: Any, table: dict[str, Any], where: str) -> Any:
    """A dataclass with the values of a TOML table."""
    hints = get_type_hints(kind)
    unknown = sorted(set(table) - set(hints))
    if unknown:
        raise ValueError(
            f"{where} has an unknown field {unknown[0]!r}; known are {', '.join(hints)}"
        )
    for field_ in fields(kind):
        required = field_.default is NO_DEFAULT and field_.default_factory is NO_DEFAULT
        if required and field_.name not in table:
            raise ValueError(f"{where} lacks the field {field_.name!r}")
    return kind(
        **{name: _convert(hints[name], value, f"{where}.{name}") for name, value in table.items()}
    )


def _sentinel_policy(card: Card, policy: Policy | None) -> Policy:
    if policy is None:
        return card.sentinel.policy if card.sentinel else "keep"
    policies = get_args(Policy)
    if policy not in policies:
        raise ValueError(
            f"sentinels must be None (the card's) or one of {policies}; got {policy!r}"
        )
    return policy


def _cache_folder(card: Card, cache_dir: StrPath | None) -> Path:
    """The data set's own folder, since files of two data sets may have the same name."""
    if cache_dir is not None:
        return Path(cache_dir) / card.name
    import pooch

    return Path(pooch.os_cache("tsattn")) / card.name


def _look(card: Card, data_dir: StrPath | None, cache: Path) -> Path | None:
    if data_dir is not None:
        if not Path(data_dir).is_dir():
            raise FileNotFoundError(
                f"{str(data_dir)!r} is no folder; name the one with {card.file}"
            )
        path = find_file(card, data_dir)
        if path is not None:
            return path
    return find_file(card, cache)


def _open(card: Card, path: Path, policy: Policy, url: str | None = None) -> Dataset:
    """Check and read one file, which errors name by the address from which it came, if any."""
    packed = path.read_bytes()
    remedy = _by_hand(card)
    if url is None:
        remedy = f"remove it and {remedy}"
    try:
        raw = packed
        if path.suffix.lower() == ".gz":
            raw = gzip.decompress(packed)
        digest = hashlib.sha256(raw).hexdigest()
        if card.sha256:
            if digest != card.sha256.lower():
                raise ValueError(
                    f"its sha256 is {digest} instead of {card.sha256}{_size_hint(card, raw)}"
                )
            remedy = "correct the card, whose sha256 the file has"
        frame = _table(card, raw)
        stamps, times = _stamps(card, frame)
        panel = _panel(card, frame, times, policy)
    except (ValueError, TypeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"{url or path} is not what card {card.name} describes: {one_line(error)}; {remedy}"
        ) from error
    return Dataset(card, panel, card.split, path, stamps, digest)


def _size_hint(card: Card, raw: bytes) -> str:
    """A reason for another checksum, if the line ends or the size show one."""
    first_line = raw.partition(b"\n")[0]
    line_ends = "crlf" if first_line.endswith(b"\r") else "lf"
    if line_ends != card.line_ends:
        return (
            f" (its line ends are {line_ends}, the published file's are {card.line_ends}: a tool"
            " rewrote it)"
        )
    if card.bytes is not None and len(raw) != card.bytes:
        return f" ({len(raw)} bytes instead of {card.bytes})"
    return ""


def _table(card: Card, raw: bytes) -> pd.DataFrame:
    """The rows of the file, with the header, the number of rows and the numbers checked."""
    # The default parser may differ in the last bit; round_trip gives the float nearest to the
    # decimals.
    file = io.BytesIO(raw)
    frame = pd.read_csv(file, encoding="utf-8", float_precision="round_trip", low_memory=False)
    expected = [card.columns.time, *card.columns.target]
    names = [str(name) for name in frame.columns]
    if names != expected:
        example = ""
        for name, expected_name in zip(names, expected, strict=False):
            if name != expected_name:
                example = f", the first odd one {name!r} instead of {expected_name!r}"
                break
        raise ValueError(f"it has {len(names)} columns instead of {len(expected)}{example}")
    if len(frame) != card.rows:
        raise ValueError(f"it has {len(frame)} rows instead of {card.rows}; get the whole file")
    for name in card.columns.target:
        # One cell of text turns a whole column into text; the error names that cell.
        if not pd.api.types.is_numeric_dtype(frame[name]):
            column = frame[name]
            numbers = pd.to_numeric(column, errors="coerce")
            is_text = numbers.isna() & column.notna()
            if is_text.any():
                row = is_text.idxmax()
                raise ValueError(
                    f"column {name!r} holds {column[row]!r} in row {row}, which is no number"
                )
            frame[name] = column.astype(float)  # integers beyond 64 bits
    return frame


def _stamps(card: Card, frame: pd.DataFrame) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """The stamps of the file, and those of the panel."""
    column = frame[card.columns.time].astype(str)
    parsed = pd.to_datetime(column, format="ISO8601", errors="coerce")
    if parsed.isna().any():
        row = parsed.isna().idxmax()
        raise ValueError(
            f"column {card.columns.time!r} holds {column[row]!r} in row {row}, which is no stamp"
            " such as 2020-01-31 00:00:00"
        )
    stamps = pd.DatetimeIndex(parsed, name=None)
    ends = (("first", stamps[0], card.time.first), ("last", stamps[-1], card.time.last))
    for end, stamp, expected in ends:
        if stamp != pd.Timestamp(expected):
            raise ValueError(f"its {end} stamp is {stamp} instead of {expected}")
    if card.time.stamps == "own":
        if not stamps.is_monotonic_increasing:
            raise ValueError("its rows are not in the order of time")
        return stamps, stamps
    first_rows = np.zeros(len(stamps), dtype=int)
    position, exact = locate(stamps, first_rows, parse_freq(card.frequency))
    step = np.diff(position)
    repeats = int((step == 0).sum())
    gaps = int((step > 1).sum())
    odd = int((step < 0).sum()) + int((~exact).sum())
    if (repeats, gaps, odd) != (card.time.repeats, card.time.gaps, 0):
        raise ValueError(
            f"its stamps have {repeats} repeats, {gaps} gaps and {odd} other irregular steps"
            f" instead of {card.time.repeats}, {card.time.gaps} and 0"
        )
    # The stamps of the file are doubtful, so the rows are counted from the first one.
    later = future_times(stamps[:1], card.frequency, len(stamps) - 1)
    times = stamps[:1].append(later)
    return stamps, pd.DatetimeIndex(times)


def _panel(card: Card, frame: pd.DataFrame, times: pd.DatetimeIndex, policy: Policy) -> Panel:
    """The series of the file on the stamps of the panel."""
    table = frame[list(card.columns.target)]
    table = table.set_axis(list(card.columns.channels), axis=1)
    if card.sentinel is not None:
        value = card.sentinel.value
        counts = card.sentinel.counts
        marked = table == value
        marked_counts = marked.sum()
        marked_counts = marked_counts[marked_counts > 0]
        file_counts = {str(name): int(count) for name, count in marked_counts.items()}
        if file_counts != counts:
            raise ValueError(
                f"{value:g} stands in its columns {file_counts} instead of {counts} times"
            )
        if policy != "keep":
            table = table.mask(marked)
    table.insert(0, card.columns.time, times)
    missing = "error" if policy == "keep" else policy
    schema = Schema(time_col=card.columns.time, freq=card.frequency, missing=missing)
    return from_wide(table, schema)


def _download(
    card: Card, url: str, policy: Policy, cache: Path, data_dir: StrPath | None
) -> Dataset:
    import pooch

    part = cache / f".{card.file}.{secrets.token_hex(8)}.part"
    path = cache / card.file
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # The file gets the rights of the umask, since several users may share a cache.
        part.touch(exist_ok=False)
    except OSError as error:
        raise OSError(
            f"cannot write to the cache folder {cache} ({error.strerror}); name another with"
            f" cache_dir, or {_by_hand(card)}"
        ) from error
    try:
        try:
            download = pooch.HTTPDownloader(chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_SECONDS)
            download(url, str(part), None)
        except OSError as error:
            # All errors of the HTTP library are an OSError.
            answer = getattr(error, "response", None)
            cause = error.strerror or type(error).__name__
            if answer is not None:
                cause = f"the server answers {answer.status_code}"
            raise FileNotFoundError(
                f"{_nowhere(card, data_dir, cache)}, and {url} cannot be downloaded ({cause});"
                f" {_by_hand(card)}"
            ) from error
        dataset = _open(card, part, policy, url)
        # Only a complete, checked file gets the real name.
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return replace(dataset, path=path)


def _nowhere(card: Card, data_dir: StrPath | None, cache: Path) -> str:
    folders = str(cache)
    if data_dir is not None:
        folders = f"{os.fspath(data_dir)} or in {folders}"
    return f"neither {card.file} nor {card.file}.gz is in {folders}"


def _by_hand(card: Card) -> str:
    return (
        f"get {card.source.path} from {card.source.url} and put it as {card.file} into the data"
        " folder"
    )
