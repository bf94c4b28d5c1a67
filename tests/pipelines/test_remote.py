"""The pipeline on a backend: real `kfp.Client` against a server that answers as the backend's v2beta1 API does, and keeps what it is given."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from typer.testing import CliRunner

from clickmill.command import app
from clickmill.errors import UsageError
from pipelines.compile import COMPILED, VARIANTS
from pipelines.remote import BackendRefused, Remote, check_arguments

PACKAGE = COMPILED / "ctr.yaml"
GIVEN = {"contract": "/mnt/ctr.yaml", "impressions": ["/mnt/logs/*.parquet"]}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_backends_own_schema_takes_the_compiled_pipeline(name):
    """`PipelineSpec` is the message that the backend reads the YAML into; a field that it does not know is an error here as there."""
    document = next(yaml.safe_load_all((COMPILED / name).read_text()))
    spec = json_format.ParseDict(document, pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.name == "clickmill-ctr"
    assert set(spec.root.input_definitions.parameters) >= set(GIVEN)
    with pytest.raises(json_format.ParseError, match="retries"):
        json_format.ParseDict({**document, "retries": 3}, pipeline_spec_pb2.PipelineSpec())


class Backend(ThreadingHTTPServer):
    """Kubeflow Pipelines in memory."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pipelines, self.versions, self.runs, self.schedules = {}, [], [], []
        self.log, self.tokens, self.refuses = [], set(), False
        self.host = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def _answer(self, body, status=200):
        said = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self):
        self._do("GET", b"")

    def do_DELETE(self):
        self._do("DELETE", b"")

    def do_POST(self):
        self._do("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _do(self, method, body):
        backend, url = self.server, urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(url.query).items()}
        path = url.path.removeprefix("/apis/v2beta1")
        backend.log.append(f"{method} {path}")
        backend.tokens.add(self.headers.get("authorization"))
        if backend.refuses and method == "POST":
            return self._answer({"error": "the namespace is not yours"}, 403)
        if path == "/healthz":
            return self._answer({"multi_user": False})
        if path.startswith("/pipelines/upload"):
            document = re.search(rb"\r\n\r\n(.*)\r\n--", body, re.DOTALL).group(1)
            json_format.ParseDict(next(yaml.safe_load_all(document)), pipeline_spec_pb2.PipelineSpec())
            if path.endswith("upload"):
                found = {
                    "pipeline_id": f"p{len(backend.pipelines)}",
                    "display_name": asked["name"],
                    "name": asked["name"],
                }
                backend.pipelines[asked["name"]] = found
                return self._answer(found)
            found = {
                "pipeline_id": asked["pipelineid"],
                "pipeline_version_id": f"v{len(backend.versions)}",
                "display_name": asked["name"],
            }
            backend.versions.append(found)
            return self._answer(found)
        if path == "/pipelines":
            return self._answer({"pipelines": list(backend.pipelines.values())})
        if path.endswith("/versions"):
            first = int(asked.get("page_token", 0))  # one a page, so that the pages are read
            more = {"next_page_token": str(first + 1)} if first + 1 < len(backend.versions) else {}
            return self._answer({"pipeline_versions": backend.versions[first : first + 1], **more})
        if path == "/experiments":
            return self._answer(
                {"experiment_id": "e0", "experiments": [{"experiment_id": "e0", "display_name": "clickmill"}]}
            )
        if path == "/runs" and method == "POST":
            backend.runs.append(json.loads(body))
            return self._answer({**backend.runs[-1], "run_id": f"r{len(backend.runs) - 1}"})
        if path.startswith("/runs/"):
            return self._answer({"run_id": path[6:], "state": "FAILED"})
        if path == "/recurringruns" and method == "POST":
            made = {**json.loads(body), "recurring_run_id": f"s{len(backend.log)}"}
            backend.schedules.append(made)
            return self._answer(made)
        if path == "/recurringruns":
            return self._answer({"recurringRuns": backend.schedules})
        if path.startswith("/recurringruns/"):
            backend.schedules = [each for each in backend.schedules if each["recurring_run_id"] != path[15:]]
            return self._answer({})
        return self._answer({"error": f"no {path}"}, 404)


@pytest.fixture
def backend():
    with Backend() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_uploaded_twice_it_is_there_once_and_a_change_is_a_new_version(backend, tmp_path):
    remote = Remote(backend.host, token="secret")
    first = remote.upload(PACKAGE, "ctr")
    again = remote.upload(PACKAGE, "ctr")
    assert (first.new, again.new) == (True, False)
    assert (first.pipeline, first.version) == (again.pipeline, again.version)
    changed = tmp_path / "ctr.yaml"
    changed.write_text("# changed\n" + PACKAGE.read_text())
    third = remote.upload(changed, "ctr")
    assert third.new
    assert third.pipeline == first.pipeline
    assert len(backend.versions) == 2
    assert remote.upload(changed, "ctr").version == third.version  # found on the second page
    assert "Bearer secret" in backend.tokens


def test_a_run_has_the_arguments_and_the_version(backend):
    remote = Remote(backend.host)
    started = remote.run(remote.upload(PACKAGE, "ctr"), "nightly", GIVEN, service_account="trainer")
    assert started == "r0"
    (run,) = backend.runs
    assert run["runtime_config"]["parameters"] == GIVEN
    assert run["pipeline_version_reference"] == {"pipeline_id": "p0", "pipeline_version_id": "v0"}
    assert run["service_account"] == "trainer"


def test_a_schedule_of_the_same_name_is_replaced_after_the_new_one_is_there(backend):
    remote = Remote(backend.host)
    uploaded = remote.upload(PACKAGE, "ctr")
    remote.schedule(uploaded, "daily", "0 0 3 * * *", GIVEN)
    remote.schedule(uploaded, "other", "0 0 4 * * *", GIVEN)
    backend.log.clear()
    last = remote.schedule(uploaded, "daily", "0 0 5 * * *", GIVEN)
    assert {each["display_name"]: each["trigger"]["cron_schedule"]["cron"] for each in backend.schedules} == {
        "daily": "0 0 5 * * *", "other": "0 0 4 * * *",
    }  # fmt: skip
    assert last in {each["recurring_run_id"] for each in backend.schedules}
    assert [(each["no_catchup"], int(each["max_concurrency"])) for each in backend.schedules] == [
        (True, 1)
    ] * 2
    calls = [call.split("/")[0] for call in backend.log if "recurringruns" in call]
    assert calls == ["GET ", "POST ", "DELETE "]


def test_what_the_backend_says_and_that_it_is_not_there_come_in_our_words(backend):
    remote = Remote(backend.host)
    backend.refuses = True
    with pytest.raises(BackendRefused, match=r"answers 403: .*the namespace is not yours"):
        remote.upload(PACKAGE, "ctr")
    with pytest.raises(BackendRefused, match="can't be reached"):
        Remote("http://127.0.0.1:1").upload(PACKAGE, "ctr")


def test_arguments_are_checked_before_anything_is_sent():
    with pytest.raises(UsageError, match=r"ctr.yaml has no parameter impresions; it has clicks, contract"):
        check_arguments(PACKAGE, {**GIVEN, "impresions": []})
    with pytest.raises(UsageError, match=r"ctr.yaml needs contract, impressions; give --set contract="):
        check_arguments(PACKAGE, {})


def command(*words: object):
    return CliRunner().invoke(app, ["pipeline", *map(str, words)])


def test_the_command_runs_waits_and_fails_when_the_run_does(backend):
    how = [
        PACKAGE,
        "--host",
        backend.host,
        "--set",
        "contract=/mnt/ctr.yaml",
        "--set",
        "impressions=[/mnt/a]",
        "--set",
        "gate.max_ece=0.02",
    ]
    started = command("run", *how, "--json")
    assert started.exit_code == 0, started.output
    assert json.loads(started.stdout)["run"] == "r0"
    assert backend.runs[0]["runtime_config"]["parameters"]["gate"] == {"max_ece": 0.02}
    failed = command("run", *how, "--wait", "30")
    assert failed.exit_code == 1
    assert "ended as FAILED" in failed.output


def test_the_command_asks_for_six_fields_of_cron(backend):
    wrong = command("schedule", PACKAGE, "--host", backend.host, "--cron", "0 3 * * *")
    assert wrong.exit_code == 2
    assert "seconds first" in wrong.output
    assert Path(PACKAGE).exists()
