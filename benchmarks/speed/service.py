"""The forecast service of docs/serving.md under load: requests a second, waiting times, wrong and
lost requests.

Clients send one request after the other; some requests are wrong. At the end the service is told to
stop while all clients are at work. Every tenth right answer is compared with PretrainedForecaster.
Run: PYTHONPATH=benchmarks python benchmarks/speed/service.py [--file zero.onnx] [--clients 50]
[--seconds 30]
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from records import RESULTS, Record, Records, parse

from tsattn import PretrainedForecaster
from tsattn.adapters.zero_onnx import export_zero_onnx

FILE = "service.jsonl"
KEY = ("clients", "seconds", "finished")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"
_BLOCK = re.compile(r"^```python\n((?:(?!^```).)*?ThreadingHTTPServer.*?)^```$", re.M | re.S)
_HOST = "127.0.0.1"
_PORT_ON_PAGE = "8000"
# Seconds until the service must answer first, and until it must have stopped.
_START_SECONDS = 120
_STOP_SECONDS = 120
# One request in so many is wrong.
_WRONG_EVERY = 10
# One right answer in so many is compared.
_COMPARED_EVERY = 10
_N_COMPARED = 64
# What is wrong, and what the answer must name.
WRONG = (
    (b"[", "JSONDecodeError"),
    (b"{}", "history"),
    (b'{"history": [], "horizon": 4}', "wrong history"),
    (b'{"history": ["a"], "horizon": 4}', "'a'"),
    (b'{"history": [1, 2, 1e999], "horizon": 4}', "wrong history"),
    (b'{"history": [-17e307, 17e307, -17e307], "horizon": 4}', "Out of range float"),
    (b'{"history": [1, 2, 3], "horizon": 0}', "wrong horizon"),
    (b'{"history": [1, 2, 3], "horizon": "4"}', "wrong horizon"),
)


# Status of a service that stops.
_STOPPING = 503


class Stopping(Exception):
    """The service takes no more requests."""


@dataclass
class Tally:
    """What happened to the requests of all clients."""

    waits: list[float] = field(default_factory=list)
    n_wrong: int = 0
    n_misjudged: int = 0
    n_refused: int = 0
    n_lost: int = 0
    answers: list[tuple[bytes, list[Any]]] = field(default_factory=list)


def service_source(port: int) -> str:
    """The service of the page at another port.

    Raises:
        ValueError: If the page has no such service.
    """
    matches = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    if len(matches) != 1 or _PORT_ON_PAGE not in matches[0]:
        raise ValueError(f"{PAGE.name} must show one service at port {_PORT_ON_PAGE}; restore it")
    source: str = matches[0]
    return source.replace(_PORT_ON_PAGE, str(port))


class Service:
    """The service in a process of its own.

    Args:
        folder: Where it finds zero.onnx.
    """

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind((_HOST, 0))
            self.port = int(free.getsockname()[1])
        self.process = subprocess.Popen(
            [sys.executable, "-c", service_source(self.port)],
            cwd=folder,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.ask(WRONG[0][0])
                return
            except ConnectionRefusedError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError("the service did not start; run it by hand") from None
                time.sleep(0.1)

    def ask(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and content of an answer.

        Raises:
            Stopping: If the service takes no more requests.
        """
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=_STOP_SECONDS)
        try:
            connection.request("POST", "/", body)
            response = connection.getresponse()
            if response.status == _STOPPING:
                raise Stopping
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def stop(self) -> int:
        """Tell it to stop, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)


def bodies(seed: int) -> Iterator[tuple[bytes, str | None]]:
    """Requests, and what the answer to a wrong one must name."""
    rng = np.random.default_rng(seed)
    while True:
        if rng.integers(_WRONG_EVERY) == 0:
            yield WRONG[rng.integers(len(WRONG))]
            continue
        n_rows = int(rng.integers(30, 250))
        season = int(rng.choice([7, 12, 24]))
        wave = 10 * np.sin(2 * np.pi * np.arange(n_rows) / season)
        values = 50 + wave + rng.normal(size=n_rows).cumsum()
        history = [None if rng.random() < 0.02 else round(float(value), 2) for value in values]
        history[-1] = 50.0
        request = {"history": history, "horizon": int(rng.integers(1, 49))}
        yield json.dumps(request).encode(), None


def client(service: Service, seed: int, tally: Tally, lock: threading.Lock) -> None:
    """Send requests until the service says that it stops, or is gone."""
    for number, (body, name) in enumerate(bodies(seed)):
        began = time.perf_counter()
        try:
            status, content = service.ask(body)
        except ConnectionRefusedError:
            return
        except Stopping:
            with lock:
                tally.n_refused += 1
            return
        except (OSError, http.client.HTTPException, ValueError):
            with lock:
                tally.n_lost += 1
            return
        seconds = time.perf_counter() - began
        with lock:
            tally.waits.append(seconds)
            if name is None:
                tally.n_misjudged += status != 200
                if number % _COMPARED_EVERY == 0:
                    tally.answers.append((body, content["quantiles"]))
            else:
                tally.n_wrong += 1
                is_named = status == 400 and name in content["error"]
                tally.n_misjudged += not is_named


def difference(forecaster: PretrainedForecaster, answers: list[tuple[bytes, list[Any]]]) -> float:
    """Largest difference of answers to the forecaster's, beside the largest value of each."""
    largest = 0.0
    levels = forecaster.network_.quantile_levels
    for body, quantiles in answers[:_N_COMPARED]:
        request = json.loads(body)
        history = np.array(request["history"], dtype=float)[None, :, None]
        model = PretrainedForecaster(request["horizon"]).with_network(forecaster.network_)
        _, expected = model.predict_windows(history, quantiles=levels)
        gap = np.abs(np.array(quantiles) - expected[0, :, 0]).max()
        largest = max(largest, float(gap / np.abs(expected).max()))
    return largest


def measure(folder: Path, forecaster: PretrainedForecaster, clients: int, seconds: float) -> Record:
    """Load the service that finds zero.onnx in a folder."""
    service = Service(folder)
    tally = Tally()
    lock = threading.Lock()
    threads = [
        threading.Thread(target=client, args=(service, seed, tally, lock))
        for seed in range(clients)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    n_before_stop = len(tally.waits)
    duration = time.perf_counter() - began
    asked_to_stop = time.perf_counter()
    status = service.stop()
    stop_seconds = time.perf_counter() - asked_to_stop
    for thread in threads:
        thread.join()
    waits = np.sort(1000 * np.array(tally.waits))
    median, late = np.quantile(waits, [0.5, 0.99])
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": len(waits),
        "requests_a_second": round(n_before_stop / duration, 1),
        "p50_ms": round(float(median), 1),
        "p99_ms": round(float(late), 1),
        "wrong_requests": tally.n_wrong,
        "misjudged_requests": tally.n_misjudged,
        "answered_after_stop": len(waits) - n_before_stop,
        "refused_after_stop": tally.n_refused,
        "lost_requests": tally.n_lost,
        "exit_status": status,
        "stop_seconds": round(stop_seconds, 1),
        "compared_answers": min(len(tally.answers), _N_COMPARED),
        "largest_difference": difference(forecaster, tally.answers),
        "load_before": round(os.getloadavg()[0], 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and record; 1 if an answer was wrong or a request was lost."""
    defaults = {"file": "", "clients": 50, "seconds": 30.0, "out": str(RESULTS / FILE)}
    options = parse(argv, __doc__, defaults)
    forecaster = PretrainedForecaster(1).fit([0.0])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "zero.onnx"
        if options.file:
            path.symlink_to(Path(options.file).resolve())
        else:
            export_zero_onnx(forecaster, path)
        record = measure(Path(folder), forecaster, options.clients, options.seconds)
    print(json.dumps(record, indent=1))
    Records(Path(options.out), KEY).add(record)
    wrong = record["misjudged_requests"] + record["lost_requests"] + record["exit_status"]
    return 1 if wrong or record["largest_difference"] > 1e-5 else 0


if __name__ == "__main__":
    sys.exit(main())
