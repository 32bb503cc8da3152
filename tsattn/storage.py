"""How does state reach the disk whole? Tensors as safetensors, facts as JSON, written aside and then renamed."""

import json
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

_FACTS = "facts"


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    Args:
        path: Where the file shall stand; its folder is made if need be.
        write: Gets the temporary path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _beside(path)
    try:
        write(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary folder, then exchange it for ``path``, whose old files go only then.

    Args:
        path: Where the folder shall stand.
        write: Gets the temporary folder.

    Raises:
        ValueError: If ``path`` exists and is no folder that this function wrote (or an empty one).
    """
    if path.exists() and not (path.is_dir() and (not any(path.iterdir()) or (path / "config.json").is_file())):
        raise ValueError(f"{path} exists and is no saved model; choose another folder or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, old = _beside(path), _beside(path)
    aside.mkdir()
    try:
        write(aside)
        if path.exists():
            path.replace(old)
        aside.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_json(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``facts`` as readable JSON."""
    write_atomic(path, lambda aside: _ignore(aside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")))


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        ValueError: If the file is missing or holds no JSON object.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; name a folder that save() wrote") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} holds no valid JSON ({error}); save the model anew") from None
    if not isinstance(facts, dict):
        raise ValueError(f"{path} must hold a JSON object; got a {type(facts).__name__}; save the model anew")
    return facts


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> None:
    """Write named tensors and a small JSON header into one safetensors file.

    Tensors are copied to the CPU first, so that a file made on any device loads on every machine.
    """
    from safetensors.torch import save_file

    flat = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, lambda aside: save_file(flat, aside, metadata={_FACTS: json.dumps(facts)}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote, on the CPU; no code in the file is run.

    Raises:
        ValueError: If the file is missing, cut short or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = json.loads((file.metadata() or {}).get(_FACTS, "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118  (no mapping)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; name a folder that save() wrote") from None
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); save the model anew") from None


def _beside(path: Path) -> Path:
    # Same folder, so that the rename cannot cross a file system; a random name, so that threads do not meet.
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")


def _ignore(_: object) -> None:
    return None
