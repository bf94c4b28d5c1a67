"""`clickmill experiment off-policy`: what another policy would have earned, from a log with propensities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import AsJson, print_facts, print_json, result, words
from clickmill.command.experiment_analyze import Attribution

if TYPE_CHECKING:
    from clickmill.experiment.off_policy import LoggedRows, OffPolicyResult, OffPolicySettings


def off_policy(
    log: Annotated[
        Path,
        typer.Argument(
            help="Log of impressions, Parquet or CSV: a file or a folder. With --clicks: the prediction log of an endpoint that explores."
        ),
    ],
    propensity: Annotated[
        str | None,
        typer.Option(
            help="Column: chance that the logging policy shows this ad in this place; or a list per place, as the simulated market's slot_chances. "
            "With --clicks: `propensity`."
        ),
    ] = None,
    clicks: Annotated[
        Path | None,
        typer.Option(
            help="Click log to join with a prediction log: impression_id, click_time, perhaps price (then --reward revenue is there too). "
            "The policy in question is `greedy` (no exploring) unless another is named."
        ),
    ] = None,
    attribution: Attribution = 1_800.0,
    reward: Annotated[str, typer.Option(help="Column: click (0 or 1), or money per impression.")] = "click",
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Column: chance that the policy in question shows this ad in this place. Repeat it to compare policies."
        ),
    ] = None,
    target_log: Annotated[
        Path | None,
        typer.Option(
            help="Log of the policy in question; its share of each ad in each place is its chance. Its rewards are not read."
        ),
    ] = None,
    target_uniform: Annotated[
        bool,
        typer.Option(
            "--target-uniform", help="Evaluate a policy that draws uniformly among the ads of the log."
        ),
    ] = False,
    ad: Annotated[
        str | None,
        typer.Option(help="Column: the id of the ad. Needed by --target-log and --target-uniform."),
    ] = None,
    place: Annotated[
        str | None, typer.Option(help="Column: the slot in which the ad was shown (1 is the top).")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Column: rows with one value are not independent (request_id, user_id). Default: rows are; with --clicks request_id."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Column: reward model's value of the ad shown. With --model-target: DM and DR."),
    ] = None,
    model_target: Annotated[
        str | None, typer.Option(help="Column: reward model's value of what --target would show.")
    ] = None,
    interval: Annotated[
        str, typer.Option(help="bootstrap, normal or bernstein (IPS with --clip only).")
    ] = "bootstrap",
    level: Annotated[float, typer.Option(help="Confidence level of the intervals.")] = 0.95,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Clip importance weights at this value: less variance, at the price of a downward bias, which is reported."
        ),
    ] = None,
    reward_max: Annotated[float, typer.Option(help="Largest reward there can be.")] = 1.0,
    seed: Annotated[
        int, typer.Option(help="Seed of the bootstrap and of the folds of the reward model.")
    ] = 0,
    json: AsJson = False,
) -> None:
    """Estimate what another policy would have earned on the traffic of a log.

    `clickmill experiment off-policy random.csv.gz --propensity propensity_score --target-log bts.csv.gz --ad item_id --place position`

    `clickmill experiment off-policy out/log --clicks out/clicks` says what `clickmill serve --explore` costs or brings at once, against not exploring.

    Each row is weighed by target / propensity: IPS and SNIPS; DM and DR beside them with a reward model (with --target-log and
    --target-uniform one is made of counts, cross-fitted). The verdict is better, worse or unknown, against the policy that wrote the log.
    Too few effective rows, heavy weights or ads that the log never shows make it unknown, and the reasons are printed.

    [bold]Exit status[/bold]: 0 judged (unknown is a judgement too), 1 the log cannot be used, 2 wrong usage.
    """
    from pydantic import ValidationError

    from clickmill.errors import UsageError
    from clickmill.experiment.off_policy import OffPolicySettings, evaluate

    try:
        settings = OffPolicySettings.model_validate(
            {"interval": interval, "level": level, "clip": clip, "reward_max": reward_max, "seed": seed}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "settings"
        raise UsageError(f"--{where.replace('_', '-')}: {problem['msg']}") from error
    if clicks is not None:
        propensity, cluster = propensity or "propensity", cluster or "request_id"
        if not target and target_log is None and not target_uniform:
            target = ["greedy"]
    if propensity is None:
        raise UsageError("which column has the chance of what was shown? Give --propensity COLUMN")
    policies = _policies(
        log,
        None if clicks is None else (clicks, attribution),
        propensity,
        reward,
        target or [],
        target_log,
        target_uniform,
        ad,
        place,
        cluster,
        model,
        model_target,
        seed,
    )
    found = {name: evaluate(rows, settings) for name, rows in policies.items()}
    if json:
        print_json({name: one.model_dump(mode="json") for name, one in found.items()})
        return
    for name, one in found.items():
        _tell(name, one, settings)
    if len(found) > 1:
        _tell_order(policies, found, settings)


def _policies(
    log: Path,
    clicks: tuple[Path, float] | None,
    propensity: str,
    reward: str,
    targets: list[str],
    target_log: Path | None,
    uniform: bool,
    ad: str | None,
    place: str | None,
    cluster: str | None,
    model: str | None,
    model_target: str | None,
    seed: int,
) -> dict[str, LoggedRows]:
    from datetime import timedelta

    import numpy as np

    from clickmill.errors import UsageError
    from clickmill.experiment.off_policy import LoggedRows, Shares, cell_rates, shares
    from clickmill.experiment.off_policy.reading import chances, clicked, columns, numbers

    if (target_log is not None or uniform) and ad is None:
        raise UsageError(
            "--target-log and --target-uniform need --ad, the column that says which ad was shown"
        )
    if not targets and target_log is None and not uniform:
        raise UsageError("which policy? Give --target COLUMN, --target-log LOG or --target-uniform")
    if (model is None) != (model_target is None):
        raise UsageError("--model and --model-target go together")
    if model is not None and (len(targets) != 1 or target_log is not None or uniform):
        raise UsageError(
            "--model-target belongs to one --target; give one, without --target-log or --target-uniform"
        )
    asked = [reward, propensity, *targets, *filter(None, [ad, place, cluster, model, model_target])]
    if clicks is None:
        frame = columns(log, asked)
    else:
        joined = clicked(log, clicks[0], asked, attribution=timedelta(seconds=clicks[1]))
        frame = joined.frame
        if joined.without:
            words.print(
                f"left out, as no explorer showed them: {joined.without:,} impressions without a propensity"
            )
    common: dict[str, Any] = {
        "reward": numbers(frame, reward),
        "propensity": chances(frame, propensity, place),
        "cluster": None if cluster is None else frame[cluster].to_numpy(),
    }
    rows = {
        name: LoggedRows.checked(
            **common,
            target=chances(frame, name, place),
            model=None if model is None else numbers(frame, model),
            model_target=None if model_target is None else numbers(frame, model_target),
        )
        for name in targets
    }
    if ad is None:
        return rows
    places = np.ones(len(frame), np.int64) if place is None else frame[place].to_numpy()
    counted: dict[str, Shares] = {}
    if target_log is not None:
        other = columns(target_log, filter(None, [ad, place]))
        counted[str(target_log)] = shares(
            np.ones(len(other), np.int64) if place is None else other[place].to_numpy(), other[ad].to_numpy()
        )
    if uniform:
        counted["uniform"] = Shares.uniform(places, frame[ad].to_numpy())
    for name, policy in counted.items():
        LoggedRows.checked(
            **common, target=np.zeros(len(frame))
        )  # the reward is sound before anything is fitted to it
        shown, wanted = cell_rates(common["reward"], places, frame[ad].to_numpy(), policy, seed=seed)
        rows[name] = LoggedRows.checked(
            **common, target=policy.of(places, frame[ad].to_numpy()), model=shown, model_target=wanted
        )
    return rows


def _tell(name: str, found: OffPolicyResult, settings: OffPolicySettings) -> None:
    saw = found.diagnostics
    facts: dict[str, Any] = {"logging policy": _range(found.logged)}
    for method, estimate in found.estimates.items():
        facts[method.upper() + (" (goes by)" if method is found.method else "")] = _range(estimate)
    weight = saw.mean_weight
    shape = "" if saw.pareto_shape is None else f"; Pareto shape {saw.pareto_shape:.2f}"
    facts |= {
        "difference": _range(found.difference),
        "verdict": "\n".join([found.verdict.upper(), *found.reasons]),
        "rows": f"{saw.rows:,} in {saw.clusters:,} clusters, {saw.rewarded:,} with reward and weight; worth {saw.effective_rows:,.0f} of the target's own",
        "weights": f"mean {weight.value:.3f} ({weight.low:.3f} to {weight.high:.3f}), largest {saw.most_weight:,.4g}, the heaviest 1 % of the rows "
        f"hold {saw.top_share:.0%}{shape}",
    }
    if settings.clip is not None:
        facts["clipped"] = (
            f"{saw.clipped_rows:,} rows at {settings.clip:g}; takes {saw.clip_missing:.3g} from IPS by what the log shows, "
            f"{saw.clip_missing_at_most:.3g} at most"
        )
    print_facts(f"{name}: reward per impression, {settings.level:.0%} {settings.interval} intervals", facts)


def _tell_order(
    policies: dict[str, LoggedRows], found: dict[str, OffPolicyResult], settings: OffPolicySettings
) -> None:
    from clickmill.experiment.off_policy import compare

    best, *others = sorted(found, key=lambda name: -found[name].estimates[found[name].method].value)
    for other in others:
        method = found[other].method if found[other].method == found[best].method else None
        if method is None:
            result.print(
                f"{best} and {other} were judged by different methods; give both a reward model to compare them"
            )
            continue
        one, two = policies[best].clipped(settings.clip), policies[other].clipped(settings.clip)
        gap = compare(one, two, method, level=settings.level)
        sure = "" if gap.low > 0 else "  (may be 0)"
        result.print(f"{best} minus {other}: {_range(gap)}{sure}", soft_wrap=True)


def _range(estimate: Any) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"
