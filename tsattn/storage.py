"""Files and folders that are written whole or not at all: safetensors, JSON and JSON Lines.

The content goes into a temporary file or folder in the same place, which is renamed when it is
complete.
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
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

# Key of the JSON header in the metadata of a safetensors file.
_FACTS = "facts"
# Attempts of a writer that other writers disturb.
_MOST_ATTEMPTS = 20
_MOST_REREADS = 100  # of a folder that writers replace all the time
_MOST_CHARACTERS = 300  # of an error in one line
_RANDOM_BYTES = 6  # of the name of a temporary file
# Systems without fcntl have no lock that ends with its process; nothing is cleaned up there.
_HAS_LOCKS = find_spec("fcntl") is not None
# Codes of the errors of a full disk, a full quota and a file at its largest size.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_AnyT = TypeVar("_AnyT")


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file in the folder of ``path``, then rename it to ``path``.

    A symbolic link stays, and the file that it points to is replaced. A device or a FIFO stays as
    well: the content is written into it once it is complete.

    Args:
        path: The file to write; its folder is made if need be.
        write: Called with the temporary path.

    Raises:
        OSError: If the file cannot be written, such as where the disk is full, or links point at
            one another.
    """
    if is_special(path):
        with full_disk_names(path), tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / path.name
            write(temporary)
            with temporary.open("rb") as source, path.open("wb") as device:
                shutil.copyfileobj(source, device)
        return
    target = path.resolve()
    with full_disk_names(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        with _locked_temporary(target, Path.touch) as temporary:
            try:
                write(temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file as :func:`write_atomic` does.

    Args:
        path: The file.
        content: All of it.
    """
    write_atomic(path, lambda temporary: temporary.write_bytes(content))


@contextmanager
def full_disk_names(path: Path) -> Iterator[None]:
    """Let the error of a full disk name ``path``, since the user knows no temporary name."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        reason = os.strerror(error.errno)
        full_error = OSError(
            f"{path} cannot be written: {reason}; make room, or name another place"
        )
        # The attribute alone: with an argument for it, the message would be split in two.
        full_error.errno = error.errno
        raise full_error from None


def is_special(path: Path) -> bool:
    """Whether ``path``, or the target of a link there, exists and is neither file nor folder.

    Raises:
        OSError: If links point at one another, or a folder of the path may not be read.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary folder, then put it in the place of ``path``.

    The old files are removed at the end. If the process is killed, :func:`standing_folder` finds
    all old files or all new ones, and the next writer removes the rest. Several writers of one
    folder take turns, and the files of the last one stay.

    Args:
        path: The folder to write.
        write: Called with the temporary folder.

    Raises:
        ValueError: If ``path`` exists and is neither empty nor a folder that this function wrote.
        OSError: If the files cannot be written, such as where the disk is full.
    """
    check_replaceable(path)
    target = path.resolve()  # a link stays, and the folder that it points to is replaced
    with full_disk_names(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        with _locked_temporary(target, Path.mkdir) as temporary:
            try:
                write(temporary)
                # Listed before the exchange, so that only folders of killed writers are among them.
                abandoned = _set_aside(target)
                replaced = _exchange(temporary, target)
                for folder in (*abandoned, *replaced):
                    _remove_folder(folder, target)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(path: Path) -> None:
    """Refuse a place that :func:`write_folder` does not replace.

    Args:
        path: The folder to write.

    Raises:
        ValueError: If it exists and is neither empty nor a folder that :func:`write_folder` wrote.
    """
    target = path.resolve()
    if not _is_replaceable(target):
        raise ValueError(
            f"{target} exists and is no saved model; choose another folder or remove it first"
        )


def check_writable(folder: Path, name: str) -> None:
    """Refuse a folder in which a writer cannot make its temporary files, by making one.

    Args:
        folder: An existing folder.
        name: What is to be written there.

    Raises:
        OSError: If nothing can be made there.
    """
    with _locked_temporary(folder / name, Path.mkdir) as temporary:
        temporary.rmdir()


def _remove_folder(folder: Path, path: Path) -> None:
    """Remove a folder that made room for ``path``.

    It is renamed first: :func:`standing_folder` must not take what is removed in part for whole.
    """
    doomed = _temporary_path(path)
    # Another writer may have removed it, and a folder of another user stays.
    with suppress(OSError):
        folder.replace(doomed)
        shutil.rmtree(doomed)


def standing_folder(path: Path) -> Path:
    """The folder that holds the files of ``path``.

    It is another folder only where a writer was killed between its two renames.
    """
    if path.exists():
        return path
    folders = _set_aside(path.resolve())
    return max(folders, key=_modified_at) if folders else path


def read_folder(path: Path, read: Callable[[Path], _AnyT]) -> _AnyT:
    """What ``read`` makes of the folder that :func:`write_folder` wrote.

    It reads again where it fails and a writer has replaced or set aside the folder meanwhile, so
    that it sees the files of one writer.

    Args:
        path: The folder.
        read: Called with :func:`standing_folder`.

    Raises:
        ValueError: What ``read`` raises for a folder that stayed.
    """
    for _ in range(_MOST_REREADS):
        folder = standing_folder(path)
        identity = _identity(folder)
        try:
            return read(folder)
        except ValueError:
            # A folder that was only set aside is the same under another name.
            standing = standing_folder(path)
            if standing == folder and _identity(standing) == identity:
                raise
    return read(standing_folder(path))


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from the one that replaces it; ``None`` where there is none.

    A file system may give the number of a removed folder to a new one, so the time counts too.
    """
    try:
        facts = folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return facts.st_ino, facts.st_mtime_ns


def _modified_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except FileNotFoundError:  # its writer has gone on and removed it
        return 0


def _is_replaceable(path: Path) -> bool:
    """Whether there is nothing at ``path``, an empty folder, or a saved model."""
    for _ in range(_MOST_ATTEMPTS):
        try:
            inode = path.stat().st_ino
            names = [entry.name for entry in path.iterdir()]
            is_replaceable = not names or _is_saved_model(path, names)
            # Another inode shows that another writer replaced the folder while it was read.
            if path.stat().st_ino == inode:
                return is_replaceable
        except FileNotFoundError:
            return True
        except NotADirectoryError:
            return False
    return True  # only writers of models replace a folder so often


def _is_saved_model(path: Path, names: list[str]) -> bool:
    """Whether a folder with these entries holds a saved model and nothing else.

    A model may have models inside, each in a folder that its config names.
    """
    if "config.json" not in names:
        return False
    try:
        facts = read_json(path / "config.json")
    except ValueError:
        return False
    allowed = {"config.json", "model.safetensors"}
    inner_models = facts.get("inside")
    if isinstance(inner_models, dict):
        allowed |= inner_models.keys()
    return {"format", "class"} <= facts.keys() and set(names) <= allowed


def _exchange(temporary: Path, path: Path) -> list[Path]:
    """Put ``temporary`` in the place of ``path``, and return the folders that made room for it."""
    replaced = []
    for attempt in range(_MOST_ATTEMPTS):
        old_path = path.with_name(f".{path.name}.old.{secrets.token_hex(_RANDOM_BYTES)}")
        try:
            if path.exists():
                path.replace(old_path)
                replaced.append(old_path)
            temporary.replace(path)
        except OSError:  # another writer put a folder there between the two renames
            if attempt == _MOST_ATTEMPTS - 1:
                raise
        else:
            break
    return replaced


def _set_aside(path: Path) -> list[Path]:
    """Folders that made room for ``path`` and still exist, since their writer was killed."""
    if not path.parent.is_dir():
        return []
    pattern = _random_names(f".{path.name}.old.")
    return [folder for folder in path.parent.iterdir() if pattern.fullmatch(folder.name)]


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` as readable JSON."""
    text = json.dumps(facts, indent=2) + "\n"
    write_bytes(path, text.encode())


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

    The last line may be cut short, as a killed writer leaves it. It does not count then.

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
    """Add an object to a JSON Lines file, unless the file has one with the same ``key``.

    Several processes may add to one file. They take turns by a lock file in its folder, so that
    none of them reads half a line.

    Args:
        path: The file; it and its folder are made if need be.
        row: The object to add.
        key: Fields that tell objects apart.
        again: Whether the object replaces one with the same ``key``.

    Returns:
        The object that the file has now.

    Raises:
        ValueError: If a field of ``key`` is absent, or the file holds anything else than objects.
        OSError: If the file cannot be written, such as where the disk is full.
    """
    from filelock import FileLock

    if absent := sorted(set(key) - set(row)):
        raise ValueError(f"a row of {path.name} needs {', '.join(absent)}; got {sorted(row)}")
    new_row = json.loads(json.dumps(row))

    def is_other(existing: Mapping[str, Any]) -> bool:
        return any(existing.get(name) != new_row[name] for name in key)

    with full_disk_names(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        rows = read_rows(path)
        others = [existing for existing in rows if is_other(existing)]
        same = [existing for existing in rows if not is_other(existing)]
        if same and not again:
            return same[0]
        text = "".join(json.dumps(line) + "\n" for line in (*others, new_row))
        write_bytes(path, text.encode())
    return new_row


def write_tensors(
    path: Path, tensors: "Mapping[str, torch.Tensor]", facts: Mapping[str, Any]
) -> None:
    """Write named tensors and a small JSON header into one safetensors file.

    Tensors are copied to the CPU first, so that every machine can load a file of any device.
    """
    from safetensors.torch import save

    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # Bytes, because a file that the library writes can be read by its owner only, whatever the
    # umask says.
    content = save(copies, metadata={_FACTS: json.dumps(facts)})
    write_bytes(path, content)


def file_digest(path: Path) -> str:
    """Sha256 of a file."""
    return hashlib.sha256(_bytes(path)).hexdigest()


def read_tensors(
    path: Path, *, digest: str | None = None
) -> "tuple[dict[str, torch.Tensor], dict[str, Any]]":
    """Read what :func:`write_tensors` wrote, on the CPU. No code in the file is run.

    Args:
        path: The file. It is read whole at once, so that the tensors cannot change with the file.
        digest: The expected :func:`file_digest`; ``None`` checks none.

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
        # The format: eight bytes with the length of the header, then the header.
        header_length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + header_length])
        metadata = header.get("__metadata__", {})
        facts = json.loads(metadata.get(_FACTS, "{}"))
    except (SafetensorError, ValueError, KeyError, RecursionError, AssertionError) as error:
        raise ValueError(f"{path} is damaged ({one_line(error)}); save the model anew") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path} is damaged (its facts are no JSON object); save the model anew")
    return tensors, facts


def part_of(values: Mapping[str, _AnyT], prefix: str) -> dict[str, _AnyT]:
    """Those whose names begin with a prefix, by the rest of their names.

    Example:
        >>> part_of({"model.bias": 1, "best.bias": 2}, "best.")
        {'bias': 2}
    """
    part = {}
    for name, value in values.items():
        if name.startswith(prefix):
            part[name.removeprefix(prefix)] = value
    return part


def _bytes(path: Path) -> bytes:
    # A FIFO would be waited for, and a device may have no end.
    if is_special(path):
        raise ValueError(
            f"{path} must be a file; got a FIFO, a socket or a device; name the folder of a saved"
            " model"
        )
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} is missing; name the folder of a saved model") from None
    except IsADirectoryError:
        raise ValueError(
            f"{path} must be a file; got a folder; name the folder of a saved model"
        ) from None


def one_line(error: BaseException) -> str:
    """The message of an error in one line of bounded length, without control characters."""
    return printable(str(error))[:_MOST_CHARACTERS] or type(error).__name__


def printable(text: str) -> str:
    """A text in one line; control characters of a table must not reach a terminal."""
    line = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in line)


# --- temporary files ------------------------------------------------------------------------------


@contextmanager
def _locked_temporary(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new temporary file or folder beside ``path``, locked until its writer ends or dies."""
    for _ in range(_MOST_ATTEMPTS):
        temporary = _temporary_path(path)
        make(temporary)
        descriptor = _lock(temporary, wait=True)
        # Another writer may have removed it as an abandoned one before it was locked.
        if temporary.exists():
            break
        _unlock(descriptor)
    try:
        yield temporary
    finally:
        _unlock(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files and folders for ``path`` whose writers were killed.

    A lock ends with its process, so that one that can be had belongs to nobody.
    """
    if not _HAS_LOCKS:
        return
    pattern = _random_names(f".{path.name}.")
    try:
        names = os.listdir(path.parent)
    except PermissionError:  # a folder may be writable without being readable
        return
    for temporary in (path.with_name(name) for name in names if pattern.fullmatch(name)):
        descriptor = _lock(temporary, wait=False)
        if descriptor is None:
            continue
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
        _unlock(descriptor)


def _random_names(start: str) -> re.Pattern[str]:
    """The names that begin so and end with what :func:`secrets.token_hex` draws for them."""
    return re.compile(rf"{re.escape(start)}[0-9a-f]{{{2 * _RANDOM_BYTES}}}")


def _lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock of a file or folder; ``None`` where it cannot be had."""
    if not _HAS_LOCKS or is_special(path):
        return None
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # it has gone, or belongs to somebody else
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another writer has it, or the file system knows no locks
        os.close(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _temporary_path(path: Path) -> Path:
    # The folder is the same, because a rename must not cross file systems. The name is random, so
    # that two threads do not share it.
    return path.with_name(f".{path.name}.{secrets.token_hex(_RANDOM_BYTES)}")
