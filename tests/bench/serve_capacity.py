"""The queueing model of `clickmill capacity` beside the endpoint: p99 predicted from an idle replica and its saturation, and measured under load.

    python tests/bench/serve_capacity.py [--candidates 1,32,100] [--shares 0.3,0.5,0.7] [--folder out/bench-serve]

The model sees latencies of one client without pause, the most requests a second, and Poisson arrivals at the last share of saturation; what is compared
are the other shares, open loop, in rounds with different arrivals. `alone` is the model without that load. The bundle is that of `serve.py`; the server has the
first core and one thread, the generator the second.
"""

from __future__ import annotations

import argparse
import os
import statistics
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from serve import cores, tell_noise
from serve_bundle import NAME, raw_rows, write_bundle
from serve_reading import CLIENTS
from serve_sides import Side, address_of, on_core

from clickmill import bundle as bundles
from clickmill.capacity import Loaded, Measured, Point
from serving.load import Speech, poisson, prepare
from serving.process import running_server


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", default="1,32,100", help="of a request, by commas")
    parser.add_argument("--shares", default="0.3,0.5,0.7", help="of saturation, by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--folder", type=Path, default=Path("out/bench-serve"), help="keeps the bundle")
    options = parser.parse_args()
    bundle = bundles.load(write_bundle(options.folder, 20_000))
    server_core, own_core = cores(True)
    tell_noise(server_core)
    with (
        on_core(server_core),
        running_server(bundle.path, model_name=NAME, shed_wait_ms=0.0, wait=False) as endpoint,
        on_core(own_core),
    ):
        endpoint.wait_until_ready()
        print(
            f"{'cand.':>6} {'of most':>8} {'req/s':>7} {'p99 ms':>8} {'predicted':>10} {'ratio':>6} {'alone':>8}"
        )
        for candidates in map(int, options.candidates.split(",")):
            prepared = prepare(
                raw_rows(64 * candidates), bundle.contract, Speech.V2, candidates, model_name=NAME
            )
            side = Side("V2 binary", address_of(endpoint, prepared), prepared, endpoint.process.pid)
            compare(side, candidates, options)
    tell_noise(server_core)


def compare(side: Side, candidates: int, options: argparse.Namespace) -> None:
    """Print a line per share of saturation."""
    side.closed(options.seconds / 2, CLIENTS)
    most = statistics.median(side.closed(options.seconds / 2, CLIENTS).rate for _ in range(options.rounds))
    idle = side.closed(options.seconds).latency_ms
    shares = [float(text) for text in options.shares.split(",")]
    p99 = {share: p99_ms(side, share * most, options) for share in shares}
    last = Loaded(per_second=shares[-1] * most, p99_ms=p99[shares[-1]])
    fitted, alone = (
        Measured(cores=1, memory_mib=1, points=(Point.of_sample(candidates, most, idle, loads),)).replica(
            candidates
        )
        for loads in ((last,), ())
    )
    for share in shares:
        rate, found = share * most, p99[share]
        told, told_alone = (replica.latency(rate, 0.99) * 1e3 for replica in (fitted, alone))
        note = "  given" if share == shares[-1] else ""
        print(
            f"{candidates:6} {share:8.0%} {rate:7.0f} {found:8.2f} {told:10.2f} {told / found:6.2f} {told_alone:8.2f}{note}",
            flush=True,
        )


def p99_ms(side: Side, rate: float, options: argparse.Namespace) -> float:
    """Median of the rounds."""
    count = int(rate * options.seconds)
    return statistics.median(
        side.open(poisson(rate, count, seed=seed)).quantile_ms(0.99) for seed in range(options.rounds)
    )


if __name__ == "__main__":
    main()
