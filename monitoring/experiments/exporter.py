"""An analysis as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names
from clickmill.experiment.findings import Analysis
from clickmill.release import Verdict

VERDICTS = {Verdict.PASS: 1.0, Verdict.UNKNOWN: 0.0, Verdict.FAIL: -1.0}
"""In between is what is not known: a line that leaves 0 is an answer."""
_BY_ARM = (names.EXPERIMENT, names.ARM)
_BY_METRIC = (names.EXPERIMENT, names.ARM, names.METRIC)


class ExperimentCollector(Collector):
    """Shows the last analysis of one experiment; figures that can't be given have no series."""

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._analysis: Analysis | None = None
        self._looked: datetime | None = None
        self._failed = 0

    def show(self, analysis: Analysis, at: datetime) -> None:
        """Replace what is shown."""
        self._analysis, self._looked = analysis, at

    def failed(self) -> None:
        """Count a look that found a log it can't use; what was shown stays, and grows old."""
        self._failed += 1

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape."""
        failed = CounterMetricFamily(
            names.EXPERIMENT_FAILED_LOOKS, "Looks at a log that could not be used.", labels=[names.EXPERIMENT]
        )
        failed.add_metric([self._experiment], self._failed)
        yield failed
        families = _families()
        if self._analysis is not None and self._looked is not None:
            families[names.EXPERIMENT_LOOKED].add_metric([self._experiment], self._looked.timestamp())
            _fill(families, self._experiment, self._analysis)
        yield from families.values()

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def _families() -> dict[str, GaugeMetricFamily]:
    said = {
        names.EXPERIMENT_USERS: ("Users seen since the start.", _BY_ARM),
        names.EXPERIMENT_IMPRESSIONS: ("Impressions whose attribution window is over, since the start.", _BY_ARM),
        names.EXPERIMENT_CLICKS: ("Clicks on them.", _BY_ARM),
        names.EXPERIMENT_VALUE: ("A metric as measured; revenue is per thousand impressions.", _BY_METRIC),
        names.EXPERIMENT_LIFT: ("Relative difference from the control.", _BY_METRIC),
        names.EXPERIMENT_LIFT_LOW: ("Lower end of its always-valid interval.", _BY_METRIC),
        names.EXPERIMENT_LIFT_HIGH: ("Upper end of its always-valid interval.", _BY_METRIC),
        names.EXPERIMENT_SPLIT_P: ("Always-valid p-value of a sound split; below the spec's srm_alpha it is broken.", (names.EXPERIMENT,)),
        names.EXPERIMENT_SPLIT_SOUND: ("1, or 0 when the split is broken.", (names.EXPERIMENT,)),
        names.EXPERIMENT_GUARDRAIL: ("1 shown to lose less than it may, -1 shown to lose more, 0 not known.", _BY_METRIC),
        names.EXPERIMENT_VERDICT: ("1 better than the control, -1 not, 0 not known.", _BY_ARM),
        names.EXPERIMENT_NEEDS: ("Impressions that would settle what is not known, if what comes is like what came.", _BY_ARM),
        names.EXPERIMENT_LOOKED: ("When the logs were last analysed.", (names.EXPERIMENT,)),
    }  # fmt: skip
    return {name: GaugeMetricFamily(name, words, labels=labels) for name, (words, labels) in said.items()}


def _fill(families: dict[str, GaugeMetricFamily], experiment: str, analysis: Analysis) -> None:
    families[names.EXPERIMENT_SPLIT_P].add_metric([experiment], analysis.sample_ratio.any_time_p)
    families[names.EXPERIMENT_SPLIT_SOUND].add_metric([experiment], float(analysis.sample_ratio.sound))
    for arm in analysis.arms:
        where = [experiment, arm.arm]
        families[names.EXPERIMENT_USERS].add_metric(where, arm.users)
        families[names.EXPERIMENT_IMPRESSIONS].add_metric(where, arm.impressions)
        families[names.EXPERIMENT_CLICKS].add_metric(where, arm.clicks)
        for metric, value in arm.values.items():
            families[names.EXPERIMENT_VALUE].add_metric([*where, metric], value)
    for effect in analysis.effects:
        place = [experiment, effect.treatment, effect.metric]
        families[names.EXPERIMENT_LIFT].add_metric(place, effect.lift)
        families[names.EXPERIMENT_LIFT_LOW].add_metric(place, effect.low)
        families[names.EXPERIMENT_LIFT_HIGH].add_metric(place, effect.high)
    for conclusion in analysis.conclusions:
        where = [experiment, conclusion.treatment]
        families[names.EXPERIMENT_VERDICT].add_metric(where, VERDICTS[conclusion.verdict])
        if conclusion.needs is not None:
            families[names.EXPERIMENT_NEEDS].add_metric(where, conclusion.needs)
        for check in conclusion.checks:
            if check.name in analysis.spec.guardrails:
                families[names.EXPERIMENT_GUARDRAIL].add_metric([*where, check.name], VERDICTS[check.verdict])


__all__ = ["VERDICTS", "ExperimentCollector"]
