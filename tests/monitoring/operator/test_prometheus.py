"""Evidence by PromQL: a Prometheus in memory that knows the numbers, and the real one over a hand-made history."""

import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clickmill.release import Phase, Release, Traffic
from monitoring.operator.prometheus import Prometheus
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.status import Spell, State, Status
from tests.monitoring.operator.twin import URIS, A, B

T0 = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPEC = ModelReleaseSpec.model_validate(
    {"bundle": {"uri": URIS[B], "digest": B}, "target": {"inferenceService": "ctr", "route": {"gateways": [{"name": "g"}]}}}
)  # fmt: skip


def after(seconds):
    return T0 + timedelta(seconds=seconds)


def canary(*spells, phase=Phase.CANARY):
    release = Release(endpoint="ctr", phase=phase, since=T0, stable=A, candidate=B, percent=5)
    return Status(release=State.model_validate(release.model_dump()), about=B, spells=spells)


def test_a_prometheus_that_is_not_there_is_said_and_gives_no_evidence():
    measured = Prometheus("http://127.0.0.1:1").evidence("ads", canary(), SPEC, T0)
    assert measured.error.startswith("http://127.0.0.1:1 does not answer: ")
    assert measured.evidence.canary == ()


def test_what_is_no_prometheus_is_said():
    class Refuses(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b'{"error": "parse error"}')

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        measured = Prometheus(f"http://127.0.0.1:{server.server_address[1]}").evidence(
            "ads", canary(), SPEC, T0
        )
    finally:
        server.shutdown()
        server.server_close()
    assert "answers 400" in measured.error
    assert "parse error" in measured.error


def history():
    """Ten minutes of samples every 5 s as OpenMetrics. Pod `s` has bundle A all the time: 20 requests a second, and 1 more that it
    sheds. Pod `c` has B from 300 s on:
    2 a second, of which one in ten is refused and one in five is slow. Pod `x` had B too and went away at 450 s: 1 a second.
    Judged impressions of B: 3 a second, clicks 0.3. Labels ripen in 60 s."""
    samples = {}

    def add(series, labels, at, value):
        samples.setdefault(series, {}).setdefault(labels, []).append((at, value))

    for at in range(0, 601, 5):
        now = T0.timestamp() + at
        add("clickmill_live_ripening_seconds", 'namespace="ads"', now, 60)
        add("clickmill_live_judged_impressions_total", f'namespace="ads",bundle="{B[:12]}"', now, 3 * at)
        add("clickmill_live_judged_clicks_total", f'namespace="ads",bundle="{B[:12]}"', now, 0.3 * at)
        pods = [("s", A, at, 20)]
        if at >= 300:
            pods.append(("c", B, at - 300, 2))
            if at <= 450:
                pods.append(("x", B, at - 300, 1))
        for pod, digest, age, rate in pods:
            where = f'namespace="ads",instance="{pod}",job="pods"'
            refused = 0.1 * rate * age if pod == "c" else 0
            slow = 0.2 * rate * age if pod == "c" else 0
            add("clickmill_bundle_info", f'{where},digest="{digest}"', now, 1)
            add("clickmill_request_seconds_count", f'{where},protocol="rank"', now, rate * age - refused)
            # The pod behind it, which a ranker asks: the same requests once more.
            add("clickmill_request_seconds_count", f'{where},protocol="ranker"', now, rate * age)
            add("clickmill_request_seconds_bucket", f'{where},protocol="ranker",le="0.01"', now, 0)
            add(
                "clickmill_request_seconds_bucket",
                f'{where},protocol="rank",le="0.01"',
                now,
                rate * age - refused - slow,
            )
            if pod == "s":
                add("clickmill_requests_rejected_total", f'{where},reason="overload"', now, age)
            if refused:
                add("clickmill_requests_rejected_total", f'{where},reason="internal"', now, refused)
                add("clickmill_requests_rejected_total", f'{where},reason="malformed"', now, 100 * refused)
    lines = []
    for series, by_labels in samples.items():
        lines.append(f"# TYPE {series.removesuffix('_total')} unknown")
        for labels, values in by_labels.items():
            lines += [f"{series}{{{labels}}} {value} {at}" for at, value in values]
    return "\n".join([line for line in lines if not line.startswith("#")] + ["# EOF\n"])


@pytest.mark.integration
@pytest.mark.skipif(
    shutil.which("promtool") is None or shutil.which("prometheus") is None,
    reason="no prometheus and promtool",
)
def test_counts_over_a_history_made_by_hand(tmp_path):
    (tmp_path / "history.txt").write_text(history())
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", tmp_path / "history.txt", tmp_path / "data"],
        check=True, capture_output=True,
    )  # fmt: skip
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []\n")
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
         "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{url}/-/ready", timeout=5):
                    break
            except OSError:
                time.sleep(0.2)
        source = Prometheus(url)
        assert (
            json.dumps(
                sorted(dict(k)["digest"][0] for k in source.query("clickmill_bundle_info", after(400)))
            )
            == '["a", "b", "b"]'
        )
        spells = (
            Spell(phase=Phase.CANARY, percent=5, since=after(300)),
            Spell(phase=Phase.CANARY, percent=50, since=after(500)),
        )
        measured = source.evidence("ads", canary(*spells), SPEC, after(600))
        assert measured.error == ""
        assert measured.served == {A, B}
        first, second = measured.evidence.canary
        assert (first.percent, second.percent) == (5, 50)
        # 200 s: pod c 400 requests of which 40 were refused and 80 slow; pod x 150 until it went away.
        assert about(first.candidate.traffic, Traffic(requests=550, errors=40, slow=80))
        assert about(first.stable.traffic, Traffic(requests=4200, errors=200))
        promoted = Release(endpoint="ctr", phase=Phase.PROMOTED, since=T0, stable=A, last_good=B)
        status = Status(
            release=State.model_validate(promoted.model_dump()),
            about=A,
            spells=(Spell(phase=Phase.PROMOTED, since=after(10)),),
        )
        spec = SPEC.model_copy(update={"policy": SPEC.policy.model_copy(update={"watch_seconds": 300.0})})
        (watched,) = source.evidence("ads", status, spec, after(600)).evidence.watch
        assert about(watched.traffic, Traffic(requests=6000)), "what load sheds is not held against it"
        assert watched.paired is None
        assert about(second.candidate.traffic, Traffic(requests=200, errors=20, slow=40))
        # Impressions of the first spell could be judged from 360 s to 560 s; of the second from 560 s on, which is 40 s ago.
        assert abs(first.candidate.labelled.impressions - 600) <= 15
        assert abs(first.candidate.labelled.clicks - 60) <= 2
        assert abs(second.candidate.labelled.impressions - 120) <= 15
        assert (
            source.evidence("other", canary(*spells), SPEC, after(600))
            .evidence.canary[0]
            .candidate.traffic.requests
            == 0
        )
    finally:
        process.terminate()
        process.wait(30)


def about(found, wanted):
    """To two scrapes of 5 s at 22 requests a second, or to a hundredth."""
    for name in ("requests", "errors", "slow", "not_finite"):
        one, two = getattr(found, name), getattr(wanted, name)
        assert abs(one - two) <= max(0.06 * two, 5), (name, found, wanted)
    return True
