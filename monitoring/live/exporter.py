"""Live quality as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names
from monitoring.live.label_join import ALL, Ingested, SliceSums
from monitoring.live.measures import Quality, quality

SLOT = (names.BUNDLE, names.FIELD, names.VALUE, names.WINDOW)
_FIGURES = {
    "impressions": (names.LIVE_IMPRESSIONS, "Impressions whose attribution window is over."),
    "clicks": (names.LIVE_CLICKS, "Clicks on them."),
    "click_rate": (names.LIVE_CLICK_RATE, "Clicks over impressions."),
    "mean_pctr": (names.LIVE_PCTR, "Mean predicted click probability of them."),
    "normalized_entropy": (
        names.LIVE_NE,
        "Log loss over the entropy of the click rate; 1 knows only the rate.",
    ),
    "calibration_ratio": (names.LIVE_CALIBRATION, "Predicted clicks over clicks."),
    "calibration_low": (names.LIVE_CALIBRATION_LOW, "Lower end of its 95 % interval."),
    "calibration_high": (names.LIVE_CALIBRATION_HIGH, "Upper end of its 95 % interval."),
    "auc": (names.LIVE_AUC, "Area under the ROC curve, scores binned by 1/32 logit."),
}


@dataclass(frozen=True)
class Look:
    """One look at the state: what a scrape shows until the next."""

    at: datetime
    slices: Mapping[float, Sequence[SliceSums]]
    """By window in seconds."""
    newest: Mapping[str, datetime | None]
    """Of `prediction` and `click`: the newest that came, None before the first."""


class LiveCollector(Collector):
    """Shows the last look. Counts what was taken in since the process began."""

    def __init__(self) -> None:
        self._look: Look | None = None
        self._rows = {"impression": 0, "not_shown": 0, "fallback": 0, "click": 0, "incomplete_click": 0}
        self._unreadable = 0

    def show(self, look: Look, taken: Ingested) -> None:
        """Replace what is shown; one assignment, so a scrape sees one look whole."""
        self._rows = {
            "impression": self._rows["impression"] + taken.impressions,
            "not_shown": self._rows["not_shown"] + taken.without_impression,
            "fallback": self._rows["fallback"] + taken.fallbacks,
            "click": self._rows["click"] + taken.clicks,
            "incomplete_click": self._rows["incomplete_click"] + taken.incomplete_clicks,
        }
        self._unreadable = len(taken.unreadable)
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape; a figure that can't be given has no series."""
        rows = CounterMetricFamily(
            names.LIVE_ROWS,
            "Rows of the logs by what they were: `not_shown` are predictions without an impression id, `fallback` impressions without a model.",
            labels=[names.OUTCOME],
        )
        for outcome, count in self._rows.items():
            rows.add_metric([outcome], count)
        yield rows
        yield GaugeMetricFamily(
            names.LIVE_UNREADABLE, "Files of either log that can't be read now.", value=self._unreadable
        )
        look = self._look
        if look is None:
            return
        yield GaugeMetricFamily(
            names.LIVE_LOOKED,
            "When the logs were last looked at: monitoring that is itself dead shows no other sign.",
            value=look.at.timestamp(),
        )
        newest = GaugeMetricFamily(
            names.LIVE_NEWEST,
            "Time of the newest prediction and click: a log that stalls stops here.",
            labels=[names.OUTCOME],
        )
        for kind, at in look.newest.items():
            if at is not None:
                newest.add_metric([kind], at.timestamp())
        yield newest
        yield from _figures(look)

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def measured(look: Look) -> Iterator[tuple[float, SliceSums, Quality]]:
    """Each window and slice with its figures."""
    for window, slices in look.slices.items():
        for slice_ in slices:
            yield window, slice_, quality(slice_.labelled, slice_.scores)


def _figures(look: Look) -> Iterator[Metric]:
    families = {
        name: GaugeMetricFamily(series, words, labels=SLOT) for name, (series, words) in _FIGURES.items()
    }
    delay = GaugeMetricFamily(
        names.LIVE_LABEL_DELAY,
        "Seconds from a prediction to its click.",
        labels=[names.BUNDLE, names.WINDOW, names.QUANTILE],
    )
    for window, slice_, figures in measured(look):
        where = [slice_.bundle[:12], slice_.field, slice_.value, f"{window:g}s"]
        for name, family in families.items():
            value = getattr(figures, name)
            if value is not None:
                family.add_metric(where, value)
        if slice_.field == ALL and slice_.delays is not None:
            for quantile, seconds in zip(("0.5", "0.9"), slice_.delays, strict=True):
                delay.add_metric([slice_.bundle[:12], f"{window:g}s", quantile], seconds)
    yield from families.values()
    yield delay


__all__ = ["LiveCollector", "Look", "measured"]
