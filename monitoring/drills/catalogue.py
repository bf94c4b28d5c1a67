"""The drills there are."""

from __future__ import annotations

from monitoring.drills import faults
from monitoring.drills.drill import Drill, Expected
from monitoring.drills.faulty_bundles import Wrong
from monitoring.drills.upstream import Broken

WATCH = ("watch_errors", "BundleFailsRequests", "NotFinitePredictions")
"""The machine's own check of what is answered, or the alerts on it: whichever is first."""
CLICKS = "watch_ne"
"""The machine's own check of the clicks on what the last good bundle predicted too. It sees ten requests a second, the alerts see all: it
is seldom the first where Prometheus runs."""
QUALITY = ("CalibrationDrifted", "NormalizedEntropyDrifted", "OnlineOfflineSkew")
"""Alerts that say that it is not the bundle."""

_ALL = (
    Drill(
        "bad-bundle",
        injects="a bundle learned from inverted labels is promoted by hand, past all checks; its mean is right, its ranking upside down",
        must="NormalizedEntropyHigh or the release machine itself, and the last good bundle serves again",
        why="It was never seen to be good, so it is the bundle and not the world (decision 0016).",
        inject=faults.promote_faulty(Wrong.INVERTED),
        bundles=(Wrong.INVERTED,),
        expected=Expected.ROLLED_BACK,
        because=("NormalizedEntropyHigh", CLICKS),
    ),
    Drill(
        "uncalibrated-bundle",
        injects="a bundle that triples every probability is promoted by hand, past all checks",
        must="CalibrationRatioHigh (or NormalizedEntropyHigh, or the release machine itself), and the last good bundle serves again",
        why="Bids are three times too high; only clicks can show it.",
        inject=faults.promote_faulty(Wrong.UNCALIBRATED),
        bundles=(Wrong.UNCALIBRATED,),
        expected=Expected.ROLLED_BACK,
        because=("CalibrationRatioHigh", "NormalizedEntropyHigh", CLICKS),
    ),
    Drill(
        "slow-bundle",
        injects="a bundle that waits 40 ms at each request is promoted by hand",
        must="BundleSlow, and the last good bundle serves again",
        why="It alone is slow: the other bundle of the last day was not.",
        inject=faults.promote_faulty(Wrong.SLOW),
        bundles=(Wrong.SLOW,),
        expected=Expected.ROLLED_BACK,
        because=("BundleSlow",),
        needs_alerts=True,
        serving=True,
    ),
    Drill(
        "crashing-bundle",
        injects="a bundle that aborts its process at one value of one field is promoted by hand; its smoke test did not meet it",
        must="the release machine itself takes it back, and the router asks the last good bundle meanwhile",
        why="Failing requests speak for themselves: no label and no Prometheus is needed.",
        inject=faults.promote_faulty(Wrong.CRASHING),
        bundles=(Wrong.CRASHING,),
        expected=Expected.ROLLED_BACK,
        because=WATCH,
        serving=True,
    ),
    Drill(
        "nan-bundle",
        injects="a bundle that predicts NaN at one value of one field is promoted by hand",
        must="the release machine itself or NotFinitePredictions takes it back; no NaN reaches a caller",
        why="A legal request never gives NaN: the bundle is broken, whatever the clicks say.",
        inject=faults.promote_faulty(Wrong.NAN),
        bundles=(Wrong.NAN,),
        expected=Expected.ROLLED_BACK,
        because=WATCH,
        serving=True,
    ),
    Drill(
        "uncalibrated-candidate",
        injects="a bundle that triples every probability is deployed as any other",
        must="it is refused in shadow: no user gets its predictions",
        why="The release machine sees the same impressions judged for both bundles.",
        inject=faults.deploy_faulty(Wrong.UNCALIBRATED),
        bundles=(Wrong.UNCALIBRATED,),
        expected=Expected.REFUSED,
        because=("shadow_calibration", "shadow_ne", "CalibrationRatioHigh", "NormalizedEntropyHigh"),
    ),
    Drill(
        "crashing-candidate",
        injects="a bundle that aborts its process at one value of one field is deployed as any other",
        must="it is refused in shadow, at failing copies nobody waited for",
        why="Its golden predictions come back, so smoke lets it pass; the shadow is there for the rest.",
        inject=faults.deploy_faulty(Wrong.CRASHING),
        bundles=(Wrong.CRASHING,),
        expected=Expected.REFUSED,
        because=("shadow_errors", "BundleFailsRequests"),
        serving=True,
    ),
    Drill(
        "feature-nulled",
        injects="the field that matters most is not filled any more, in every request",
        must="no rollback; people are told that a bundle which was good is so no more",
        why="Every bundle reads the same requests: an older one is hurt as much.",
        inject=faults.break_field(Broken.NULLED),
        expected=Expected.STAYS,
        needs_alerts=True,
        because=QUALITY,
    ),
    Drill(
        "categories-renamed",
        injects="the values of the category that matters most are spelt otherwise, in every request",
        must="no rollback; people are told",
        why="As above: what goes in has changed, not what serves.",
        inject=faults.break_field(Broken.RENAMED),
        expected=Expected.STAYS,
        needs_alerts=True,
        because=QUALITY,
    ),
    Drill(
        "unit-changed",
        injects="the number that matters most comes a thousand times as large",
        must="no rollback; people are told",
        why="As above.",
        inject=faults.break_field(Broken.UNIT),
        expected=Expected.STAYS,
        needs_alerts=True,
        because=QUALITY,
    ),
    Drill(
        "traffic-shift",
        injects="people click less than half as readily as before",
        must="no rollback; an alert asks for retraining",
        why="The bundle was good until the world changed; an older one knows even less of today.",
        inject=faults.lower_click_odds,
        expected=Expected.STAYS,
        needs_alerts=True,
        because=("CalibrationDrifted", "NormalizedEntropyDrifted"),
        silent=("CalibrationRatioHigh", "NormalizedEntropyHigh"),
    ),
    Drill(
        "click-log-stalled",
        injects="the click log stops while people go on clicking",
        must="no rollback; ClickLogStalled, and alerts on quality are held back",
        why="Without labels every bundle looks bad: nothing that is said of quality is to be believed.",
        inject=faults.stall_click_log,
        expected=Expected.STAYS,
        needs_alerts=True,
        because=("ClickLogStalled",),
        silent=(
            "CalibrationRatioHigh",
            "NormalizedEntropyHigh",
            "CalibrationDrifted",
            "NormalizedEntropyDrifted",
        ),
        watch_seconds=40.0,
    ),
    Drill(
        "prometheus-down",
        injects="Prometheus is killed; then an uncalibrated bundle is promoted; later Prometheus comes back",
        must="the dead man's switch calls; CalibrationRatioHigh once Prometheus is back, or the release machine before, and the rollback",
        why="A watch that is dead must be heard of by its silence, and must not have forgotten which bundle was good.",
        inject=faults.promote_while_down("prometheus", Wrong.UNCALIBRATED),
        needs_alerts=True,
        bundles=(Wrong.UNCALIBRATED,),
        expected=Expected.ROLLED_BACK,
        because=("CalibrationRatioHigh", "NormalizedEntropyHigh", CLICKS),
    ),
    Drill(
        "alertmanager-down",
        injects="Alertmanager is killed; then an uncalibrated bundle is promoted; later Alertmanager comes back",
        must="the dead man's switch calls; Prometheus tells again, or the release machine sees it before, and the rollback",
        why="An alert that could not be delivered is delivered later.",
        inject=faults.promote_while_down("alertmanager", Wrong.UNCALIBRATED),
        needs_alerts=True,
        bundles=(Wrong.UNCALIBRATED,),
        expected=Expected.ROLLED_BACK,
        because=("CalibrationRatioHigh", "NormalizedEntropyHigh", CLICKS),
    ),
    Drill(
        "receiver-killed",
        injects="the release machine, with receiver and router, is killed between accepting an alert and acting on it, and started again",
        must="the rollback all the same, from what is on the disk",
        why="An alert is on the disk before it is answered, and the journal before it is carried out.",
        inject=faults.kill_during_rollback,
        needs_alerts=True,
        bundles=(Wrong.UNCALIBRATED,),
        expected=Expected.ROLLED_BACK,
        because=("CalibrationRatioHigh", "NormalizedEntropyHigh", CLICKS),
    ),
    Drill(
        "alerts-repeated",
        injects="the same alert 50 times at once and in ten webhooks, resolved, told again late, and old ones about the good bundle",
        must="exactly one rollback, and the good bundle stays",
        why="Alerts are known by fingerprint and start; what is about another bundle is about the past.",
        inject=faults.repeat_alert,
        bundles=(Wrong.UNCALIBRATED,),
        expected=Expected.ROLLED_BACK,
        because=("CalibrationRatioHigh",),
    ),
    Drill(
        "two-alerts",
        injects="alerts about the bundle that serves and about the candidate under way, in one webhook",
        must="one step back to the last good bundle; both others are in quarantine",
        why="Yesterday's promotion may be found bad in the middle of today's release; both go.",
        inject=faults.alert_about_two_bundles,
        bundles=(Wrong.HOPELESS, Wrong.INVERTED),
        expected=Expected.ROLLED_BACK,
        quarantined=2,
        because=("CalibrationRatioHigh", "NormalizedEntropyHigh", CLICKS),
    ),
)

DRILLS: dict[str, Drill] = {drill.name: drill for drill in _ALL}
"""By name, in the order in which `--all` runs them."""

__all__ = ["DRILLS"]
