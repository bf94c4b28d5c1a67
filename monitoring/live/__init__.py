"""Live quality: joins predictions with the clicks that came after them, and measures each bundle on them.

May import `clickmill` only.
"""

from monitoring.live.exporter import LiveCollector, Look, measured
from monitoring.live.judged import JudgedCollector
from monitoring.live.label_join import MISSING, Ingested, LabelJoin, SliceSums, click_files
from monitoring.live.measures import Quality, quality
from monitoring.live.reference import Reference, ReferenceCollector, references
from monitoring.live.settings import LiveSettings
from monitoring.live.watch import look, watch

__all__ = [
    "MISSING",
    "Ingested",
    "JudgedCollector",
    "LabelJoin",
    "LiveCollector",
    "LiveSettings",
    "Look",
    "Quality",
    "Reference",
    "ReferenceCollector",
    "SliceSums",
    "click_files",
    "look",
    "measured",
    "quality",
    "references",
    "watch",
]
