"""Who trains: `clickmill run` on this machine, or a run of Kubeflow Pipelines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clickmill.errors import ClickmillError, GateRefused

_OUR_COMMAND = (sys.executable, "-c", "from clickmill.command import main; main()")


class NotStarted(ClickmillError):
    """A training could not be started."""


@dataclass(frozen=True)
class Ended:
    """How a training ended."""

    well: bool
    """It came to its end; that the gate kept the champion is one too."""
    words: str


class Trainer(Protocol):
    """Starts trainings and knows when they end."""

    def start(self, run: str) -> str:
        """Start one under a name; returns words by which people find it. Raises NotStarted."""
        ...

    def ended(self, run: str) -> Ended | None:
        """How the training of that name ended; None while it runs, or where this trainer doesn't know it (any more)."""
        ...


class LocalTrainer:
    """`clickmill run WORDS` as a process of its own, which lives on when the monitor ends; what it says goes to a file."""

    def __init__(self, words: Sequence[str], logs: Path, command: Sequence[str] = _OUR_COMMAND) -> None:
        """words: the arguments of `clickmill run`. command: what runs them after `run`."""
        self._command = [*command, "run", *words]
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run: str) -> str:
        """See Trainer."""
        log = self._logs / f"{run}.log"
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as file:
                self._running[run] = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # the monitor's Ctrl-C is not the training's
                )
        except OSError as error:
            raise NotStarted(f"{self._command[0]}: could not be started: {error}") from error
        return f"process {self._running[run].pid}, {log}"

    def ended(self, run: str) -> Ended | None:
        """See Trainer. A training that an earlier monitor started is not known."""
        process = self._running.get(run)
        if process is None or process.poll() is None:
            return None
        del self._running[run]
        code = process.returncode
        if code == 0:
            return Ended(True, "deployed a new bundle")
        if code == GateRefused.exit_code:
            return Ended(True, "the gate kept the champion")
        return Ended(False, f"exit status {code}; see {self._logs / f'{run}.log'}")


class KubeflowTrainer:
    """A run of a compiled pipeline. The name of the run is its job name, by which an earlier monitor's run is found again."""

    def __init__(
        self,
        package: Path,
        arguments: Mapping[str, Any],
        *,
        host: str | None = None,
        experiment: str = "clickmill",
        client: Any = None,
    ) -> None:
        """package: compiled pipeline. arguments: its parameters. host: of the API; None: as kfp finds it inside of a cluster.
        client: a `kfp.Client`, made when it is first needed if absent."""
        self._package, self._arguments = package, dict(arguments)
        self._host, self._experiment, self._client = host, experiment, client

    def start(self, run: str) -> str:
        """See Trainer."""
        try:
            made = self._kfp().create_run_from_pipeline_package(
                str(self._package),
                arguments=self._arguments,
                run_name=run,
                experiment_name=self._experiment,
                enable_caching=False,
            )
        except Exception as error:
            raise NotStarted(f"Kubeflow Pipelines took no run: {error}") from error
        return f"run {made.run_id} of Kubeflow Pipelines"

    def ended(self, run: str) -> Ended | None:
        """See Trainer. An API that does not answer is asked again at the next look."""
        try:
            found = self._find(run)
        except Exception:  # noqa: BLE001  as above; not knowing is one of the three answers
            return None
        state = getattr(found, "state", None)
        if state == "SUCCEEDED":
            return Ended(True, "succeeded")
        if state in ("FAILED", "CANCELED", "SKIPPED"):
            return Ended(False, f"ended as {state}, run {found.run_id}")
        return None

    def _find(self, run: str) -> Any:
        client = self._kfp()
        experiment = client.get_experiment(experiment_name=self._experiment)
        runs = client.list_runs(
            experiment_id=experiment.experiment_id, sort_by="created_at desc", page_size=100
        ).runs
        return next((one for one in runs or () if one.display_name == run), None)

    def _kfp(self) -> Any:
        if self._client is None:
            import kfp

            self._client = kfp.Client(host=self._host)
        return self._client


__all__ = ["Ended", "KubeflowTrainer", "LocalTrainer", "NotStarted", "Trainer"]
