"""Labelled impressions as they were known at a moment: who is too young, how fast clicks come in, and rows with fake negatives."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from clickmill.contract import FeatureContract, Role
from clickmill.data.aggregates import CLICKED_AT
from clickmill.data.attribution import JoinReport, label_of
from clickmill.data.delay import DelayedClicks, Ripeness, fit_delays
from clickmill.data.formats import ROW
from clickmill.data.options import PrepareOptions
from clickmill.errors import DataError, UsageError


def refuse_without_clicks(options: PrepareOptions) -> None:
    """Raises UsageError for options that ask when clicks came, where there is no click log to tell."""
    asked = {
        "as_of": options.as_of is not None,
        "wait": options.wait > timedelta(0),
        "delayed_clicks": options.delayed_clicks is not DelayedClicks.IGNORE,
    }
    for name, given in asked.items():
        if given:
            raise UsageError(
                f"preparation.{name} asks when clicks came, which only a click log tells; give it, or leave {name} out"
            )


def ripeness_of(
    labelled: ibis.Table, contract: FeatureContract, join: JoinReport, options: PrepareOptions
) -> Ripeness | None:
    """What was known at the moment of learning; None where nothing is to be done about it.

    labelled: what `join_clicks` gives, all of it: the young impressions tell of the delay as well. Raises DataError without a click.
    """
    if options.delayed_clicks is DelayedClicks.IGNORE or join.as_of is None:
        return None
    shown, clicked = labelled[_clock(contract)], labelled[_click_time(contract)]
    known = labelled.filter(clicked.notnull() & (shown < ibis.literal(join.as_of)))
    times = known.select(shown=shown, clicked=clicked).to_pyarrow()
    shown_us, clicked_us = (
        times[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        for name in ("shown", "clicked")
    )
    age = np.minimum(round(join.as_of.timestamp() * 1e6) - shown_us, options.window.total_seconds() * 1e6)
    curve = fit_delays((clicked_us - shown_us) / 1e6, age / 1e6)
    if curve is None:
        raise DataError(
            f"no click is known by {join.as_of:%Y-%m-%d %H:%M:%S} UTC, so that nothing can be said of their delay; move as_of, or "
            "leave delayed_clicks out"
        )
    return Ripeness(
        as_of=join.as_of,
        later_is_ripe=options.as_of is not None,
        treatment=options.delayed_clicks,
        curve=curve,
    )


def waited(
    labelled: ibis.Table, contract: FeatureContract, join: JoinReport, options: PrepareOptions
) -> ibis.Table:
    """Without the impressions that were younger than the waiting window at the moment of learning."""
    if join.as_of is None or options.wait <= timedelta(0):
        return labelled
    shown = labelled[_clock(contract)]
    ripe = shown <= ibis.literal(join.as_of - options.wait)
    if options.as_of is not None:
        ripe = ripe | (shown >= ibis.literal(options.as_of))
    return labelled.filter(ripe)


def with_fake_negatives(part: ibis.Table, contract: FeatureContract) -> ibis.Table:
    """Every impression of `part` as a non-click, and the clicked ones once more as a click (Ktena et al., "Addressing Delayed Feedback for
    Continuous Training with Neural Networks in CTR Prediction", RecSys 2019, section 4).

    Both rows stand at the time of the impression, the non-click first, not when they were heard of as in the paper: of young impressions
    few clicks are known, which the loss knows how to weigh, while clicks of older impressions that come in their stead would bring the
    features of an earlier day.
    """
    label = label_of(contract)
    no = ibis.literal(0).cast(part[label].type())
    everything = part.mutate(**{label: no, ROW: 2 * part[ROW]})
    clicks = part.filter(part[label].cast("int64") == 1)
    return everything.union(clicks.mutate(**{ROW: 2 * clicks[ROW] + 1}))


def _clock(contract: FeatureContract) -> str:
    return str(contract.of_role(Role.EVENT_TIME))


def _click_time(contract: FeatureContract) -> Any:
    return contract.of_role(Role.CLICK_TIME) or CLICKED_AT
