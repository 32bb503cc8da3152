"""Loads the scripts of benchmarks/, which are no package, and speaks to the pictures of their pages."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
# Scripts in a folder of benchmarks/ are found as the Makefile's PYTHONPATH finds them, behind what is installed.
sys.path.append(str(ROOT / "benchmarks"))
# What every record says of the run behind it.
ORIGIN = {"commit": "c" * 40, "versions": {"torch": "2"}, "machine": "one", "finished": "now"}


def load(name: str) -> ModuleType:
    """Import ``benchmarks/<name>.py`` anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    # Data classes look their module up.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Pictures:
    """The pictures of one page: which are ``outdated`` in a folder for these rows, and ``update`` draws them there."""

    def __init__(self, page):
        self.page = page

    def outdated(self, folder, rows):
        return self.page.drawings.outdated(folder, self.page.PICTURES, rows)

    def update(self, folder, rows):
        self.page.drawings.update(folder, self.page.PICTURES, rows)
