"""A check that the package works without a checkout: builds wheel and sdist, checks, installs,
imports, lists cards.

Run as a script by ``make wheel``. Everything happens in a temporary folder; the network is not
needed. The wheel is installed without its dependencies into an environment that borrows them from
the running one.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]

# What setuptools is asked for, in the way that every installer asks.
_BUILD = "import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"

# Run by the new environment, isolated, in a folder without sources: argv is where tsattn must lie,
# then the cards.
_LOOK = """
import importlib, importlib.metadata, importlib.util, pkgutil, sys
from pathlib import Path
import tsattn
home = Path(tsattn.__file__).resolve().parent
assert home.is_relative_to(Path(sys.argv[1]).resolve()), f"tsattn was imported from {home}"
names = [name for _, name, _ in pkgutil.walk_packages([str(home)], "tsattn.")]
for name in names:
    module = importlib.import_module(name)
    places = [module.__file__] if module.__file__ else list(module.__path__)
    assert all(Path(place).resolve().is_relative_to(home) for place in places), f"{name} was imported from {places}"
for name in tsattn.__all__:
    assert getattr(tsattn, name) is not None, name
from tsattn.data.cards import list_cards, read_card
cards = [read_card(name).name for name in list_cards()]
assert cards == sys.argv[2:], f"the installed cards are {cards}, those of the checkout are {sys.argv[2:]}"
assert (home / "py.typed").is_file(), "py.typed is missing: type checkers would ignore the annotations"
assert tsattn.__version__ == importlib.metadata.version("tsattn")
spec = importlib.util.find_spec("datasets")
places = [] if spec is None else list(spec.submodule_search_locations or [])
assert not any(Path(p).resolve().is_relative_to(home.parent / "datasets") for p in places), "datasets is importable"
print(len(names))
"""


# Where the pretrained forecaster's weights and their card are, and how large they may be together.
_WEIGHTS = "tsattn/pretrained/weights"
_MOST_BYTES = 5_000_000

# A forecast without training, to be compared between two installations.
_FORECAST = """
import json, numpy as np, tsattn
y = np.sin(np.arange(300) * np.pi / 12) * 3 + np.random.default_rng(0).normal(0, 0.3, 300)
print(json.dumps(tsattn.forecast(y, 24, level=80).to_numpy().tolist()))
"""


class CheckFailed(Exception):
    """Something that is shipped is missing or broken; the message says what."""


def run(*command: str | Path, cwd: Path) -> str:
    """Output of a command that must succeed, without what the environment would tell Python."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))
    }
    env |= {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )
    if done.returncode != 0:
        output = f"{done.stdout}{done.stderr}".strip()
        reason = output.splitlines()[-1] if output else f"exit status {done.returncode}"
        raise CheckFailed(f"{Path(command[0]).name} failed: {reason}\n\n{output}")
    return done.stdout.strip()


def copy_sources(target: Path) -> None:
    """What a clone would hold, so that nothing is built in the checkout; new files count before
    they are committed.
    """
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        leave = shutil.ignore_patterns(
            ".*", "build", "dist", "*.egg-info", "__pycache__", "_build", "demo"
        )
        shutil.copytree(ROOT, target, ignore=leave)
        return
    listed = run(git, "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in sorted(filter(None, listed.split("\0"))):
        source = ROOT / name
        if source.is_file():  # a file that was removed is still listed until it is committed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)


def build(kind: str, sources: Path, target: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` of the sources; its path."""
    target.mkdir()
    run(sys.executable, "-c", _BUILD.format(kind=kind), target, cwd=sources)
    (made,) = target.iterdir()
    return made


def contents(archive: Path) -> set[str]:
    """Names of the files in a wheel or an sdist, those of an sdist below its one folder."""
    if archive.suffix == ".whl":
        return {name for name in zipfile.ZipFile(archive).namelist() if not name.endswith("/")}
    with tarfile.open(archive) as opened:
        return {member.name.partition("/")[2] for member in opened.getmembers() if member.isfile()}


def check_contents(sources: Path, wheel: set[str], sdist: set[str]) -> None:
    """Every source and card is in both, and the wheel holds nothing beside the package."""
    code = {str(path.relative_to(sources)) for path in (sources / "tsattn").rglob("*.py")}
    code |= {"tsattn/py.typed"}
    # The page of a forecast is made of a frame.
    code |= {str(path.relative_to(sources)) for path in (sources / "tsattn").glob("*.html")}
    code |= {str(path.relative_to(sources)) for path in sources.glob(f"{_WEIGHTS}/*")}
    cards = {str(path.relative_to(sources)) for path in (sources / "datasets").glob("*.toml")}
    samples = {
        str(path.relative_to(sources)) for path in (sources / "datasets").glob("samples/*.csv")
    }
    data = cards | samples
    installed = code | {f"tsattn/_datasets/{Path(name).relative_to('datasets')}" for name in data}
    expected = {
        "wheel": (wheel, installed),
        "sdist": (sdist, code | data | {"LICENSE", "README.md", "pyproject.toml"}),
    }
    for kind, (there, needed) in expected.items():
        if missing := sorted(needed - there):
            raise CheckFailed(
                f"the {kind} lacks {', '.join(missing)}; see [tool.setuptools] in pyproject.toml"
            )
    if stray := sorted(name for name in wheel - installed if ".dist-info/" not in name):
        raise CheckFailed(
            f"the wheel also holds {', '.join(stray)}; see [tool.setuptools] in pyproject.toml"
        )
    if not cards:
        raise CheckFailed("there is no card in datasets/")


def check_weights(sources: Path, here: str, installed: str) -> None:
    """The weights are small, and what is installed forecasts what the checkout
    forecasts, to 1e-6.
    """
    size = sum(path.stat().st_size for path in sources.glob(f"{_WEIGHTS}/*"))
    if not 0 < size <= _MOST_BYTES:
        raise CheckFailed(f"weights and card must be at most {_MOST_BYTES} bytes; got {size}")
    pairs = zip(*(np.ravel(json.loads(each)) for each in (here, installed)), strict=True)
    if (gap := max(abs(a - b) for a, b in pairs)) > 1e-6:
        raise CheckFailed(
            f"the installed wheel forecasts other numbers than the checkout, by up to {gap}"
        )


def check_metadata(*archives: Path) -> None:
    """What a package index reads of wheel and sdist is whole: twine's check, its warnings counted
    as errors.
    """
    run(sys.executable, "-m", "twine", "check", "--strict", *archives, cwd=archives[0].parent)


def new_environment(folder: Path) -> Path:
    """Make an environment that borrows the installed packages of the running one; its Python.

    A plain path in a .pth file is searched last, and .pth files in it are not read: the editable
    tsattn of the running environment stays unknown.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (Path(site) / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    hidden = subprocess.run([python, "-I", "-c", "import tsattn"], cwd=folder, capture_output=True)
    if hidden.returncode == 0:
        raise CheckFailed(
            "tsattn can be imported before it is installed: the check would prove nothing"
        )
    return python


def check(folder: Path) -> str:
    """Build, look inside, install and try; one line that sums it up."""
    sources = folder / "sources"
    copy_sources(sources)
    sdist = build("sdist", sources, folder / "sdist")
    with tarfile.open(sdist) as opened:
        opened.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    # Of the sdist, as an installer builds it where no wheel suits.
    wheel = build("wheel", unpacked, folder / "wheel")
    check_contents(sources, contents(wheel), contents(sdist))
    check_metadata(sdist, wheel)

    python = new_environment(folder / "environment")
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    cards = sorted(path.stem for path in (sources / "datasets").glob("*.toml"))
    looked = run(
        python, "-I", "-c", _LOOK + _FORECAST, folder / "environment", *cards, cwd=elsewhere
    )
    n_modules, installed = looked.splitlines()
    run(python.parent / "tsattn", "datasets", "list", cwd=elsewhere)
    check_weights(sources, run(sys.executable, "-I", "-c", _FORECAST, cwd=elsewhere), installed)
    if left := sorted(path.name for path in elsewhere.iterdir()):
        raise CheckFailed(f"importing tsattn leaves files behind: {', '.join(left)}")
    return f"{wheel.name} and {sdist.name}: {n_modules} modules imported, {len(cards)} cards listed"


def main() -> int:
    """Check in a temporary folder; 0 when all is well, else 1 with the reason on stderr."""
    with tempfile.TemporaryDirectory(prefix="tsattn-wheel-") as name:
        try:
            line = check(Path(name))
        except CheckFailed as error:
            sys.stderr.write(f"check_wheel: {error}\n")
            return 1
    sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
