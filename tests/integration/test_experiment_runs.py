"""An experiment whose arms are bundles, with real servers and a real door: `clickmill experiment run` as a person would start it."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from clickmill.bundle import Store
from clickmill.command import app
from clickmill.experiment import ExperimentSpec, assign
from clickmill.experiment.spec import dumps
from serving.ports import claim
from tests.serving.small_bundle import write_small_bundle

pytestmark = pytest.mark.integration

USERS = [f"u{number}" for number in range(60)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    store = Store(folder / "store")
    digests = {}
    for arm, bias in (("control", -2.0), ("treatment", -1.0)):
        version = store.add(write_small_bundle(folder / arm, bias=bias))
        digests[arm] = store.verified(version).digest
    spec = ExperimentSpec.model_validate(
        {
            "name": "deeper",
            # the beginning of a digest will do where no other begins so
            "arms": {arm: {"bundle": digest[:16]} for arm, digest in digests.items()},
            "control": "control",
            "holdout": 0.1,
            "holdout_gets": {"rules": {"slots": 1}},
            "slices": ["device"],
        }
    )
    (folder / "spec.yaml").write_text(dumps(spec))
    return folder, spec, digests


def rank(url, user, number):
    candidates = [{"ad_id": "a1", "bid": 1}, {"ad_id": "a2", "bid": 9}]
    body = {"request_id": f"r{number}", "user": {"user_id": user}, "candidates": candidates}
    answer = httpx.post(url, json=body, timeout=30, trust_env=False)
    answer.raise_for_status()
    return answer


def test_users_get_the_bundle_of_their_arm_and_the_log_answers(site):
    folder, spec, digests = site
    port = claim("127.0.0.1", 0, "p")
    url = f"http://127.0.0.1:{port}/v1/models/small:rank"
    program = [sys.executable, "-c", "from clickmill.command import main; main()"]
    words = ["experiment", "run", str(folder / "spec.yaml"), str(folder / "store"), "--port", str(port)]
    with (folder / "run.log").open("wb") as log:
        process = subprocess.Popen(
            [*program, *words, "--home", str(folder / "home")], stdout=log, stderr=log, env=dict(os.environ)
        )
    try:
        deadline = time.monotonic() + 300
        while f"endpoint on {url}" not in (folder / "run.log").read_text():
            assert process.poll() is None, (folder / "run.log").read_text()
            assert time.monotonic() < deadline, "the servers were not ready in time"
            time.sleep(0.2)
        for number, user in enumerate(USERS):
            answer = rank(url, user, number)
            arm = assign(spec, user).logged
            assert answer.headers["x-clickmill-arm"] == arm
            assert answer.json()["bundle_digest"] == digests["control" if arm == "holdout" else arm]
            assert len(answer.json()["ranked"]) == (1 if arm == "holdout" else 2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    rows = ds.dataset(folder / "home" / "log", format="parquet").to_table().to_pylist()
    found = {row["features"]["user_id"]: (row["arm"], row["bundle"]) for row in rows}
    arms = {user: assign(spec, user).logged for user in USERS}
    assert found == {
        user: (arm, digests["control" if arm == "holdout" else arm]) for user, arm in arms.items()
    }
    # what was sold has a name: two clicks on it, and the analysis counts them under their arms
    clicked = {next(u for u in USERS if arms[u] == arm): arm for arm in digests}
    ids = [f"r{USERS.index(user)}:1" for user in clicked]
    (folder / "clicks").mkdir()
    shown = {row["impression_id"]: row["time"] for row in rows}
    clicks = {"impression_id": ids, "click_time": [shown[i] + timedelta(milliseconds=100) for i in ids]}
    pq.write_table(pa.table(clicks), folder / "clicks" / "c.parquet")
    while datetime.now(UTC) < max(row["time"] for row in rows) + timedelta(seconds=1):
        time.sleep(0.1)  # until the attribution window of the last ranking is over
    done = CliRunner().invoke(
        app,
        ["experiment", "analyze", str(folder / "spec.yaml"), str(folder / "home" / "log"), "--clicks",
         str(folder / "clicks"), "--attribution", "1", "--json"],
    )  # fmt: skip
    assert done.exit_code == 4, done.output
    told = {arm["arm"]: arm for arm in json.loads(done.stdout)["arms"]}
    for arm in digests:
        assert told[arm]["clicks"] == 1
        assert told[arm]["users"] == list(arms.values()).count(arm)
        assert told[arm]["impressions"] == 2 * told[arm]["users"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"arms": {"control": {}, "treatment": {"bundle": "beef"}}}, "bundle 'beef': no such bundle in"),
        ({"unit": "member"}, "has no input 'member', by which users are told apart; inputs: user_id, ad_id"),
        ({"slices": ["country"]}, "has no input 'country', by which a slice is asked for"),
        ({"holdout_gets": {"rules": {"slots": 0}}}, "holdout_gets.rules: slots"),
    ],
)
def test_what_cannot_be_run_is_said_before_any_server_starts(site, changed, words):
    folder, spec, _ = site
    wrong = folder / "wrong.yaml"
    wrong.write_text(dumps(ExperimentSpec.model_validate(spec.model_dump() | changed)))
    done = CliRunner().invoke(
        app, ["experiment", "run", str(wrong), str(folder / "store"), "--home", str(folder / "none")]
    )
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
    assert not (folder / "none" / "servers").exists()
