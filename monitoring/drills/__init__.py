"""Drills: put one fault into a running system, check that the right verdict follows, and write a page about it.

May import `clickmill` and `monitoring`; serving is reached by its processes and ports only, as a user would.
"""

from monitoring.drills.catalogue import DRILLS
from monitoring.drills.drill import Drill, Expected
from monitoring.drills.outcome import PAUSE_SECONDS, Outcome, judge
from monitoring.drills.page import write_page
from monitoring.drills.processes import DrillFailed
from monitoring.drills.run import Drilled, good_bundle, missing_programs, run
from monitoring.drills.timeline import Event, Kind, Timeline

__all__ = [
    "DRILLS",
    "PAUSE_SECONDS",
    "Drill",
    "DrillFailed",
    "Drilled",
    "Event",
    "Expected",
    "Kind",
    "Outcome",
    "Timeline",
    "good_bundle",
    "judge",
    "missing_programs",
    "run",
    "write_page",
]
