"""Weights of the pretrained network: reading shipped and saved files, and writing them.

A set of weights is two files: ``<name>.safetensors`` and its card ``<name>.json``, which names the
network's settings, the digest of the tensors, and how they came about.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import torch

from tsattn.pretrained.network import ZeroConfig, ZeroNetwork

SHIPPED = "zero-5h"
LICENCE = "Apache-2.0"
# Facts of a card that the network itself does not hold.
FACTS = ("steps", "windows", "core_hours", "commit", "scores", "learnt_from", "bad_at")

_FORMAT = 1
# Remedies for damaged files.
_REINSTALL = "reinstall tsattn: pip install --force-reinstall tsattn"
_SAVE_AGAIN = "save the network anew"
# Errors that a file of other settings or tensors raises.
_DAMAGES = (LookupError, TypeError, ValueError, RuntimeError, AttributeError)


@lru_cache(maxsize=4)
def load_network(name: str = SHIPPED) -> ZeroNetwork:
    """Load the network with the weights that are shipped under a name.

    It is read once in a process, and shared.

    Args:
        name: Name of shipped weights.

    Returns:
        The network in evaluation mode on the CPU, its weights without gradients. Whoever wants to
        change it takes a copy.

    Raises:
        ValueError: If no such weights are shipped, or a file is missing or is not the one that was
            shipped.
    """
    folder = _shipped()
    names = set()
    for file in folder.iterdir():
        stem, _, _ = file.name.rpartition(".")
        # A file without an ending, or a hidden one, is no part of a set of weights.
        if stem:
            names.add(stem)
    if name not in names:
        shipped_names = ", ".join(sorted(names))
        raise ValueError(
            f"no weights are shipped under the name {name!r}; there are {shipped_names};"
            f" a path, such as './{name}', names others"
        )
    return _read(folder, name, _REINSTALL)


def read_network(path: str | Path) -> ZeroNetwork:
    """Read the network that :func:`save_network` wrote, anew at each call.

    Args:
        path: The file of tensors, whose card stands beside it, or a folder that holds one set of
            weights.

    Returns:
        As :func:`load_network`.

    Raises:
        ValueError: If a file is missing or damaged, or the folder holds no set of weights or
            several.
    """
    path = Path(path)
    if path.is_dir():
        names = sorted(file.stem for file in path.glob("*.safetensors"))
        if len(names) != 1:
            raise ValueError(
                f"{path} must hold one set of weights, NAME.safetensors and NAME.json; got {names};"
                " name the file"
            )
        return _read(path, names[0], _SAVE_AGAIN)
    name = path.name.removesuffix(".safetensors")
    return _read(path.parent, name, _SAVE_AGAIN)


def load_card(name: str = SHIPPED) -> dict[str, Any]:
    """Load the card of shipped weights.

    It holds settings of the network, training, scores, what it is bad at, and the licence.

    Args:
        name: Name of shipped weights.

    Raises:
        ValueError: If no such weights are shipped, or the card is missing or damaged.
    """
    return _read_card(_shipped(), name, _REINSTALL)


def save_network(
    network: ZeroNetwork, folder: str | Path, name: str, facts: Mapping[str, Any]
) -> None:
    """Write ``<name>.safetensors`` and ``<name>.json`` into a folder, each whole or not at all.

    The card is written last and names the digest of the tensors, so whatever ends the process in
    between, a reader finds a pair that belongs together, or refuses it.

    Args:
        network: Its weights are written in float32.
        folder: Made if need be.
        name: Such as ``"zero-5h"``.
        facts: Facts of the card in values that JSON can hold, all of :data:`FACTS` among them.

    Raises:
        ValueError: If a fact is missing, or a weight is not finite.
    """
    from tsattn.storage import file_digest, write_json, write_tensors

    missing = [fact for fact in FACTS if fact not in facts]
    if missing:
        names = ", ".join(FACTS)
        raise ValueError(f"a card must tell {names}; got none of {missing}; add them to facts=")
    tensors = {}
    for key, parameter in network.state_dict().items():
        tensor = parameter.detach().float()
        is_finite = torch.isfinite(tensor).all()
        if not is_finite:
            raise ValueError(
                f"weights must be finite; got NaN or inf in {key!r}; do not keep this training"
            )
        tensors[key] = tensor
    path = Path(folder) / f"{name}.safetensors"
    settings = network.config.to_dict()
    write_tensors(path, tensors, {"network": settings})
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    card = {
        "format": _FORMAT,
        "name": name,
        "licence": LICENCE,
        "parameters": n_parameters,
        "network": settings,
        "sha256": file_digest(path),
        **facts,
    }
    write_json(path.with_suffix(".json"), card)


def build_network(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> ZeroNetwork:
    """Build a network from its settings and weights, which is not to be changed.

    Args:
        settings: As ``network.config.to_dict()``.
        tensors: As ``network.state_dict()``.

    Raises:
        ValueError: If they do not fit one another; also TypeError, LookupError or RuntimeError for
            settings that are none.
    """
    from tsattn.limits import IN_SINGLE, plain_torch

    config = ZeroConfig.from_dict(dict(settings))
    # Checked first, so that wrong settings cannot ask for more memory than the file has weights.
    n_weights = sum(tensor.numel() for tensor in tensors.values())
    if config.n_block_weights > n_weights:
        raise ValueError(
            f"the settings describe at least {config.n_block_weights} weights; got {n_weights}"
        )
    # Weights are drawn before they are replaced; the caller's random state stays as it was.
    with torch.random.fork_rng(devices=[]), IN_SINGLE, plain_torch():
        network = ZeroNetwork(config)
    network.load_state_dict(dict(tensors))
    return network.eval().requires_grad_(False)


def _shipped() -> Traversable:
    """The folder of shipped weights."""
    return files("tsattn.pretrained") / "weights"


def _read(folder: Traversable, name: str, remedy: str) -> ZeroNetwork:
    """Read a network whose tensors are those that its card names."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    card = _read_card(folder, name, remedy)
    file = folder / f"{name}.safetensors"
    content = _bytes(file, remedy)
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.get("sha256"):
        raise ValueError(
            f"{file} is damaged: its sha256 must be the one that {name}.json names, and changed"
            f" weights are not used; {remedy}"
        )
    try:
        # The settings stand among the tensors too, so that the digest holds for them as well.
        settings = _settings(content)
        if settings != card["network"]:
            raise ValueError("the settings are not those that the weights were written with")
        tensors = load(content)
        return build_network(settings, tensors)
    except (*_DAMAGES, SafetensorError) as error:
        from tsattn.storage import one_line

        reason = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(
            f"{file} does not fit the network that {name}.json describes ({reason}); {remedy}"
        ) from None


def _settings(content: bytes) -> dict[str, Any]:
    """Settings of the network in the header of a file of tensors.

    The first eight bytes of such a file are the length of the header, which is JSON.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    # The facts are a text of JSON inside of the header.
    facts = json.loads(header["__metadata__"]["facts"])
    return facts["network"]


def _read_card(folder: Traversable, name: str, remedy: str) -> dict[str, Any]:
    """Read a card of the present format."""
    file = folder / f"{name}.json"
    try:
        text = _bytes(file, remedy).decode("utf-8")
        card = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        from tsattn.storage import one_line

        raise ValueError(f"{file} holds no valid JSON ({one_line(error)}); {remedy}") from None
    is_current = isinstance(card, dict) and card.get("format") == _FORMAT
    if not is_current:
        raise ValueError(
            f"{file} must be a card of format {_FORMAT}; got another one; {remedy}, or upgrade it"
        )
    return card


def _bytes(file: Traversable, remedy: str) -> bytes:
    """Read a file that must be there."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{file} is missing, and there is no forecast without weights; {remedy}"
        ) from None
