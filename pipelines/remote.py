"""The compiled pipeline on a Kubeflow Pipelines backend: uploaded once per content, run, put on a schedule.

Everything may be said twice: a version is named by the digest of its YAML, a schedule of the same name is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from clickmill.errors import ClickmillError, UsageError

EXPERIMENT = "clickmill"
_PAGE = 100


class BackendRefused(ClickmillError):
    """Kubeflow Pipelines did not take what it was given, or can't be reached."""


@dataclass(frozen=True)
class Uploaded:
    """A version of a pipeline on the backend."""

    pipeline: str
    """Id of the pipeline."""
    version: str
    """Id of the version."""
    name: str
    """Name of the version: the first 12 digits of the sha256 of its YAML."""
    new: bool
    """False: it was there already."""


def check_arguments(package: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, if the pipeline has parameters of these names and each without a default is given. Raises UsageError naming those
    that are not, before anything is sent."""
    spec = next(yaml.safe_load_all(package.read_text()))
    known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise UsageError(
            f"{package.name} has no parameter {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    missing = [
        name for name, each in known.items() if "defaultValue" not in each and not each.get("isOptional")
    ]
    absent = sorted(set(missing) - set(arguments))
    if absent:
        raise UsageError(f"{package.name} needs {', '.join(absent)}; give --set {absent[0]}=...")
    return dict(arguments)


class Remote:
    """One backend. namespace: of the user, on a Kubeflow with several; empty where there are no users."""

    def __init__(self, host: str, *, namespace: str = "", token: str = "") -> None:
        import kfp

        self._namespace = namespace or None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self._client = _asked(
                lambda: kfp.Client(
                    host=host, existing_token=token or None, **({"namespace": namespace} if namespace else {})
                )
            )

    def upload(self, package: Path, name: str, description: str = "") -> Uploaded:
        """A version of the pipeline `name`, unless one of the same content is there. Raises BackendRefused."""
        version = hashlib.sha256(package.read_bytes()).hexdigest()[:12]
        client = self._client
        pipeline = _asked(lambda: client.get_pipeline_id(name))
        if pipeline is None:
            made = _asked(
                lambda: client.upload_pipeline(str(package), name, description or None, self._namespace)
            )
            pipeline = made.pipeline_id
        there = self._version(pipeline, version)
        if there is not None:
            return Uploaded(pipeline, there, version, new=False)
        uploaded = _asked(
            lambda: client.upload_pipeline_version(
                str(package), version, pipeline_id=pipeline, description=description or None
            )
        )
        return Uploaded(pipeline, uploaded.pipeline_version_id, version, new=True)

    def run(
        self, uploaded: Uploaded, name: str, arguments: Mapping[str, Any], *, service_account: str = ""
    ) -> str:
        """Start a run; its id. Raises BackendRefused."""
        experiment = self._experiment()
        started = _asked(
            lambda: self._client.run_pipeline(
                experiment,
                name,
                params=dict(arguments),
                pipeline_id=uploaded.pipeline,
                version_id=uploaded.version,
                service_account=service_account or None,
            )
        )
        return str(started.run_id)

    def wait(self, run: str, seconds: float) -> str:
        """State in which a run ended: SUCCEEDED, FAILED, ... Raises BackendRefused when it has not by then."""
        return str(_asked(lambda: self._client.wait_for_run_completion(run, int(seconds)).state))

    def schedule(
        self,
        uploaded: Uploaded,
        name: str,
        cron: str,
        arguments: Mapping[str, Any],
        *,
        service_account: str = "",
    ) -> str:
        """Run it at the times of `cron` (six fields, seconds first), one run at a time and none made up for; its id. A schedule of the same
        name is replaced, the new one being there before the old one goes. Raises BackendRefused."""
        experiment = self._experiment()
        before = self._schedules(name, experiment)
        made = _asked(
            lambda: self._client.create_recurring_run(
                experiment,
                name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(arguments),
                pipeline_id=uploaded.pipeline,
                version_id=uploaded.version,
                service_account=service_account or None,
            )
        )
        for old in before:
            _asked(lambda old=old: self._client.delete_recurring_run(old))
        return str(made.recurring_run_id)

    def _experiment(self) -> str:
        return str(
            _asked(
                lambda: self._client.create_experiment(EXPERIMENT, namespace=self._namespace)
            ).experiment_id
        )

    def _version(self, pipeline: str, name: str) -> str | None:
        token = ""
        while True:
            page = _asked(
                lambda token=token: self._client.list_pipeline_versions(
                    pipeline, page_token=token, page_size=_PAGE
                )
            )
            for each in page.pipeline_versions or []:
                if each.display_name == name:
                    return str(each.pipeline_version_id)
            token = page.next_page_token or ""
            if not token:
                return None

    def _schedules(self, name: str, experiment: str) -> list[str]:
        token, found = "", []
        while True:
            page = _asked(
                lambda token=token: self._client.list_recurring_runs(
                    page_token=token, page_size=_PAGE, experiment_id=experiment
                )
            )
            found += [
                each.recurring_run_id for each in page.recurring_runs or [] if each.display_name == name
            ]
            token = page.next_page_token or ""
            if not token:
                return found


def _asked(call: Any) -> Any:
    """What the backend answers; what it refuses and a backend that is not there in our words."""
    import kfp_server_api
    import urllib3

    try:
        with contextlib.redirect_stdout(sys.stderr):  # kfp prints links; stdout is for the result
            return call()
    except kfp_server_api.ApiException as error:
        words = " ".join(str(error.body or error.reason).split())[:500]
        raise BackendRefused(f"Kubeflow Pipelines answers {error.status}: {words}") from error
    except (urllib3.exceptions.HTTPError, OSError, RuntimeError, TimeoutError) as error:
        raise BackendRefused(f"Kubeflow Pipelines can't be reached: {str(error).splitlines()[0]}") from error


__all__ = ["EXPERIMENT", "BackendRefused", "Remote", "Uploaded", "check_arguments"]
