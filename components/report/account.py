"""The account of a run: how it ended, why, and what each step found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clickmill.bundle.store import Store
from components.pages import Table, Text, facts, html, markdown
from components.step import StepRecord

SUCCEEDED = "SUCCEEDED"


@dataclass(frozen=True)
class Account:
    """What people should know about a run when it is over."""

    headline: str
    parts: tuple[Table | Text, ...]

    def as_markdown(self) -> str:
        """For the Kubeflow UI."""
        return markdown("Run report", self.headline, self.parts)

    def as_html(self) -> str:
        """A page of its own."""
        return html("Run report", self.headline, self.parts)


def account(
    *, state: str, message: str, records: Sequence[StepRecord], models: Sequence[str], store: Path | None
) -> Account:
    """Put the account together.

    `state` and `message` are the pipeline engine's; `records` are the steps' own words, known where the run happened on one
    machine. A failed step's own words go before the engine's, which only says that something failed.
    """
    failed = next((r for r in records if r.outcome == "failed"), None)
    parts: list[Table | Text] = []
    if state == SUCCEEDED:
        headline = "The run went through."
    elif failed is not None:
        headline = f"The run failed in step {failed.step}."
        parts.append(Text("Reason", failed.reason if failed.expected else f"{failed.kind}: {failed.reason}"))
    else:
        headline = f"The run ended as {state}."
        parts.append(
            Text(
                "Reason",
                message or "The pipeline engine gave none; open the step that is red and read its log.",
            )
        )
    if records:
        rows = tuple(
            (r.step, r.outcome, f"{r.seconds:.1f}\N{NO-BREAK SPACE}s", _sentences(r.notes)) for r in records
        )
        parts.append(
            Table(
                "Steps",
                ("step", "outcome", "took", "found"),
                rows,
                "Steps taken from the cache are not listed.",
            )
        )
    parts.append(facts("Asked for", {"models": ", ".join(models), "store": store}))
    if store is not None:
        parts.append(_serving(store))
    return Account(headline, tuple(parts))


def _serving(store: Path) -> Table:
    champion = Store(store).latest_deployed()
    if champion is None:
        return facts("In the store", {"champion": "none yet"})
    manifest = champion.manifest
    return facts(
        "In the store",
        {
            "champion": f"version {champion.version}",
            "model": manifest.model.name,
            "created": manifest.created.isoformat(timespec="seconds"),
            "digest": manifest.digest,
            **dict(sorted(manifest.metrics.items())),
        },
    )


def _sentences(notes: Sequence[str]) -> str:
    return " ".join(note[0].upper() + note[1:].rstrip(".") + "." for note in notes)
