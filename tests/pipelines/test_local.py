"""The pipeline on this machine, for real: every step in a process of its own, on a small market."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clickmill import bundle as bundles
from clickmill.bundle.store import Store
from clickmill.data import PreparedDataset, world
from clickmill.errors import ContractError, UnreadableData, UsageError
from components.step import read_records
from pipelines import local
from pipelines.local import RunOptions, RunResult, StepEvent, run

CONTRACT = Path(__file__).parents[2] / "contracts" / "world.yaml"
BATCH = 256
TINY = {"dim": 4, "units": [8], "cross_layers": 1}
# With some fifty clicks in the test split nothing is proved; the gate is told to judge all the same.
GATE = {"min_clicks": 10, "max_ece": 0.5, "max_calibration_bias": None, "max_ne": 2.0, "resamples": 50}


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("market") / "world"
    world.write(world.WorldConfig(impressions=12_000, seed=7), root)
    return root


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module", autouse=True)
def still_code() -> Iterator[None]:
    """Someone may edit the library between two runs of this module; its part of the cache key has a test of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "CODE", ())
        yield


def options(market: Path, workspace: Path, **changed: Any) -> RunOptions:
    given: dict[str, Any] = {
        "contract": CONTRACT,
        "impressions": (str(market / "impressions"),),
        "clicks": (str(market / "clicks"),),
        "truth": (str(market / "truth"),),
        "workspace": workspace,
        "models": ("lr", "dcn_v2"),
        "variants": {"lr-pulled": {"model": "lr", "training": {"linear_l2": 0.5, "epochs": 1}}},
        "model_configs": {"dcn_v2": TINY},
        "training": {"epochs": 4, "patience": 4, "batch_size": BATCH},
        "negatives_kept": 0.5,
        "gate": GATE,
        **changed,
    }
    return RunOptions(**given)


class Watcher:
    """Keeps what happens; presses Ctrl-C once training has begun, when told to."""

    def __init__(self, *, interrupt: bool = False) -> None:
        self.events: list[StepEvent] = []
        self.progress: list[tuple[str, Any, int]] = []
        self._interrupt = interrupt

    def __call__(self, event: StepEvent) -> None:
        self.events.append(event)

    def states(self) -> list[tuple[str, str]]:
        return [(event.step, event.state) for event in self.events if event.state != "started"]

    def start(self, task: str, total: int | None, unit: str) -> None:
        self.progress.append((task, total, 0))

    def advance(self, n: int = 1, **figures: float) -> None:
        task, total, done = self.progress[-1]
        self.progress[-1] = (task, total, done + n)
        if self._interrupt and task.startswith("epoch") and done + n > 0:
            self._interrupt = False
            os.kill(os.getpid(), signal.SIGINT)

    def finish(self) -> None:
        return None


@pytest.fixture(scope="module")
def interrupted(market: Path, workspace: Path) -> Watcher:
    watcher = Watcher(interrupt=True)
    with pytest.raises(KeyboardInterrupt, match=r"in step train lr; the same run in .* goes on from there"):
        run(options(market, workspace), progress=watcher, watch=watcher)
    return watcher


@pytest.fixture(scope="module")
def checkpoint(interrupted: Watcher, workspace: Path) -> dict[str, Any]:
    (state,) = (workspace / "training").glob("lr-*/checkpoint/state.json")
    found: dict[str, Any] = json.loads(state.read_text())["state"]
    return found


@pytest.fixture(scope="module")
def first(checkpoint: dict[str, Any], market: Path, workspace: Path) -> tuple[RunResult, Watcher]:
    watcher = Watcher()
    return run(options(market, workspace), progress=watcher, watch=watcher), watcher


@pytest.fixture(scope="module")
def second(first: tuple[RunResult, Watcher], market: Path, workspace: Path) -> tuple[RunResult, Watcher]:
    watcher = Watcher()
    again = options(
        market,
        workspace,
        models=("lr", "lr-pulled"),
        gate={**GATE, "max_p99_ratio": None, "ne_margin": 10.0, "auc_margin": None, "ece_margin": None},
    )
    return run(again, progress=watcher, watch=watcher), watcher


def test_ctrl_c_ends_the_run_in_the_step_and_keeps_its_checkpoint(
    interrupted: Watcher, checkpoint: dict[str, Any]
) -> None:
    assert interrupted.states() == [
        ("validate_data", "done"),
        ("preprocess", "done"),
        ("train lr", "interrupted"),
    ]
    assert (checkpoint["epoch"], checkpoint["step"]) > (0, 0)


def test_the_same_run_again_goes_on_from_the_checkpoint(
    first: tuple[RunResult, Watcher], checkpoint: dict[str, Any], workspace: Path
) -> None:
    _, watcher = first
    assert watcher.states() == [
        ("validate_data", "cached"),
        ("preprocess", "cached"),
        ("train lr", "done"),
        ("calibrate lr", "done"),
        ("train dcn_v2", "done"),
        ("calibrate dcn_v2", "done"),
        ("validate_model", "done"),
        ("deploy", "done"),
        ("report", "done"),
    ]
    epochs = [task for task, _, _ in watcher.progress if task.startswith("epoch")]
    assert epochs[0] == f"epoch {checkpoint['epoch'] + 1} of at most 4"
    assert list((workspace / "training").iterdir()) == []


def test_the_bundle_that_was_deployed_verifies_and_is_the_one_that_was_judged(
    first: tuple[RunResult, Watcher],
) -> None:
    result, _ = first
    assert result.decision == "promote"
    assert result.version == 1
    assert result.deployed is not None
    deployed = bundles.load(result.deployed)
    assert deployed.digest == bundles.load(result.best).digest
    assert deployed.manifest.lineage.parent is None
    assert deployed.manifest.lineage.negatives_kept == 0.5
    assert set(result.bundles) == {"lr", "dcn_v2"}
    held_out = {name: bundles.load(path).calibration_report for name, path in result.bundles.items()}
    ne = {name: report.candidates[report.method] for name, report in held_out.items()}
    assert result.best_model == min(ne, key=lambda name: ne[name])


def test_the_result_says_where_everything_is(first: tuple[RunResult, Watcher]) -> None:
    result, watcher = first
    dataset = PreparedDataset.open(result.dataset)
    assert result.metrics["n"] == dataset.meta.splits["test"].rows
    assert "Data quality" in result.quality_report.read_text()
    assert result.quarantine.is_dir()
    assert "<html" in result.card.read_text()
    assert "The run went through." in result.report.read_text()
    assert json.loads((result.folder / "result.json").read_text())["decision"] == "promote"
    logs = [event.log for event in watcher.events if event.state == "done"]
    assert all(log is not None and log.read_text() for log in logs)
    assert not (result.folder / "scratch").exists()


def test_a_later_run_faces_the_champion_on_the_same_rows(
    first: tuple[RunResult, Watcher], second: tuple[RunResult, Watcher]
) -> None:
    result, watcher = second
    assert watcher.states() == [
        ("validate_data", "cached"),
        ("preprocess", "cached"),
        ("train lr", "cached"),
        ("calibrate lr", "done"),
        ("train lr-pulled", "done"),
        ("calibrate lr-pulled", "done"),
        ("validate_model", "done"),
        ("deploy", "done"),
        ("report", "done"),
    ]
    champion = bundles.load(first[0].deployed)
    assert bundles.load(result.best).manifest.lineage.parent == champion.digest
    difference = result.metrics["normalized_entropy"] - champion.evaluation.normalized_entropy.value
    assert result.metrics["gate_ne"] == pytest.approx(difference, abs=1e-4)
    assert Store(result.store).versions()[-1] == result.version


def test_two_configurations_of_a_model_are_trained_and_the_best_by_ne_goes_on(
    second: tuple[RunResult, Watcher],
) -> None:
    result, _ = second
    assert set(result.bundles) == {"lr", "lr-pulled"}
    loaded = {name: bundles.load(path) for name, path in result.bundles.items()}
    plain, pulled = (loaded[name].trained().meta for name in ("lr", "lr-pulled"))
    assert (plain["model"], pulled["model"]) == ("lr", "lr")
    assert pulled["training_config"]["linear_l2"] == 0.5
    assert pulled["training_config"]["batch_size"] == plain["training_config"]["batch_size"] == BATCH
    assert (len(pulled["history"]), len(plain["history"])) == (1, 4)
    ne = {name: b.calibration_report.candidates[b.calibration_report.method] for name, b in loaded.items()}
    assert result.best_model == min(ne, key=lambda name: ne[name])
    assert bundles.load(result.best).digest == loaded[result.best_model].digest


def test_a_broken_file_stops_the_run_with_the_step_the_reason_and_the_log(
    market: Path, tmp_path: Path
) -> None:
    whole = next((market / "impressions").rglob("*.parquet")).read_bytes()
    (tmp_path / "torn.parquet").write_bytes(whole[: len(whole) // 2])
    watcher = Watcher()
    broken = options(market, tmp_path / "workspace", impressions=(str(tmp_path / "torn.parquet"),))
    with pytest.raises(UnreadableData) as caught:
        run(broken, watch=watcher)
    words = str(caught.value)
    assert words.startswith("step validate_data: ")
    assert "torn.parquet" in words
    log = Path(words.rsplit("log: ", 1)[1])
    assert "UnreadableData" in log.read_text()
    assert watcher.states() == [("validate_data", "failed"), ("report", "done")]
    (records,) = (tmp_path / "workspace" / "runs").glob("*/steps.jsonl")
    assert read_records(records)[0].kind == "UnreadableData"
    (report,) = (tmp_path / "workspace" / "runs").glob("*/report.html")
    assert "The run failed in step validate_data." in report.read_text()


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"gate": {"max_ecee": 1}}, UsageError, r"gate\.max_ecee: Extra inputs are not permitted; got 1"),
        (
            {"training": {"epochs": 0}},
            UsageError,
            r"training\.epochs: Input should be greater than or equal to 1; got 0",
        ),
        ({"preparation": {"window": "soon"}}, UsageError, "'soon' is not a duration"),
        ({"models": ("lr", "gpt")}, UsageError, "no model is called 'gpt'"),
        ({"models": ("lr", "lr")}, UsageError, "names a model twice"),
        (
            {"models": ("big",), "variants": {"big": {"modle": "lr"}}},
            UsageError,
            r"variants\.big: model: Field required",
        ),
        (
            {"variants": {"lr": {"model": "fm"}}},
            UsageError,
            "variants: 'lr' is a model; give the variant another name",
        ),
        ({"models": ("v",), "variants": {"v": {"model": "gpt"}}}, UsageError, "no model is called 'gpt'"),
        ({"model_configs": {"cdn": {}}}, UsageError, "no model is called 'cdn'"),
        ({"impressions": ("nowhere/*.parquet",)}, UnreadableData, r"nowhere/.*: no such file"),
        ({"contract": Path("nowhere.yaml")}, ContractError, r"nowhere\.yaml: cannot be read"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    changed: dict[str, Any], kind: type[Exception], words: str, market: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words):
        run(options(market, tmp_path / "workspace", **changed))
    assert not (tmp_path / "workspace").exists()


def test_a_warm_start_names_the_champion_by_its_number(
    first: tuple[RunResult, Watcher], market: Path, workspace: Path, tmp_path: Path
) -> None:
    store = first[0].store
    newest = str(Store(store).latest())
    assert local._champion(options(market, workspace)) == ""
    assert local._champion(options(market, workspace, warm_start=True)) == newest
    fresh = options(market, tmp_path, warm_start=True)
    assert local._champion(fresh) == str(tmp_path / "store"), "nothing there yet; the step says so"


def test_two_runs_do_not_share_a_workspace(market: Path, tmp_path: Path) -> None:
    with local._sole_run(tmp_path), pytest.raises(UsageError, match="another run is writing here"):
        run(options(market, tmp_path))


def test_the_cache_key_follows_the_rows_the_contract_and_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, contract = tmp_path / "rows.csv", tmp_path / "contract.yaml"
    rows.write_text("1\n")
    contract.write_text("a")
    seen = [local._digest(contract, {"impressions": [rows]})]
    rows.write_text("2\n")
    seen.append(local._digest(contract, {"impressions": [rows]}))
    contract.write_text("b")
    seen.append(local._digest(contract, {"impressions": [rows]}))
    monkeypatch.setattr(local, "CODE", ("pipelines",))
    seen.append(local._digest(contract, {"impressions": [rows]}))
    assert len(set(seen)) == 4
    assert local._digest(contract, {"impressions": [rows]}) == seen[-1]
