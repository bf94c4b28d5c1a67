"""Latency and rate of the endpoint beside a stock kserve.Model and the bare call, alternating in one run, medians of rounds.

    python tests/bench/serve.py [--ids 20000] [--rounds 5] [--requests 200] [--rows 1,32,256]

One DCN-v2 of 26 hashed strings and 13 floats, exported once. `in-process` is `Bundle.predict` on ready arrays: the roofline. `stock`
is a kserve.ModelServer whose model turns V1 JSON into columns and calls the same SavedModel; all else is ours. One client, closed
loop, keep-alive, bodies made beforehand: what is compared is what a request costs, not what a queue does. `cpu ms` is processor
time of the answering process for a request: on a machine that others use it is the column to believe.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import grpc
import numpy as np
import orjson

from clickmill import bundle as bundles
from clickmill import contract as contracts
from clickmill.bundle import export, golden
from clickmill.bundle.graph import ClickGraph
from clickmill.contract import ContractField, FeatureContract, Hash, Role, Standardize
from clickmill.features import Encoder, FeatureSpace, Moments, tensors
from clickmill.models import build
from serving.client import tensor_body
from serving.kserve_parts import pb, pb_grpc
from serving.process import running_server
from tests.serving.small_bundle import complete

FIELDS, NUMERICS = 26, 13
NAME = "bench"

STOCK = """
import json, sys
options = json.loads(sys.argv[1])
sys.argv = sys.argv[:1]
import kserve, numpy as np, tensorflow as tf

class Stock(kserve.Model):
    def load(self):
        self.graph = tf.saved_model.load(options["path"] + "/model/1").signatures["serving_default"]
        self.ready = True

    def predict(self, payload, headers=None):
        rows = payload["instances"]
        columns = {name: tf.constant([row[name] for row in rows]) for name in rows[0]}
        answers = self.graph(**columns)
        pairs = zip(answers["pctr"].numpy().tolist(), answers["logit"].numpy().tolist())
        return {"predictions": [{"pctr": p, "logit": z} for p, z in pairs]}

model = Stock("bench")
model.load()
kserve.ModelServer(http_port=options["http_port"], enable_grpc=False).start([model])
"""


def write_bundle(folder: Path, ids: int) -> Path:
    """A bundle of an untrained DCN-v2: its arithmetic is that of a trained one."""
    import tensorflow as tf

    fields = {
        f"c{i:02d}": ContractField(role=Role.AD, dtype="string", encoding=Hash(buckets=ids))
        for i in range(FIELDS)
    } | {
        f"n{i:02d}": ContractField(role=Role.AD, dtype="float32", encoding=Standardize())
        for i in range(NUMERICS)
    }
    contract = FeatureContract(name=NAME, fields=fields)
    space = FeatureSpace(contract, moments={f"n{i:02d}": Moments(0.0, 1.0) for i in range(NUMERICS)})
    model, encoder = build("dcn_v2", space), Encoder(space)
    module = tf.Module()
    module.encoder, module.weights = encoder, [variable.value for variable in model.variables]
    saved = folder / "model" / "1"
    saved.parent.mkdir(parents=True)
    by_rows = (lambda raw: model(encoder(raw), training=False), tensors.signature(contract))
    export.save(module, {export.SIGNATURE: by_rows}, lambda logit: logit, contract, saved)
    (folder / "contract.yaml").write_text(contracts.dumps(contract))
    raw = raw_rows(64)
    golden.write(folder, raw, ["real"] * 64, contract, ClickGraph(saved))
    complete(folder, contract)
    return folder


def raw_rows(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    raw: dict[str, np.ndarray] = {}
    for i in range(FIELDS):
        raw[f"c{i:02d}"] = np.array([b"%08x" % v for v in rng.integers(0, 2**32, n)], object)
    for i in range(NUMERICS):
        raw[f"n{i:02d}"] = rng.standard_normal(n, dtype=np.float32)
    return raw


class Http:
    """One keep-alive connection that sends a whole request at once and reads a whole answer."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = host

    def ask(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\n{lines}content-length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(1 << 16)
        head_bytes, _, rest = data.partition(b"\r\n\r\n")
        if not head_bytes.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(data[:500])
        length = next(
            int(line.split(b":")[1])
            for line in head_bytes.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        while len(rest) < length:
            rest += self._socket.recv(1 << 16)
        return rest


def cases(endpoint: Any, stock: Any, bundle: Any, n: int) -> dict[str, Callable[[], float]]:
    """Functions that send one request of n rows and give the first logit."""
    raw = raw_rows(n)
    rows = [
        {
            name: values[i].decode() if values.dtype == object else float(values[i])
            for name, values in raw.items()
        }
        for i in range(n)
    ]
    v1 = orjson.dumps({"instances": rows})
    json_headers = {"content-type": "application/json"}
    binary, binary_headers = tensor_body(raw, binary=True)
    request = pb.ModelInferRequest(model_name=NAME)
    for name, values in raw.items():
        datatype = "BYTES" if values.dtype == object else "FP32"
        request.inputs.add(name=name, datatype=datatype, shape=[n])
        text = (
            b"".join(len(v).to_bytes(4, "little") + v for v in values)
            if datatype == "BYTES"
            else values.tobytes()
        )
        request.raw_input_contents.append(text)
    ours, other = Http(endpoint.url), Http(stock.url)
    stub = pb_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(endpoint.grpc_target))
    predict, infer = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"

    def first(answer: bytes) -> float:
        return float(orjson.loads(answer)["predictions"][0]["logit"])

    return {
        "in-process": lambda: float(bundle.predict(raw)["logit"][0]),
        "ours V1 JSON": lambda: first(ours.ask(predict, v1, json_headers)),
        "ours V2 binary": lambda: float(
            np.frombuffer(ours.ask(infer, binary, binary_headers)[-4 * n :], np.float32)[0]
        ),
        "ours V2 gRPC": lambda: float(
            np.frombuffer(stub.ModelInfer(request).raw_output_contents[1], np.float32)[0]
        ),
        "stock V1 JSON": lambda: first(other.ask(predict, v1, json_headers)),
    }


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads a process has now (Linux: nanoseconds in schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def measure(call: Callable[[], float], requests: int, pid: int) -> tuple[float, ...]:
    """Requests a second, p50, p99 and processor time of the process a request, the latter three in ms."""
    times = np.empty(requests)
    before = cpu_seconds(pid)
    for i in range(requests):
        start = time.perf_counter()
        call()
        times[i] = time.perf_counter() - start
    cpu = (cpu_seconds(pid) - before) / requests * 1e3
    p50, p99 = np.quantile(times, [0.5, 0.99]) * 1e3
    return float(1 / times.mean()), float(p50), float(p99), cpu


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, default=20_000, help="rows of each of the 26 hashed fields")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=200, help="requests of each kind in a round")
    parser.add_argument("--rows", default="1,32,256", help="candidates in a request, by commas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temp:
        path = write_bundle(Path(temp) / NAME, options.ids)
        bundle = bundles.load(path, in_caller_thread=True)
        with (
            running_server(path, model_name=NAME) as endpoint,
            running_server(path, model_name=NAME, python=STOCK) as stock,
        ):
            print(
                f"{'rows':>5} {'':16} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'rows/s':>10} {'cpu ms':>8}"
            )
            pids = {"ours": endpoint.process.pid, "stock": stock.process.pid, "in-process": os.getpid()}
            for n in map(int, options.rows.split(",")):
                report(cases(endpoint, stock, bundle, n), n, options.rounds, options.requests, pids)


def report(
    calls: dict[str, Callable[[], float]], n: int, rounds: int, requests: int, pids: dict[str, int]
) -> None:
    answers = {name: call() for name, call in calls.items()}
    expected = answers["in-process"]
    wrong = {name: value for name, value in answers.items() if abs(value - expected) > 1e-4}
    if wrong:
        raise RuntimeError(f"the endpoints do not agree: {answers}")
    for name, call in calls.items():
        measure(call, 30, pids[name.split(" ")[0]])
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(measure(call, requests, pids[name.split(" ")[0]]))
    median = {
        name: [statistics.median(part) for part in zip(*runs, strict=True)] for name, runs in found.items()
    }
    for name, (rate, p50, p99, cpu) in median.items():
        print(f"{n:5} {name:16} {rate:8.0f} {p50:8.2f} {p99:8.2f} {rate * n:10,.0f} {cpu:8.2f}")
    base, ours, stock = (median[name] for name in ("in-process", "ours V1 JSON", "stock V1 JSON"))
    words = (
        f"ours V1 / in-process: p50 {ours[1] / base[1]:.2f}, cpu {ours[3] / base[3]:.2f};  "
        f"stock V1 / ours V1: p50 {stock[1] / ours[1]:.2f}, p99 {stock[2] / ours[2]:.2f}, cpu {stock[3] / ours[3]:.2f}"
    )
    print(f"{n:5} {words}", flush=True)


if __name__ == "__main__":
    main()
