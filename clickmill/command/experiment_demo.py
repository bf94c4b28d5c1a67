"""`clickmill experiment demo`: design, traffic through two served bundles, split check, verdict and report, on the simulated market."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command import experiment_market as market
from clickmill.command.console import AsJson, Bars, print_json, result, words

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from clickmill.bundle import Bundle
    from clickmill.experiment import ExperimentSpec
    from clickmill.experiment.findings import Analysis
    from clickmill.experiment.market import ShownAds

PAGES = {"better": "1. A deeper model", "null": "2. Nothing changed", "broken": "3. A broken split"}
QUESTIONS = {
    "better": "Does DCN-v2 beat logistic regression?",
    "null": "Does a change that changes nothing beat logistic regression?",
    "broken": "DCN-v2 again, but some phones lose its answers",
}
LAST_MONTH = 200_000
"""Impressions of the log that the design is made from: of a market of another seed, as last month's is another month."""
GUARDED = "rpm"
LOST = "7"
"""The fault: of the treatment's users on Android those whose id ends so, a tenth, never reach the log."""


def demo(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for everything the demo writes; an earlier demo in it is replaced."
        ),
    ] = Path("out/experiment"),
    lift: Annotated[
        float,
        typer.Option(
            min=0.02,
            max=0.5,
            help="Least lift of the click rate worth shipping; the design asks for the traffic that finds it. Half of it takes four times as long.",
        ),
    ] = 0.05,
    over_http: Annotated[
        int,
        typer.Option(
            min=1,
            help="Requests of each experiment that are sent to a running endpoint; the others are scored by the same bundles in this process.",
        ),
    ] = 4_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the market, the training and the clicks.")] = 0,
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="Contract of the simulated market.")
    ] = Path("contracts/world.yaml"),
    json: AsJson = False,
) -> None:
    """Run three experiments on a simulated market: a deeper model, a change that is none, and a split that is broken.

    Reads from last month's log how much traffic it takes; trains logistic regression and DCN-v2 on five days; serves both as `clickmill
    experiment run` does and sends the first requests of a week there, each to the bundle of its user's arm; ranks the rest of the week by
    the same bundles in this process; draws the clicks from the market's own true probabilities; and analyses what was logged as `analyze`
    does. The answers can be held against the truth. Three minutes of processor time.

    [bold]Exit status[/bold]: 0 it ran to its end, whatever the answers; 1 something failed.
    """
    from clickmill.experiment.reading import analyse_log
    from clickmill.experiment.report import page

    _clear(out)
    began = time.monotonic()
    planned = _design(out, lift, seed)
    words.print("\n[bold]The market, and two bundles that learned from its first days[/]")
    market.simulate(out / "world", _impressions(planned), seed)
    market.set_apart(out / "world")
    dataset = market.prepared(out, seed, contract)
    bundles = {arm: market.bundle(out, dataset, arm, seed) for arm in market.ARMS}
    week = _Week(out, bundles, seed)
    truth = week.truth()
    found: dict[str, Analysis] = {}
    same: dict[str, float] = {}
    for name, title in PAGES.items():
        words.print(f"\n[bold]{title}[/]")
        spec = week.spec(name, lift, planned)
        path, same[name] = week.log(name, spec, over_http)
        analysis = analyse_log(spec, [path])
        found[name] = analysis
        true = 0.0 if name == "null" else truth
        (out / f"{name}.html").write_text(page(analysis, note=_note(name, true, week, over_http)))
        (out / f"{name}.json").write_text(analysis.model_dump_json(indent=2) + "\n")
        _tell(analysis, true)
    pages = {name: str((out / f"{name}.html").resolve()) for name in PAGES}
    seconds = time.monotonic() - began
    if json:
        print_json(
            {
                "true_lift": truth,
                "planned_impressions": planned,
                "impressions": week.impressions,
                "seconds": seconds,
                "reports": pages,
                "rankings_over_http_as_in_process": same,
                "verdicts": {name: analysis.verdict for name, analysis in found.items()},
                "lifts": {name: _lift(analysis) for name, analysis in found.items()},
            }
        )
    words.print(f"\n{seconds:.0f} s. Reports:")
    for shown in pages.values():
        words.print(f"  [bold]{shown}[/]", soft_wrap=True)


def _clear(out: Path) -> None:
    """Only what a demo made is removed: a mistyped --out must not cost anybody a folder."""
    from clickmill.errors import UsageError

    if not out.exists():
        out.mkdir(parents=True)
        return
    ours = {"last-month", "world", "dataset", "bundles", "store", "servers", "training", "logs", "design.svg"}
    ours |= {f"{name}.{kind}" for name in PAGES for kind in ("html", "json", "yaml")}
    foreign = sorted(
        p.name for p in out.iterdir() if p.name not in ours and not p.name.startswith("dataset.")
    )
    if foreign:
        raise UsageError(
            f"{out}: holds {foreign[0]!r}, which no experiment demo wrote; name another folder with --out"
        )
    shutil.rmtree(out)
    out.mkdir(parents=True)


def _design(out: Path, lift: float, seed: int) -> int:
    """Impressions that last month's log asks for, of both arms, looked at any time: that find the lift, and clear the guardrail of it."""
    import duckdb

    from clickmill.experiment import ExperimentSpec, plots
    from clickmill.experiment import design as designs
    from clickmill.experiment.log import Source
    from clickmill.experiment.user_sums import UserSums

    words.print("\n[bold]Design, from last month's log[/]")
    market.simulate(out / "last-month", LAST_MONTH, seed + 1_000_000)
    log = market.log_of(out / "last-month", "impressions", "impression_id").filter(_from_later("time"))
    with duckdb.connect() as connection:
        connection.register("last_month", log)
        # One group of everybody, as two arms: moments of users are what is wanted.
        sql = "SELECT *, CASE WHEN hash(user_id) % 2 = 0 THEN 'a' ELSE 'b' END AS arm FROM last_month"
        spec = ExperimentSpec.model_validate(
            {"name": "before", "arms": {"a": {}, "b": {}}, "control": "a", "guardrails": {GUARDED: lift}}
        )
        columns = frozenset([*log.column_names, "arm"])
        sums = UserSums(connection, Source(sql, columns, "last month's log"), spec)
        one, other = sums.until(sums.last_look).values()
    plan = designs.Plan(comparisons=2, any_time=True)
    baselines = {name: designs.measured(one.merged(other), spec.metric(name)) for name in ("ctr", GUARDED)}
    needs = {name: designs.impressions(base, lift, plan) for name, base in baselines.items()}
    base, planned = baselines["ctr"], max(needs.values())
    days = market.DAYS - market.DAYS_BEFORE
    (out / "design.svg").write_bytes(plots.detectable(base, plan, planned / days, 28))
    percent = designs.impressions(base, 0.01, plan)
    result.print(
        f"click rate {base.value:.2%}; users who come back cost a factor of {base.design_effect:.2f}. A lift of {lift:.1%}, looked at any time, "
        f"takes {needs['ctr']:,} impressions (power 80 %); to show that revenue does not lose as much {needs[GUARDED]:,}: "
        f"{planned:,} in {days} days. (A lift of 1 % would take {percent:,}.)",
        soft_wrap=True,
    )
    return planned


def _from_later(column: str) -> Any:
    """The part of the days in which an experiment runs."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.field(column) >= pa.scalar(market.LATER, pa.timestamp("us", "UTC"))


def _impressions(planned: int) -> int:
    """Size of a market whose later days show as much as is planned, and a little more: a week is run to its end."""
    share = (market.DAYS - market.DAYS_BEFORE) / market.DAYS
    return round(1.02 * planned / share * len(market.SEEN) / market.SLOTS)


class _Week:
    """The later days of the market, ranked by one bundle or the other."""

    def __init__(self, out: Path, bundles: Mapping[str, Bundle], seed: int) -> None:
        import numpy as np

        from clickmill.experiment.market import Candidates

        self.out, self.contract = out, bundles["control"].contract
        self.traffic = market.traffic(out, self.contract)
        rows = self.traffic.rows
        self.candidates = Candidates(
            self.traffic.request, rows["bid"].to_numpy().astype(np.float64), self.traffic.relevance
        )
        self.pctr = {arm: market.scores(arm, bundle, self.traffic) for arm, bundle in bundles.items()}
        self.digests = {arm: bundle.digest for arm, bundle in bundles.items()}
        self.uniform = np.random.default_rng([seed, 1]).random(len(rows))
        self.seen = np.array(market.SEEN[: market.SLOTS])
        columns = "device_os, segment"
        before = market.log_of(out / "world", "impressions", columns)
        self.earlier = before.append_column("arm", _nobody(len(before)))

    @property
    def impressions(self) -> int:
        """In both arms."""
        return self.traffic.requests * market.SLOTS

    def truth(self) -> float:
        """Lift of the click rate if everybody were ranked by the treatment, by the market's own probabilities."""
        import numpy as np

        from clickmill.experiment.market import expected

        rates = {
            arm: np.divide(*expected(self.candidates, pctr, self.seen)) for arm, pctr in self.pctr.items()
        }
        return float(rates["treatment"] / rates["control"] - 1)

    def spec(self, name: str, lift: float, planned: int) -> ExperimentSpec:
        """Of one of the three; written as YAML beside its report."""
        from clickmill.experiment import ExperimentSpec
        from clickmill.experiment.spec import dumps

        other = self._other(name)
        spec = ExperimentSpec.model_validate(
            {
                "name": f"demo-{name}",
                "question": QUESTIONS[name],
                "arms": {
                    "control": {"bundle": self.digests["control"], "description": market.ARMS["control"]},
                    "treatment": {"bundle": self.digests[other], "description": market.ARMS[other]},
                },
                "control": "control",
                "start": market.LATER,
                "primary": "ctr",
                "guardrails": {GUARDED: lift},
                "secondary": ["revenue_per_user", "clicks_per_user"],
                "minimal_effect": lift,
                "planned_impressions": planned,
                "slices": ["device_os", "segment"],
                "pre_days": market.DAYS_BEFORE,
            }
        )
        (self.out / f"{name}.yaml").write_text(dumps(spec))
        return spec

    def log(self, name: str, spec: ExperimentSpec, over_http: int) -> tuple[Path, float]:
        """Answer the requests, each by the bundle of its user's arm, and write the experiment's log. Also the share of the rankings over
        HTTP that this process would have made as well."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from clickmill.experiment.assignment import assign_all
        from clickmill.experiment.market import show

        rows = self.traffic.rows
        users = pc.dictionary_encode(rows["user_id"])
        users = users.combine_chunks() if isinstance(users, pa.ChunkedArray) else users
        arms = np.array(assign_all(spec, users.dictionary)["arm"].to_pylist())[users.indices.to_numpy()]
        pctr = np.where(arms == "treatment", self.pctr[self._other(name)], self.pctr["control"])
        here = show(self.candidates, pctr, self.seen, self.uniform)
        shown, arms, same = self._sent(spec, over_http, here, arms)
        table = rows.take(pa.array(shown.candidate))
        log = pa.table(
            {
                "user_id": table["user_id"],
                "time": table["event_time"],
                "clicked": pa.array(shown.clicked.astype(np.int8)),
                "revenue": pa.array(shown.revenue),
                "device_os": table["device_os"],
                "segment": table["segment"],
                "arm": pa.array(arms[shown.candidate], pa.string()),
            }
        )
        if name == "broken":
            log = log.filter(_reaches_the_log(log))
        path = self.out / "logs" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.concat_tables([self.earlier, log.cast(self.earlier.schema)]), path)
        return path, same

    def _sent(
        self, spec: ExperimentSpec, over_http: int, here: ShownAds, arms: np.ndarray
    ) -> tuple[ShownAds, np.ndarray, float]:
        """The same with the first requests as the endpoint answered them: what it showed, at which price, in which arm."""
        import numpy as np

        from clickmill.bundle import Store
        from clickmill.command import experiment_http as http
        from clickmill.experiment.market import ShownAds
        from serving.router import running

        request = self.traffic.request
        end = int(np.searchsorted(request, over_http))
        bodies = http.bodies(self.traffic.rows.slice(0, end), request[:end], self.contract, market.SLOTS)
        home = self.out / "servers" / spec.name
        with (
            running(
                spec, Store(self.out / "store"), home, host="127.0.0.1", port=0, prediction_log=None
            ) as experiment,
            Bars() as bars,
        ):
            answers = http.ask(experiment.url, bodies, request[:end], bars)
        at = answers.candidate
        clicked = self.uniform[at] < self.traffic.relevance[at] * self.seen[answers.slot - 1]
        rest = request[here.candidate] >= over_http
        shown = ShownAds(
            np.r_[at, here.candidate[rest]],
            np.r_[answers.slot, here.slot[rest]],
            np.r_[clicked, here.clicked[rest]],
            np.r_[np.where(clicked, answers.price, 0.0), here.revenue[rest]],
        )
        told = arms.copy()
        told[:end] = np.array(answers.arms)[request[:end]]
        if (told[:end] != arms[:end]).any():
            raise AssertionError("the endpoint and the library put a user into different arms")
        ranked_so = np.ones(len(bodies), bool)
        ranked_so[request[at[at != here.candidate[~rest]]]] = False
        words.print(
            f"{len(bodies):,} of {self.traffic.requests:,} requests over HTTP, answered by {len(answers.bundles)} bundle(s); "
            f"{ranked_so.sum():,} of them ranked as this process ranks, as it does the others"
        )
        return shown, told, float(ranked_so.mean())

    def _other(self, name: str) -> str:
        return "control" if name == "null" else "treatment"


def _nobody(rows: int) -> pa.Array:
    import pyarrow as pa

    return pa.nulls(rows, pa.string())


def _reaches_the_log(log: Any) -> Any:
    """The new model is too slow for some phones, whose page gives up before it logs anything. Those users are gone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    some = pc.equal(pc.utf8_slice_codeunits(log["user_id"], -1), pa.scalar(LOST))
    lost = pc.and_(pc.and_(pc.equal(log["arm"], "treatment"), pc.equal(log["device_os"], "android")), some)
    return pc.invert(lost)


def _note(name: str, true: float, week: _Week, over_http: int) -> str:
    """What a simulation knows beside what an experiment can see."""
    told = {
        "better": f"the true lift is {true:+.1%}.",
        "null": "both arms are ranked by the same bundle, the true lift is 0.",
        "broken": f"the true lift is {true:+.1%}, but a tenth of the treatment's Android users never reach the log.",
    }
    sent = min(over_http, week.traffic.requests)
    return (
        f"Simulated: {told[name]} {sent:,} of {week.traffic.requests:,} requests went over HTTP to a running endpoint; the others were "
        "ranked by the same bundles without it."
    )


def _lift(analysis: Analysis) -> dict[str, float] | None:
    effect = analysis.effect("ctr", "treatment")
    return (
        None
        if effect is None
        else {
            "lift": effect.lift,
            "low": effect.low,
            "high": effect.high,
            "variance_kept": effect.variance_kept,
        }
    )


def _tell(analysis: Analysis, truth: float) -> None:
    from clickmill.command.experiment_analyze import print_answer

    result.print(f"true lift {100 * truth:+.1f} %")
    print_answer(analysis)
