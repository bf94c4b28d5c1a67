"""`clickmill experiment demo`: design, traffic through two bundles, split check, verdict and report, on the simulated market."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import AsJson, Bars, print_json, result, words
from clickmill.command.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    from clickmill.bundle import Bundle
    from clickmill.data import PreparedDataset
    from clickmill.experiment.findings import Analysis

SLOTS = (1.0, 0.72, 0.55)
"""P(a user looks at slot 1, 2, 3): an experiment shows the best three of a request's six ads."""
WORLD_SLOTS = 6
DAYS = 12
PAGES = {
    "better": "1. A better model",
    "null": "2. Nothing changed",
    "broken": "3. A broken split",
}
PRIORS = {"control": 100_000.0, "treatment": 1.0}
"""linear_l2 of the two bundles: a prior so strong that the control hardly tells ads apart, and the default."""


def demo(
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for everything the demo writes; an earlier demo in it is replaced."
        ),
    ] = Path("out/experiment"),
    impressions: Annotated[
        int,
        typer.Option(
            min=100_000, help="Impressions to simulate; six in ten are the experiment's candidates."
        ),
    ] = 400_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the market, the training and the clicks.")] = 0,
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="Contract of the simulated market.")
    ] = Path("contracts/world.yaml"),
    json: AsJson = False,
) -> None:
    """Run three experiments on a simulated market: a better model, a change that is none, and a split that is broken.

    Trains two small bundles on the first days (lr at its defaults, and one whose prior lets it learn little), lets each rank the requests of its users on the later ones, draws the clicks
    from the market's own true probabilities, and analyses what was logged as `analyze` does: the answers can be held against the truth.
    About two minutes on 2 cores.

    [bold]Exit status[/bold]: 0 it ran to its end, whatever the answers; 1 something failed.
    """
    from clickmill.experiment.reading import analyse_log
    from clickmill.experiment.report import page

    _clear(out)
    began = time.monotonic()
    dataset = _market(out, impressions, seed, contract)
    bundles = {arm: _bundle(out, dataset, arm, seed) for arm in PRIORS}
    traffic = _Traffic(out, dataset, bundles, seed)
    truth = traffic.truth()
    _design(out, traffic)
    found: dict[str, Analysis] = {}
    for name, title in PAGES.items():
        spec = traffic.spec(name)
        path = traffic.log(name, spec)
        analysis = analyse_log(spec, [path])
        found[name] = analysis
        (out / f"{name}.html").write_text(page(analysis, note=_note(name, truth)))
        (out / f"{name}.json").write_text(analysis.model_dump_json(indent=2) + "\n")
        _tell(title, analysis, truth if name != "null" else 0.0)
    pages = {name: str((out / f"{name}.html").resolve()) for name in PAGES}
    seconds = time.monotonic() - began
    if json:
        print_json(
            {
                "true_lift": truth,
                "seconds": seconds,
                "reports": pages,
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
    ours = {"world", "dataset", "bundles", "training", "logs", "design.svg"} | {
        f"{name}.{kind}" for name in PAGES for kind in ("html", "json", "yaml")
    }
    foreign = sorted(
        p.name for p in out.iterdir() if p.name not in ours and not p.name.startswith("dataset.")
    )
    if foreign:
        raise UsageError(
            f"{out}: holds {foreign[0]!r}, which no experiment demo wrote; name another folder with --out"
        )
    shutil.rmtree(out)
    out.mkdir(parents=True)


def _market(out: Path, impressions: int, seed: int, contract: Path) -> PreparedDataset:
    from clickmill import contract as contracts
    from clickmill.data import Fractions, PrepareOptions, prepare
    from clickmill.data.world import WorldConfig, write

    words.print("\n[bold]The market, and two bundles that learned from its first days[/]")
    config = WorldConfig(
        impressions=impressions,
        seed=seed,
        days=DAYS,
        n_users=max(impressions // 20, 2_000),
        slots_min=WORLD_SLOTS,
        slots_max=WORLD_SLOTS,
        examination=(1.0, 0.72, 0.55, 0.44, 0.36, 0.3),
    )
    world = out / "world"
    with Bars() as bars:
        write(config, world, progress=bars)
        return prepare(
            world / "impressions",
            contracts.load(contract),
            out / "dataset",
            clicks=world / "clicks",
            truth=world / "truth",
            options=PrepareOptions(
                fractions=Fractions(train=0.32, validation=0.04, calibration=0.04, test=0.6), seed=seed
            ),
            progress=bars,
        )


def _bundle(out: Path, dataset: PreparedDataset, arm: str, seed: int) -> Bundle:
    start_tensorflow()
    from clickmill import bundle as bundles
    from clickmill import features, training

    with Bars() as bars:
        space = features.fit(dataset)
        config = training.TrainingConfig(epochs=1, linear_l2=PRIORS[arm], seed=seed)
        trained = training.train(
            dataset, space, "lr", config=config, out=out / "training" / arm, progress=bars
        )
        return bundles.build_bundle(
            trained, dataset, out / "bundles" / arm, seed=seed, resamples=20, progress=bars
        )


class _Traffic:
    """The later days of the market, ranked by one bundle or the other."""

    def __init__(self, out: Path, dataset: PreparedDataset, bundles: dict[str, Bundle], seed: int) -> None:
        import numpy as np
        import pyarrow as pa

        from clickmill import bundle as scoring
        from clickmill.experiment.market import Candidates

        self.out, self.seed = out, seed
        names = [
            "request_id",
            "user_id",
            "event_time",
            "bid",
            "position",
            "true_pctr",
            "device_os",
            "segment",
        ]
        self.rows = dataset.columns("test", names).combine_chunks()
        earlier = ["user_id", "event_time", "device_os", "segment", "bid", "label"]
        splits = ("train", "validation", "calibration")
        self.before = pa.concat_tables([dataset.columns(split, earlier) for split in splits]).combine_chunks()
        seen = np.array((1.0, 0.72, 0.55, 0.44, 0.36, 0.3))[self.rows["position"].to_numpy() - 1]
        self.candidates = Candidates(
            self.rows["request_id"].to_numpy(),
            self.rows["bid"].to_numpy().astype(np.float64),
            self.rows["true_pctr"].to_numpy().astype(np.float64) / seen,
        )
        with Bars() as bars:
            self.pctr = {
                arm: scoring.score(bundle, dataset, "test", progress=bars).astype(np.float64)
                for arm, bundle in bundles.items()
            }
        self.digests = {arm: bundle.digest for arm, bundle in bundles.items()}
        self.uniform = np.random.default_rng([seed, 1]).random(len(self.rows))

    def truth(self) -> float:
        """Lift of the click rate if everybody were ranked by the treatment, by the market's own probabilities."""
        import numpy as np

        from clickmill.experiment.market import expected

        rates = {
            arm: np.divide(*expected(self.candidates, self.pctr[arm], np.array(SLOTS))) for arm in PRIORS
        }
        return float(rates["treatment"] / rates["control"] - 1)

    def spec(self, name: str) -> Any:
        from clickmill.experiment import ExperimentSpec
        from clickmill.experiment.spec import dumps

        start = self.rows["event_time"][0].as_py()
        other = "control" if name == "null" else "treatment"
        spec = ExperimentSpec.model_validate(
            {
                "name": f"demo-{name}",
                "question": {
                    "better": "Does the model that learned more from the log beat the cautious one?",
                    "null": "Does a change that changes nothing beat the cautious model?",
                    "broken": "The better model again, but its answers get lost on some phones",
                }[name],
                "arms": {
                    "control": {
                        "bundle": self.digests["control"],
                        "description": "lr, with a prior so strong that it learns little",
                    },
                    "treatment": {
                        "bundle": self.digests[other],
                        "description": "lr at its defaults"
                        if other == "treatment"
                        else "the control's bundle again",
                    },
                },
                "control": "control",
                "start": start,
                "primary": "ctr",
                "guardrails": {"rpm": 0.15},
                "secondary": ["revenue_per_user", "clicks_per_user"],
                "minimal_effect": 0.02,
                "planned_impressions": len(self.rows) // 2,
                "slices": ["device_os", "segment"],
                "pre_days": 4,
            }
        )
        (self.out / f"{name}.yaml").write_text(dumps(spec))
        return spec

    def log(self, name: str, spec: Any) -> Path:
        """Serve the requests, each by the bundle of its user's arm, and write the experiment's log."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        from clickmill.experiment.assignment import assign_all
        from clickmill.experiment.market import show

        users = pc.dictionary_encode(self.rows["user_id"]).combine_chunks()
        arms = np.array(assign_all(spec, users.dictionary)["arm"].to_pylist())[users.indices.to_numpy()]
        treated = arms == "treatment"
        other = "control" if name == "null" else "treatment"
        shown = show(
            self.candidates,
            np.where(treated, self.pctr[other], self.pctr["control"]),
            np.array(SLOTS),
            self.uniform,
        )
        table = self.rows.take(pa.array(shown.candidate))
        log = pa.table(
            {
                "user_id": table["user_id"],
                "arm": pa.array(arms[shown.candidate], pa.string()),
                "time": table["event_time"],
                "clicked": pa.array(shown.clicked.astype(np.int8)),
                "revenue": pa.array(shown.revenue),
                "device_os": table["device_os"],
                "segment": table["segment"],
            }
        )
        if name == "broken":
            log = log.filter(_reaches_the_log(log))
        path = self.out / "logs" / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.concat_tables([self.earlier(), log]), path)
        return path

    def earlier(self) -> Any:
        """What was logged before the start: nobody has an arm, all were ranked by the market's own policy."""
        import numpy as np
        import pyarrow as pa

        rows = self.before
        clicked = rows["label"].to_numpy().astype(np.int8)
        return pa.table(
            {
                "user_id": rows["user_id"],
                "arm": pa.nulls(len(rows), pa.string()),
                "time": rows["event_time"],
                "clicked": pa.array(clicked),
                "revenue": pa.array(clicked * rows["bid"].to_numpy().astype(np.float64)),
                "device_os": rows["device_os"],
                "segment": rows["segment"],
            }
        )


def _reaches_the_log(log: Any) -> Any:
    """The fault: the new model is too slow for some old phones, whose page gives up before it logs anything. Those users are gone."""
    import pyarrow as pa
    import pyarrow.compute as pc

    old = pc.is_in(pc.utf8_slice_codeunits(log["user_id"], -1), value_set=pa.array(["1", "3", "5", "7"]))
    lost = pc.and_(pc.and_(pc.equal(log["arm"], "treatment"), pc.equal(log["device_os"], "android")), old)
    return pc.invert(lost)


def _design(out: Path, traffic: _Traffic) -> None:
    """What the days before say of the traffic that is needed."""
    import duckdb

    from clickmill.experiment import ExperimentSpec, plots
    from clickmill.experiment import design as designs
    from clickmill.experiment.log import Source
    from clickmill.experiment.user_sums import UserSums

    words.print("\n[bold]Design, from the days before[/]")
    with duckdb.connect() as connection:
        earlier = traffic.earlier()
        connection.register("earlier", earlier)
        # One group of everybody, as two arms of which one would be enough: moments of users are what is wanted.
        sql = "SELECT * REPLACE (CASE WHEN hash(user_id) % 2 = 0 THEN 'a' ELSE 'b' END AS arm) FROM earlier"
        whole = ExperimentSpec.model_validate(
            {"name": "before", "arms": {"a": {}, "b": {}}, "control": "a", "primary": "ctr"}
        )
        sums = UserSums(connection, Source(sql, frozenset(earlier.column_names), "the days before"), whole)
        one, other = sums.until(sums.last_look).values()
    baseline = designs.measured(one.merged(other), whole.metric("ctr"))
    span = (
        traffic.rows["event_time"][-1].as_py() - traffic.rows["event_time"][0].as_py()
    ).total_seconds() / 86_400
    n = len(traffic.rows) // 2
    plan = designs.Plan(comparisons=2, any_time=True)
    least = designs.minimal_effect(baseline, plan, n)
    (out / "design.svg").write_bytes(plots.detectable(baseline, plan, n / span, 28))
    result.print(
        f"click rate {baseline.value:.2%}; users who come back cost a factor of {baseline.design_effect:.2f}; "
        f"{n:,} impressions in {span:.1f} days find lifts from {least:.1%} on, looked at any time (power 80 %)"
    )


def _note(name: str, truth: float) -> str:
    told = {
        "better": f"Simulated: the true lift is {truth:+.1%}.",
        "null": "Simulated: both arms are ranked by the same bundle, the true lift is 0.",
        "broken": f"Simulated: the true lift is {truth:+.1%}, but two fifths of the treatment's Android users never reach the log.",
    }
    return told[name]


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


def _tell(title: str, analysis: Analysis, truth: float) -> None:
    from clickmill.command.experiment_analyze import print_answer

    result.print(f"\n[bold]{title}[/]  (true lift {100 * truth:+.1f} %)")
    print_answer(analysis)
