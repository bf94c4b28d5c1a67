"""The endpoint beside a stock kserve.Model and the bare call, in one run; then goals: got, goal, ok. `make bench-serve`, about six minutes.

    python tests/bench/serve.py [--quick] [--rows 1,32,256,1000] [--parts sides,rates,half,ranker,steps] [--folder out/bench-serve]

One trained DCN-v2 of 26 hashed strings and 13 floats (`serve_bundle`), one bundle, the same rows for all. `stock` is a
kserve.ModelServer whose model calls the SavedModel's signature; it checks nothing. Ours runs the bundle's ONNX twin. With two cores or more the servers run on the first
and the generator, with the in-process calls, on the second, so that neither takes the other's time; `--no-pin` leaves that to the system.

sides: one client without pause (p50, p99, processor time), then eight (most requests a second).
rates: Poisson arrivals at fixed rates, open loop: latency counts from when a request was due.
half: the same at 100 candidates and half of saturation. ranker: `:rank` with the user once. steps: first requests after ready and reload.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from serve_bundle import NAME, of_one_request, raw_rows, write_bundle
from serve_goals import Goal, beside_stock, beside_the_call, of_half, of_ranker, of_steps
from serve_reading import AtRate, Reading, at_rate, read_all, saturation, time_lost
from serve_sides import endpoint_sides, in_process, on_core, ranking_side, repeated_rows, stock_server
from serve_steps import at_reload, at_start

from clickmill import bundle as bundles
from clickmill.bundle import Bundle
from clickmill.features.sides import shared_fields
from serving.process import Endpoint, running_server

PARTS = ("sides", "rates", "half", "ranker", "steps")
_AT_RATES = ("ours V1 JSON", "ours V2 gRPC", "stock V1 JSON")


def main() -> None:
    options = _options()
    bundle = bundles.load(write_bundle(options.folder, options.ids), in_caller_thread=True, engine="twin")
    server_core, own_core = cores(options.pin)
    began = time.monotonic()
    print(f"{os.cpu_count()} cores; servers on {server_core}, generator on {own_core} (None: anywhere)")
    tell_noise(server_core)
    goals: list[Goal] = []
    if set(options.parts) - {"steps"}:
        goals += _beside_each_other(bundle, server_core, own_core, options)
    if "steps" in options.parts:
        with on_core(own_core):
            start = at_start(bundle, server_core, options.starts)
            goals += of_steps(start, at_reload(bundle, server_core, options.starts))
    tell_noise(server_core)
    print(f"\n{'goals':86} {'got':>8} {'by cpu':>8}  {'goal':>8}")
    for goal in goals:
        print(goal.line())
    print(f"{sum(goal.ok for goal in goals)} of {len(goals)} met; {time.monotonic() - began:.0f} s")


def _beside_each_other(
    bundle: Bundle, server_core: int | None, own_core: int | None, options: argparse.Namespace
) -> list[Goal]:
    goals: list[Goal] = []
    with (
        on_core(server_core),
        running_server(bundle.path, model_name=NAME, wait=False) as ours,
        stock_server(bundle.path) as stock,
        on_core(own_core),
    ):
        for endpoint in (ours, stock):
            endpoint.wait_until_ready()
        readings = _sides(bundle, ours, stock, options)
        goals += [*beside_stock(readings), *beside_the_call(readings)]
        if "half" in options.parts:
            goals += of_half(_half(bundle, ours, options))
        if "ranker" in options.parts:
            goals += of_ranker(_ranker(bundle, ours, options))
    return goals


def tell_noise(core: int | None) -> None:
    """One line: what neighbours take of a core."""
    with on_core(core):
        share, longest = time_lost()
    print(f"neighbours have {share:.0%} of the servers' core; longest time without it {longest:.1f} ms")


def _sides(
    bundle: Bundle, ours: Endpoint, stock: Endpoint, options: argparse.Namespace
) -> dict[int, dict[str, Reading]]:
    found: dict[int, dict[str, Reading]] = {}
    if not {"sides", "rates"} & set(options.parts):
        return found
    print(
        f"\n{'rows':>5} {'':24} {'p50 ms':>8} {'p99 ms':>8} {'cpu ms':>8} {'most req/s':>11} {'rows/s':>11}"
    )
    at_rates: list[tuple[int, str, AtRate]] = []
    for n in options.rows:
        sides, calls = endpoint_sides(bundle, ours, stock, n), in_process(bundle, n)
        _agree({name: side.first_logit() for name, side in sides.items()} | _first(calls))
        read = found[n] = read_all(sides, calls, rounds=options.rounds, seconds=options.seconds)
        for name, r in read.items():
            print(
                f"{n:5} {name:24} {r.p50_ms:8.2f} {r.p99_ms:8.2f} {r.cpu_ms:8.2f} {r.most_per_second:11,.0f} "
                f"{r.most_per_second * n:11,.0f}",
                flush=True,
            )
        if "rates" in options.parts:
            limit = read["stock V1 JSON"].most_per_second
            rates = [share * limit for share in (0.5, 0.8)]
            at_rates += [
                (
                    n,
                    name,
                    at_rate(sides[name], rate, rounds=options.rate_rounds, seconds=options.rate_seconds),
                )
                for rate in rates
                for name in _AT_RATES
            ]
    if at_rates:
        print("\nat fixed rates (Poisson, open loop): half and four fifths of the most that stock V1 can do")
        _head_of_rates()
        for n, name, r in at_rates:
            _tell_rate(n, name, r)
    return found


def _head_of_rates() -> None:
    print(
        f"{'rows':>5} {'':24} {'req/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'worst run':>9} {'queued then':>11} {'refused':>8}"
    )


def _tell_rate(n: int, name: str, r: AtRate) -> None:
    print(
        f"{n:5} {name:24} {r.rate:8.0f} {r.p50_ms:8.2f} {r.p99_ms:8.2f} {r.worst_ms:9.2f} {r.waited:11.2f} {r.failed:8.1%}"
    )


def _first(calls: dict[str, Any]) -> dict[str, float]:
    return {name: float(call()["logit"][0]) for name, call in calls.items()}


def _agree(answers: dict[str, float]) -> None:
    """Sides that answer differently are not compared."""
    if max(answers.values()) - min(answers.values()) > 1e-4:
        raise RuntimeError(f"the sides do not agree: {answers}")


def _half(bundle: Bundle, ours: Endpoint, options: argparse.Namespace) -> dict[str, AtRate]:
    sides = endpoint_sides(bundle, ours, None, 100)
    sides["ours :rank"] = ranking_side(bundle, ours, 100)
    found = {}
    print(
        "\nat half of saturation (Poisson, open loop); queued: seconds a second in which the server's threads stood in line for a core"
    )
    _head_of_rates()
    for name, side in sides.items():
        most = saturation(side, rounds=options.rate_rounds, seconds=options.seconds)
        found[name] = at_rate(side, most / 2, rounds=options.rate_rounds, seconds=2 * options.rate_seconds)
        _tell_rate(100, name, found[name])
    return found


def _ranker(
    bundle: Bundle, ours: Endpoint, options: argparse.Namespace
) -> dict[int, tuple[float, float, float]]:
    found = {}
    shared = shared_fields(bundle.contract)
    for n in (256, 1000):
        request = of_one_request(raw_rows(n), shared)
        calls = {"form": lambda request=request: bundle.rank(request), "repeated": repeated_rows(bundle, n)}
        read = read_all(
            {"rank": ranking_side(bundle, ours, n)}, calls, rounds=options.rounds, seconds=options.seconds
        )
        found[n] = (read["rank"].p50_ms, read["form"].p50_ms, read["repeated"].p50_ms)
    return found


def cores(pin: bool) -> tuple[int | None, int | None]:
    """For the servers and for the generator; None leaves it to the system."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if pin and len(allowed) > 1 else (None, None)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="every part once and short: under a minute, for a look"
    )
    parser.add_argument("--ids", type=int, default=20_000, help="rows of each of the 26 hashed fields")
    parser.add_argument("--rows", default="1,32,256,1000", help="candidates in a request, by commas")
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure, by commas")
    parser.add_argument("--folder", type=Path, default=Path("out/bench-serve"), help="keeps the bundle")
    parser.add_argument("--no-pin", dest="pin", action="store_false", help="leave cores to the system")
    options = parser.parse_args()
    options.rows = [int(text) for text in options.rows.split(",")]
    options.parts = options.parts.split(",")
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {min(unknown)}; parts: {', '.join(PARTS)}")
    quick = options.quick
    options.rounds, options.seconds = (1, 0.15) if quick else (5, 0.3)
    options.rate_rounds, options.rate_seconds = (1, 0.3) if quick else (3, 1.0)
    options.starts = 1 if quick else 3
    return options


if __name__ == "__main__":
    main()
