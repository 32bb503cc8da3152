"""How does state reach the disk whole? Tensors as safetensors, facts as JSON, written aside and
then renamed.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_FACTS = "facts"
_TURNS = 20  # tries of a writer whom others disturb
# A disk, a quota and a file that are full.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    A symbolic link stays, and the file that it points to is exchanged. What is no file, such as a
    device or a FIFO, stays as well: the content is written into it once it is complete.

    Args:
        path: Where the file shall stand; its folder is made if need be.
        write: Gets the temporary path.

    Raises:
        OSError: If the file cannot be written, such as where the disk is full, or links point at
            one another.
    """
    if is_special(path):
        with _room_for(path), tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / path.name
            write(whole)
            with whole.open("rb") as source, path.open("wb") as device:
                shutil.copyfileobj(source, device)
        return
    target = path.resolve()
    aside = _beside(target)
    with _room_for(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(aside)
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def _room_for(path: Path) -> Iterator[None]:
    """Say of a full disk which file it kept from being written; what is half written has no name
    that anybody knows.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        told = OSError(
            f"{path} cannot be written: {os.strerror(error.errno)}; make room, or name another"
            " place"
        )
        told.errno = error.errno
        raise told from None


def is_special(path: Path) -> bool:
    """Whether something stands at ``path`` that is neither file nor folder, behind a symbolic link
    too.

    Raises:
        OSError: If links point at one another, or a folder on the way may not be looked into.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary folder, then exchange it for ``path``, whose old files go only
    then.

    Whatever ends the process, :func:`standing_folder` finds the old files or the new ones, all of
    one kind. Writers that meet take turns, and the last one stands.

    Args:
        path: Where the folder shall stand.
        write: Gets the temporary folder.

    Raises:
        ValueError: If ``path`` exists and is no folder that this function wrote (or an empty one).
        OSError: If the files cannot be written, such as where the disk is full.
    """
    target = path.resolve()  # a link stays, the folder behind it is exchanged
    if not _may_be_exchanged(target):
        raise ValueError(
            f"{target} exists and is no saved model; choose another folder or remove it first"
        )
    aside = _beside(target)
    with _room_for(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        try:
            write(aside)
            for left in (*_set_aside(target), *_exchange(aside, target)):
                shutil.rmtree(left, ignore_errors=True)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def standing_folder(path: Path) -> Path:
    """Where the files of ``path`` are: there, or set aside by a writer that was killed between its
    two renames.
    """
    if path.exists():
        return path
    left = _set_aside(path.resolve())
    return max(left, key=_written) if left else path


def _written(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:  # its writer has gone on and cleared it
        return 0


def _may_be_exchanged(path: Path) -> bool:
    """Whether there is nothing at ``path``, an empty folder, or one that was written here."""
    for _ in range(_TURNS):
        try:
            seen = path.stat().st_ino
            names = [entry.name for entry in path.iterdir()]
            ours = not names or _is_ours(path, names)
            # What another writer moves away or clears while it is being listed or read tells
            # nothing.
            if path.stat().st_ino == seen:
                return ours
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            return False
    return True  # so many exchanges in a row are the work of other writers


def _is_ours(path: Path, names: list[str]) -> bool:
    """Whether a folder with these entries holds a saved model, perhaps with others inside of it,
    and nothing else.
    """
    try:
        facts = read_json(path / "config.json") if "config.json" in names else {}
    except ValueError:
        return False
    inside = facts.get("inside")
    known = {"config.json", "model.safetensors", *(inside if isinstance(inside, dict) else ())}
    return {"format", "class"} <= facts.keys() and {*names} <= known


def _exchange(aside: Path, path: Path) -> list[Path]:
    """Put ``aside`` in the place of ``path``; the folders that stood there come back."""
    moved = []
    for attempt in range(_TURNS):
        old = path.with_name(f".{path.name}.old.{secrets.token_hex(6)}")
        try:
            if path.exists():
                path.replace(old)
                moved.append(old)
            aside.replace(path)
        except OSError:  # another writer was here in between
            if attempt == _TURNS - 1:
                raise
        else:
            break
    return moved


def _set_aside(path: Path) -> list[Path]:
    """Folders that made room for ``path`` and were not removed, since their writer was killed."""
    if not path.parent.is_dir():
        return []
    form = re.compile(re.escape(f".{path.name}.old.") + "[0-9a-f]{12}")
    return [each for each in path.parent.iterdir() if form.fullmatch(each.name)]


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` as readable JSON."""
    write_atomic(
        path, lambda aside: aside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        ValueError: If the file is missing or holds no JSON object.
    """
    content = _bytes(path)
    try:
        facts = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no valid JSON ({one_line(error)}); save the model anew"
        ) from None
    if not isinstance(facts, dict):
        raise ValueError(
            f"{path} must hold a JSON object; got a {type(facts).__name__}; save the model anew"
        )
    return facts


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file in order; none where there is no file.

    A last line that is cut short, as a killed writer leaves it, does not count.

    Raises:
        ValueError: If another line is no JSON object.
    """
    try:
        *lines, last = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is no text of JSON objects; name another file") from None
    rows = [_row(line) for line in lines]
    for number, row in enumerate(rows, start=1):
        if row is None:
            raise ValueError(f"{path.name}, line {number} is no JSON object; remove the line")
    return [row for row in (*rows, _row(last)) if row is not None]


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def add_row(
    path: Path, row: Mapping[str, Any], key: Collection[str], *, again: bool = False
) -> dict[str, Any]:
    """Add an object to a JSON Lines file, unless one with the same ``key`` stands there.

    Several processes may add to one file: they take turns by a lock beside it, and none sees half a
    line.

    Args:
        path: The file; it and its folder are made if need be.
        row: What to add.
        key: Fields that tell objects apart.
        again: Put it in the place of the one that stands there.

    Returns:
        What stands there now.

    Raises:
        ValueError: If a field of ``key`` is absent, or the file holds anything else than objects.
        OSError: If the file cannot be written, such as where the disk is full.
    """
    from filelock import FileLock

    if absent := sorted(set(key) - set(row)):
        raise ValueError(f"a row of {path.name} needs {', '.join(absent)}; got {sorted(row)}")
    added = json.loads(json.dumps(row))

    def is_other(known: Mapping[str, Any]) -> bool:
        return any(known.get(name) != added[name] for name in key)

    with _room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        rows = read_rows(path)
        same = [known for known in rows if not is_other(known)]
        if same and not again:
            return same[0]
        text = "".join(json.dumps(each) + "\n" for each in (*filter(is_other, rows), added))
        write_atomic(path, lambda aside: aside.write_text(text, encoding="utf-8"))
    return added


def write_tensors(
    path: Path, tensors: "Mapping[str, torch.Tensor]", facts: Mapping[str, Any]
) -> None:
    """Write named tensors and a small JSON header into one safetensors file.

    Tensors are copied to the CPU first, so that a file made on any device loads on every machine.
    """
    from safetensors.torch import save

    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # As bytes: the library's own file could be read by its owner only, whatever the umask says.
    content = save(flat, metadata={_FACTS: json.dumps(facts)})
    write_atomic(path, lambda aside: aside.write_bytes(content))


def file_digest(path: Path) -> str:
    """Sha256 of a file."""
    return hashlib.sha256(_bytes(path)).hexdigest()


def read_tensors(
    path: Path, *, digest: str | None = None
) -> "tuple[dict[str, torch.Tensor], dict[str, Any]]":
    """Read what :func:`write_tensors` wrote, on the CPU; no code in the file is run.

    Args:
        path: The file. It is read whole at once, so that nothing can change under the tensors.
        digest: Its :func:`file_digest`, if that is known.

    Raises:
        ValueError: If the file is missing, cut short, changed or no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = _bytes(path)
    if digest is not None and hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(
            f"{path} is damaged (it is not the file that its config.json names); save the model"
            " anew"
        )
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = json.loads(header.get("__metadata__", {}).get(_FACTS, "{}"))
    except (SafetensorError, ValueError, KeyError, RecursionError, AssertionError) as error:
        raise ValueError(f"{path} is damaged ({one_line(error)}); save the model anew") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is damaged (its facts are no JSON object); save the model anew")
    return tensors, facts


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} is missing; name a folder that save() wrote") from None
    except IsADirectoryError:
        raise ValueError(
            f"{path} must be a file; got a folder; name a folder that save() wrote"
        ) from None


def one_line(error: BaseException) -> str:
    """What an error says, in one line of bounded length and without control characters."""
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in text)[:300] or type(error).__name__


def _beside(path: Path) -> Path:
    # Same folder, so that the rename cannot cross a file system; a random name, so that threads do
    # not meet.
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")
