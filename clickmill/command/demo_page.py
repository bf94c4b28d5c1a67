"""The demo's report: targets beside what was reached, as one HTML page that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clickmill.bundle.card_tables import TARGETS
from clickmill.evaluation import Estimate
from clickmill.evaluation import plots as drawn

if TYPE_CHECKING:
    from clickmill.command.demo_run import DemoRun
    from clickmill.data import PreparedDataset

P99_MS = 10.0
"""The promise of the endpoint at one candidate."""
TITLES = {"auc": "AUC", "normalized_entropy": "NE", "ece_equal_mass": "ECE"}


@dataclass(frozen=True)
class TargetRow:
    """One target of the guide and what the demo reached."""

    title: str
    goal: str
    reached: str
    met: bool
    interval: str = ""
    ceiling: str = ""
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All fields, for `--json`."""
        return asdict(self)


def targets(run: DemoRun) -> list[TargetRow]:
    """Metrics of the served bundle on the test split, and the endpoint's p99 at one candidate."""
    evaluation = run.best.evaluation
    rows = []
    for name, target in TARGETS.items():
        found: Estimate = getattr(evaluation, name)
        best = getattr(evaluation.ceiling, name).value if evaluation.ceiling else None
        rows.append(
            TargetRow(
                title=TITLES[name],
                goal=str(target),
                reached=f"{found.value:.4f}",
                met=target.met_by(found.value),
                interval=f"{found.low:.4f} to {found.high:.4f}",
                ceiling="" if best is None else f"{best:.4f}",
                detail="" if best is None else f"ceiling {best:.4f}",
            )
        )
    single = next(replay.traffic for replay in run.replays if replay.candidates == 1)
    rows.append(
        TargetRow(
            title="p99 at one candidate",
            goal=f"< {P99_MS:g} ms",
            reached=f"{single.p99_ms:.1f} ms",
            met=single.p99_ms < P99_MS and single.errors == 0,
            detail=f"p50 {single.p50_ms:.1f} ms, {single.count:,} requests, {single.errors} failed",
        )
    )
    return rows


def write(run: DemoRun, path: Path) -> Path:
    """Write the page; links are relative to its folder."""
    import jinja2

    from clickmill.data import PreparedDataset

    dataset = PreparedDataset.open(run.result.dataset)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clickmill.command", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("demo.html.j2").render(
        css=files("clickmill.bundle").joinpath("templates/card.css").read_text(),
        lead=_lead(run),
        targets=targets(run),
        data=_data(run, dataset),
        models=_models(run, path.parent),
        decision=run.result.decision,
        reasons=run.result.reasons,
        plots=_plots(run),
        endpoint=_endpoint(run),
        links=_links(run, path.parent),
        next_steps=_next_steps(run),
        footer=_footer(run),
    )
    path.write_text(page)
    return path


def _lead(run: DemoRun) -> str:
    met = [target.met for target in targets(run)]
    return (
        f"{run.world.ceiling.impressions:,} simulated impressions, {len(run.bundles)} models, one served: "
        f"{sum(met)} of {len(met)} targets reached."
    )


def _data(run: DemoRun, dataset: PreparedDataset) -> list[dict[str, str]]:
    meta = dataset.meta
    rows = [
        ("impressions", run.world.ceiling.impressions, f"{run.world.users:,} users, {run.world.ads:,} ads"),
        (
            "rows in quarantine",
            meta.quality.quarantined,
            f"{meta.quality.share:.3%} of the rows broke the contract",
        ),
    ]
    join = meta.join
    if join is not None:
        hours = join.window_s / 3600
        rows += [
            ("click rows", join.clicks, ""),
            ("joined", join.joined, f"within the attribution window of {hours:g} hours"),
            ("late", join.late, "after the window: they count as no click"),
            ("duplicate", join.duplicate, "the first click counts"),
            ("orphan", join.orphan, "clicks on no impression of the log"),
        ]
    for name, split in meta.splits.items():
        days = f"{split.start:%d %b %H:%M} to {split.end:%d %b %H:%M}" if split.start and split.end else ""
        kept = f", {meta.negatives_kept:.0%} of non-clicks kept" if name in ("train", "validation") else ""
        rows.append((f"{name} split", split.rows, f"{split.clicks:,} clicks; {days}{kept}"))
    return [{"what": what, "number": f"{number:,}", "note": note} for what, number, note in rows]


def _models(run: DemoRun, folder: Path) -> list[dict[str, Any]]:
    rows = []
    for name, bundle in sorted(
        run.bundles.items(), key=lambda item: item[1].evaluation.normalized_entropy.value
    ):
        found = bundle.evaluation
        rows.append(
            {
                "name": name,
                "card": os.path.relpath(bundle.path / "card.html", folder),
                "auc": _short(found.auc),
                "ne": _short(found.normalized_entropy),
                "ece": _short(found.ece_equal_mass),
                "ratio": _short(found.calibration_ratio),
                "gap": f"{found.ceiling.auc_gap.value:+.4f}" if found.ceiling else "",
                "best": name == run.result.best_model,
            }
        )
    return rows


def _short(estimate: Estimate) -> str:
    return f"{estimate.value:.4f} ± {(estimate.high - estimate.low) / 2:.4f}"


def _plots(run: DemoRun) -> list[dict[str, str]]:
    evaluation = run.best.evaluation
    pictures = [
        ("Reliability", "Predicted against observed click rate; on the diagonal, pCTR can be multiplied by a bid.",
         drawn.reliability_diagram(evaluation)),
        ("Lift", "Clicks found when only the best-scored share is shown.", drawn.lift_curve(evaluation)),
        ("Latency", "Time to the last byte by share of requests, one line per number of candidates.", _latency(run)),
    ]  # fmt: skip
    return [
        {
            "title": title,
            "caption": caption,
            "data_uri": "data:image/svg+xml;base64," + base64.b64encode(svg).decode(),
        }
        for title, caption, svg in pictures
    ]


def _latency(run: DemoRun) -> bytes:
    import numpy as np

    from clickmill.evaluation.plots import theme

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for replay, colour in zip(run.replays, (theme.BLUE, theme.ORANGE, theme.GREEN), strict=True):
            latency = np.sort(replay.traffic.latency_ms[~np.isnan(replay.traffic.latency_ms)])
            share = np.arange(1, len(latency) + 1) / max(len(latency), 1)
            axes.plot(latency, share, color=colour, lw=1.8, label=f"{replay.candidates} candidates")
        axes.axvline(P99_MS, color=theme.VERMILION, lw=1, ls="--", label=f"promise: {P99_MS:g} ms")
        axes.axhline(0.99, color=theme.QUIET, lw=0.8, ls=":")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(theme.percent)
        axes.set_xlabel("milliseconds from the scheduled send to the last byte")
        axes.set_ylabel("share of requests answered")
        axes.legend(loc="lower right")
        theme.grid(axes)

    single = run.replays[0].traffic
    return theme.draw(
        paint,
        title="Latency of the endpoint",
        subtitle=f"one candidate: p50 {single.p50_ms:.1f} ms, p99 {single.p99_ms:.1f} ms",
        size=(6.4, 4.4),
        fmt="svg",
    )


def _endpoint(run: DemoRun) -> dict[str, Any]:
    rows = []
    for replay in run.replays:
        traffic = replay.traffic
        row = {"candidates": replay.candidates, "requests": f"{traffic.count:,}", "failed": traffic.errors}
        for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("slowest", 1.0)):
            row[name] = f"{traffic.quantile_ms(q):.1f} ms"
        rows.append(row | {"rate": f"{traffic.rate:,.0f}"})
    return {
        "lead": "Test impressions were sent over loopback by V1 at a fixed rate. A latency counts from the time a request "
        "was due, not from when a busy client got round to it. Client and server share this machine's cores.",
        "rows": rows,
        "parity": f"The endpoint's pctr and the bundle's own differ by at most {run.largest_difference:.1e} "
        f"over {run.replayed_rows:,} rows.",
    }


def _links(run: DemoRun, folder: Path) -> list[dict[str, str]]:
    result = run.result
    links = [
        (run.best.path / "card.html", "Model card", "what the served model is, how good, on which slices"),
        (result.quality_report, "Data quality", "what the contract check found"),
        (result.report, "Run report", "each step of the pipeline, its time and its outcome"),
    ]
    return [
        {"href": os.path.relpath(path, folder), "title": title, "what": what} for path, title, what in links
    ]


def _next_steps(run: DemoRun) -> str:
    return (
        f"clickmill serve {run.result.store}            # the endpoint again, on port 8080\n"
        f"clickmill bundle show {run.result.deployed}   # what is served\n"
        "clickmill contract init YOUR_LOG.parquet -o yours.yaml\n"
        "clickmill run YOUR_LOG.parquet --contract yours.yaml"
    )


def _footer(run: DemoRun) -> str:
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in run.seconds.items())
    libraries = ", ".join(f"{name} {version(name)}" for name in ("clickmill", "tensorflow", "kfp", "kserve"))
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. {libraries}. {stages}."
