"""`clickmill serve --tune`: measures settings of the endpoint here, tells what it found and writes the best to a file."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clickmill.command import serve_settings
from clickmill.command.console import Bars, result, words
from clickmill.command.durations import milliseconds

if TYPE_CHECKING:
    from rich.table import Table

    from serving.tuning import Job, Trial


@dataclass(frozen=True)
class Tuning:
    """What the command line says of it."""

    p99: str
    candidates: int
    protocol: str
    seconds: float
    out: Path


def tune(path: Path, model_name: str | None, asked: Tuning) -> None:
    """Measure, print the table, write the file. Ctrl-C keeps the best so far. Raises UsageError and what the endpoint raises."""
    from serving import tuning

    job = _job(path, model_name, asked)
    words.print(
        f"tuning {path} for p99 <= {job.p99_ms:g} ms at {job.candidates} candidates, {job.speech.value}, on {job.cores} cores that the "
        "load generator shares; every setting is started anew",
        soft_wrap=True,
    )
    tried: list[Trial] = []
    best: Trial | None = None
    stopped = False
    with Bars() as bars:
        bars.start("settings", tuning.ladders(job), "settings")

        def heard(trial: Trial) -> None:
            tried.append(trial)
            setting = trial.setting
            words.print(
                f"[dim]  threads {setting.threads}, batch rows {setting.batch_rows}, wait {setting.batch_wait_us:g} us: p99 {trial.p99_ms:.3g} ms at "
                f"{trial.rate or tuning.SHARES[0] * trial.saturation:,.0f} of at most {trial.saturation:,.0f} requests/s[/]",
                soft_wrap=True,
            )
            bars.advance(1)

        try:
            best = tuning.search(job, heard)
        except KeyboardInterrupt:
            stopped = True
        bars.finish()
    for trial in tried:
        if best is None or (stopped and tuning.better(trial, best)):
            best = trial
    if best is None:
        raise KeyboardInterrupt("before the first setting was measured; nothing is written")
    result.print(_table(tried, best))
    _keep(job, best, asked, stopped)
    if stopped:
        raise KeyboardInterrupt(
            f"after {len(tried)} of {tuning.ladders(job)} settings; the best of them is in {asked.out}. The same command begins anew"
        )


def _keep(job: Job, best: Trial, asked: Tuning, stopped: bool) -> None:
    import numpy as np

    from clickmill import bundle as bundles
    from serving import tuning

    shed = round(tuning.shed_wait_ms(job.p99_ms, best.idle_ms(0.99)), 1)
    if not stopped:
        rate = 1.5 * best.saturation
        load = tuning.under_overload(job, best.setting, shed, rate)
        told = (
            f"at {rate:,.0f} requests/s, half more than it can do, with --shed-wait-ms {shed:g}: {load.ok.mean():.0%} answered, p99 of "
            f"those {np.quantile(load.service_ms[load.ok], 0.99):.3g} ms from when they were sent"
        )
        if np.median(load.late_ms) > 1.0:
            told += "; the load generator could not keep that rate here"
        words.print(told, soft_wrap=True)
    manifest = bundles.read_manifest(job.bundle)
    machine = f"{_processor()}, {job.cores} cores, Python {platform.python_version()}"
    sizes = () if stopped else (1,)
    measured = tuning.figures(job, best, sizes, f"{manifest.name} {manifest.digest[:12]}", machine)
    settings = {**asdict(best.setting), "shed_wait_ms": shed}
    serve_settings.write(asked.out, settings, measured)
    flags = " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in settings.items())
    if not best.rate:
        idle = best.idle_ms(0.99)
        why = (
            "an idle endpoint is slower: send fewer candidates, serve a smaller model, or promise more"
            if idle > job.p99_ms
            else f"already {tuning.SHARES[0]:.0%} of its most breaks it: is the machine busy with something else?"
        )
        words.print(
            f"[bold yellow]no setting keeps p99 within {job.p99_ms:g} ms[/]; idle it has {idle:.3g} ms, and {why}",
            soft_wrap=True,
        )
    result.print(
        f"best: {flags}\nwritten to {asked.out}; use it: clickmill serve {job.bundle} --settings {asked.out}\n"
        f"plan with it: clickmill capacity --qps 100000 --p99 {asked.p99} --candidates {job.candidates} --measured {asked.out}",
        soft_wrap=True,
        markup=False,
    )


def _table(tried: list[Trial], best: Trial) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in (
        "threads",
        "rows",
        "wait us",
        "most/s",
        "idle p50",
        "p99 ms",
        "kept/s",
        "p50 ms",
        "p99 ms",
        "",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for trial in tried:
        setting = trial.setting
        table.add_row(
            str(setting.threads),
            str(setting.batch_rows),
            f"{setting.batch_wait_us:g}",
            f"{trial.saturation:,.0f}",
            f"{trial.idle_ms(0.5):.2f}",
            f"{trial.idle_ms(0.99):.2f}",
            f"{trial.rate:,.0f}" if trial.rate else "none",
            f"{trial.p50_ms:.2f}",
            f"{trial.p99_ms:.2f}",
            "best" if trial is best else "",
        )
    return table


def _job(path: Path, model_name: str | None, asked: Tuning) -> Job:
    from clickmill.bundle import golden
    from clickmill.contract import load
    from clickmill.errors import UsageError
    from serving import tuning
    from serving.load import Speech
    from serving.watcher import source_at

    p99_ms = milliseconds(asked.p99, "--tune-p99")
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give a bundle, or a store of bundles")
    candidates = source_at(path).candidates()
    if not candidates:
        raise UsageError(f"{path} holds no bundle yet; there is nothing to measure")
    bundle = candidates[0].path
    contract = load(bundle / "contract.yaml")
    return tuning.Job(
        bundle=bundle,
        contract=contract,
        raw=golden.read(bundle, contract),
        model_name=model_name or contract.name,
        speech=Speech(asked.protocol),
        candidates=asked.candidates,
        p99_ms=p99_ms,
        seconds=asked.seconds,
        cores=tuning.cores_here(),
    )


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
