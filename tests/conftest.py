"""What every test may count on: one torch thread, no network, real data by flag, one table of
tolerances.
"""

import gc
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

# The scripts of benchmarks/ are no package; tests find them as the Makefile does, behind what is
# installed.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

# comparison -> (relative, absolute); loosening one is a change of its own, with the reason in the
# test
TOL = {
    "float64": (1e-10, 1e-12),
    "float32": (1e-4, 1e-5),
    "metric": (1e-12, 0.0),
    "golden": (1e-6, 0.0),
}


def pytest_addoption(parser):
    parser.addoption(
        "--data-dir", default=None, help="folder with the real data sets (ETTh1.csv, ...)"
    )
    parser.addoption(
        "--pack", default=None, help="folder of the zero-shot pack (tasks.json, score.py, ...)"
    )


def pytest_collection_finish():
    """Keep what is loaded by now, which stays to the end, out of each later search for garbage:
    over a million objects, such a search takes a second. And search more seldom: with Python's 700
    new objects in between, the searches take a twentieth of the time of the tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(scope="session")
def data_dir(request):
    """The folder of real data; a test that needs it is skipped only when none was named."""
    given = request.config.getoption("--data-dir")
    if given is None:
        pytest.skip("needs the real data: name its folder with --data-dir")
    folder = Path(given)
    assert folder.is_dir(), f"--data-dir {given} is no folder"
    return folder


@pytest.fixture(scope="session")
def pack_dir(request):
    """The folder of the zero-shot pack; a test that needs it is skipped only when none
    was named.
    """
    given = request.config.getoption("--pack")
    if given is None:
        pytest.skip("needs the zero-shot pack: name its folder, shared/zero_shot, with --pack")
    folder = Path(given)
    assert folder.is_dir(), f"--pack {given} is no folder"
    return folder


@pytest.fixture
def run(capsys):
    """A command line: its exit code, and what it wrote to stdout and stderr."""
    from tsattn import cli

    def call(*argv):
        capsys.readouterr()
        code = cli.main([str(each) for each in argv])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, request):
    """Only the loopback range may be reached; a download in a test would be a hidden dependency."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def guarded(self, address):
        host = address[0] if isinstance(address, tuple) else "localhost"
        if host not in {"localhost", "127.0.0.1", "::1"}:
            raise OSError(f"the tests may not reach {host}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def assert_close(actual, expected, kind="float64"):
    """Compare arrays or tensors by the table above and print three errors when they differ."""
    rtol, atol = TOL[kind]
    a = np.asarray(
        actual.detach() if isinstance(actual, torch.Tensor) else actual, dtype=np.float64
    )
    e = np.asarray(
        expected.detach() if isinstance(expected, torch.Tensor) else expected, dtype=np.float64
    )
    assert a.shape == e.shape, f"shapes differ: {a.shape} and {e.shape}"
    if np.allclose(a, e, rtol=rtol, atol=atol, equal_nan=True):
        return
    gap = np.abs(a - e)
    relative = gap / np.maximum(np.abs(e), 1e-300)
    rms = np.sqrt(np.nanmean(gap**2) / max(np.nanmean(e**2), 1e-300))
    raise AssertionError(
        f"{kind}: largest absolute {np.nanmax(gap):.3e}, relative {np.nanmax(relative):.3e},"
        f" relative RMS {rms:.3e}"
    )


@pytest.fixture(name="assert_close")
def _assert_close():
    return assert_close
