"""Labelled impressions as they were known at a moment: who is too young, how fast clicks come in, and the stream of what was heard of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import ibis
import numpy as np
import pyarrow as pa

from clickmill.contract import FeatureContract, Role
from clickmill.data import engine
from clickmill.data.aggregates import CLICKED_AT
from clickmill.data.attribution import JoinReport, label_of
from clickmill.data.delay import DelayedClicks, Ripeness, fit_delays
from clickmill.data.options import PrepareOptions
from clickmill.errors import DataError, UsageError

HEARD = "__heard_of__"
"""Column of a stream: when the platform heard of the row, the showing of an impression or its click."""


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


def stream_splits(
    labelled: ibis.Table,
    contract: FeatureContract,
    parts: Mapping[str, ibis.Table],
    ripeness: Ripeness,
    options: PrepareOptions,
) -> dict[str, ibis.Table]:
    """Train and validation as the stream of what was heard of, with `__heard_of__`: each impression as a non-click when it was shown, and
    again as a click when its click came (Ktena et al., "Addressing Delayed Feedback for Continuous Training with Neural Networks
    in CTR Prediction", RecSys 2019, section 4).

    parts: the splits by time of the impression; the stream is cut where they are. It begins one attribution window after the log, so
    that every click it hears of has its impression in the log: the clicks of older impressions are as many as those still to come.
    Raises DataError when the log is too short for that.
    """
    label, shown, clicked = label_of(contract), _clock(contract), _click_time(contract)
    first = engine.one_row(labelled.aggregate(t=labelled[shown].min()))["t"] + options.window
    starts = {name: engine.one_row(part.aggregate(t=part[shown].min()))["t"] for name, part in parts.items()}
    if not first < starts["validation"]:
        raise DataError(
            f"delayed_clicks: fake_negatives needs a log longer than the attribution window: train would begin at {first:%Y-%m-%d %H:%M} "
            f"UTC and end at {starts['validation']:%Y-%m-%d %H:%M}. Give a longer log, a shorter window, or delayed_clicks: delay_weights"
        )
    no, yes = (ibis.literal(value).cast(labelled[label].type()) for value in (0, 1))
    everything = labelled.mutate(**{HEARD: labelled[shown], label: no})
    clicks = labelled.filter(labelled[clicked].notnull())
    stream = everything.union(clicks.mutate(**{HEARD: clicks[clicked], label: yes}))
    bounds = {
        "train": (first, starts["validation"]),
        "validation": (starts["validation"], starts["calibration"]),
    }
    return {
        name: stream.filter((stream[HEARD] >= ibis.literal(begin)) & (stream[HEARD] < ibis.literal(end)))
        for name, (begin, end) in bounds.items()
    }


def _clock(contract: FeatureContract) -> str:
    return str(contract.of_role(Role.EVENT_TIME))


def _click_time(contract: FeatureContract) -> Any:
    return contract.of_role(Role.CLICK_TIME) or CLICKED_AT
