"""Are our off-policy estimators those of the Open Bandit Pipeline (obp)? Both on the same rows, obp in an environment of its own.

    python tests/bench/off_policy.py      # drawn bandits; with the Open Bandit sample (CLICKMILL_SAMPLES) also real rows
    python tests/bench/off_policy.py --markets 20      # instead: logs of simulated markets, estimates beside the truth

The second says how often the 95 % intervals hold the truth, and how often three policies are ranked right. The first prints both values of each estimator; exits 1 where they differ by more than 1e-9 of the value. obp requires torch (several GB), which
none of this calls: its environment has an empty stand-in (`off_policy_obp.py`) and takes about 300 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from train_environments import Environment, python

from clickmill.experiment.off_policy import LoggedRows, Method, shares, value
from clickmill.experiment.off_policy.reading import columns

OBP = Environment(
    "obp",
    (
        "numpy==1.26.4",
        "scipy==1.11.4",
        "scikit-learn==1.3.2",
        "pandas==2.1.4",
        "matplotlib==3.11.2",
        "seaborn==0.13.2",
        "pyyaml",
        "tqdm",
        "mypy-extensions",
    ),
    alone=("obp==0.5.7",),
)
SAMPLES = Path(os.environ.get("CLICKMILL_SAMPLES", Path(__file__).parents[3] / "shared" / "data"))
Problem = dict[str, np.ndarray]


def drawn(seed: int) -> Problem:
    """A bandit of 5,000 rounds, ten actions in three places, in obp's own terms."""
    rng = np.random.default_rng(seed)
    n, actions, places = 5000, 10, 3
    logging = rng.dirichlet(np.ones(actions), (n, places))
    position = rng.integers(0, places, n)
    row = np.arange(n)
    cumulative = np.cumsum(logging[row, position], axis=1)
    action = np.minimum((rng.random(n)[:, None] > cumulative).sum(axis=1), actions - 1)
    rate = rng.uniform(0, 0.2, (actions, places))
    return {
        "reward": (rng.random(n) < rate[action, position]).astype(float),
        "action": action,
        "position": position,
        "pscore": logging[row, position, action],
        "action_dist": rng.dirichlet(np.ones(actions), (n, places)).transpose(0, 2, 1),
        "estimated_rewards_by_reg_model": rng.uniform(0, 0.2, (n, actions, places)),
    }


def real(campaign: str) -> Problem:
    """The random log of a campaign, judged for Thompson sampling by its shares; the reward model knows nothing but the mean rate."""
    logs = {
        policy: columns(
            SAMPLES / f"obd_{campaign}" / f"{policy}__{campaign}.csv.gz",
            ["item_id", "position", "click", "propensity_score"],
        )
        for policy in ("random", "bts")
    }
    log, other = logs["random"], logs["bts"]
    target = shares(other["position"], other["item_id"])
    items = int(log["item_id"].max()) + 1
    places, ads = np.meshgrid([1, 2, 3], np.arange(items), indexing="ij")
    table = target.of(places.ravel(), ads.ravel()).reshape(3, items).T
    n = len(log)
    return {
        "reward": log["click"].to_numpy(float),
        "action": log["item_id"].to_numpy(),
        "position": log["position"].to_numpy() - 1,
        "pscore": log["propensity_score"].to_numpy(),
        "action_dist": np.broadcast_to(table, (n, items, 3)),
        "estimated_rewards_by_reg_model": np.full((n, items, 3), log["click"].mean()),
    }


def ours(problem: Problem) -> dict[str, float]:
    row = np.arange(len(problem["reward"]))
    place, action = problem["position"], problem["action"]
    chances, model = (
        problem["action_dist"][row, :, place],
        problem["estimated_rewards_by_reg_model"][row, :, place],
    )
    rows = LoggedRows.checked(
        problem["reward"],
        problem["pscore"],
        chances[row, action],
        model=model[row, action],
        model_target=(chances * model).sum(axis=1),
    )
    return {str(method): value(rows, method) for method in Method}


def on_markets(n: int) -> None:
    """Logs of the noisy revenue ranking; targets that lean more on relevance, more on bids, and the same."""
    from clickmill.data.world import LoggingPolicy, WorldConfig
    from clickmill.experiment.off_policy import evaluate
    from tests.clickmill.experiment.off_policy.logging_market import logged_market

    targets = {
        "relevance": LoggingPolicy(skill=0.75),
        "logged": LoggingPolicy(),
        "money": LoggingPolicy(skill=0.3, bid_weight=0.7),
    }
    held: dict[str, list[bool]] = {method: [] for method in Method}
    ranked: dict[str, list[bool]] = {method: [] for method in Method}
    errors: dict[str, list[float]] = {method: [] for method in Method}
    verdicts: list[tuple[str, str]] = []
    for seed in range(301, 301 + n):
        market = logged_market(
            WorldConfig(impressions=20_000, days=2, n_users=2000, n_ads=200, n_advertisers=20, seed=seed),
            targets,
        )
        found = {name: evaluate(rows) for name, rows in market.rows.items()}
        order = sorted(targets, key=lambda name: -market.truth[name])
        for method in Method:
            values = {name: one.estimates[method] for name, one in found.items()}
            ranked[method].append(sorted(targets, key=lambda name: -values[name].value) == order)
            held[method] += [one.low <= market.truth[name] <= one.high for name, one in values.items()]
            errors[method] += [abs(one.value / market.truth[name] - 1) for name, one in values.items()]
        for name in ("relevance", "money"):
            sign = "better" if market.truth[name] > market.truth["logged"] else "worse"
            verdicts.append((found[name].verdict.value, sign))
    for method in Method:
        print(
            f"{method:<6} intervals hold the truth {sum(held[method])} of {len(held[method])}, three policies ranked right "
            f"{sum(ranked[method])} of {n}, mean error {np.mean(errors[method]):.1%}"
        )
    wrong = sum(said not in ("unknown", is_so) for said, is_so in verdicts)
    known = sum(said != "unknown" for said, _ in verdicts)
    print(f"verdicts against the logging policy: {known} of {len(verdicts)} known, {wrong} of them wrong")


def main() -> int:
    if sys.argv[1:2] == ["--markets"]:
        on_markets(int(sys.argv[2]))
        return 0
    problems = {f"problem_drawn_{seed}": drawn(seed) for seed in range(5)}
    for campaign in ("men", "women"):
        if (SAMPLES / f"obd_{campaign}").is_dir():
            problems[f"problem_obd_{campaign}"] = real(campaign)
        else:
            print(f"no Open Bandit sample ({campaign}) in {SAMPLES}: left out", file=sys.stderr)
    script = Path(__file__).with_name("off_policy_obp.py")
    with tempfile.TemporaryDirectory() as folder:
        for name, problem in problems.items():
            np.savez(Path(folder) / f"{name}.npz", **problem)
        clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        printed = subprocess.run(
            [str(python(OBP)), str(script), folder], check=True, stdout=subprocess.PIPE, text=True, env=clean
        )
    peer = json.loads(printed.stdout.splitlines()[-1])
    worst = 0.0
    for name, problem in problems.items():
        for method, found in ours(problem).items():
            theirs = peer[name][method]
            apart = abs(found - theirs) / max(abs(theirs), 1e-12)
            worst = max(worst, apart)
            print(f"{name:<18} {method:<6} ours {found:.12f}  obp {theirs:.12f}  apart {apart:.1e}")
    print(f"{len(problems)} problems, four estimators: at most {worst:.1e} apart")
    return int(worst > 1e-9)


if __name__ == "__main__":
    raise SystemExit(main())
