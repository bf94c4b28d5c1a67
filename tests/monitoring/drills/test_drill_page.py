"""The page: all of the timeline, nothing from elsewhere."""

import re

from monitoring.drills import DRILLS, Drilled, Kind, judge, write_page
from monitoring.drills.timeline import Figure
from tests.monitoring.drills.test_drill_outcome import BAD, FAULT, GOOD, rolled_back


def test_the_page_tells_verdict_times_and_every_event_and_loads_nothing(tmp_path):
    timeline, entries = rolled_back("alert CalibrationRatioHigh: 3 <times> the clicks")
    timeline.note(Kind.FAULT, "a bundle gets all traffic", at=FAULT)
    timeline.figures += [Figure(FAULT + s, BAD[:12], 3.0, 2.5, 3.6, 1.4) for s in (15, 16)]
    drill = DRILLS["uncalibrated-bundle"]
    outcome = judge(drill, timeline, entries, GOOD, FAULT)
    page = write_page(
        Drilled(drill, outcome, timeline, tuple(entries), GOOD, FAULT), tmp_path / "report.html"
    )
    text = page.read_text()
    assert "3 &lt;times&gt; the clicks" in text
    for event in timeline.events:
        assert event.words in text
    assert "1.5 s" in text
    assert "19.5 s" in text
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "No alerts" not in text
    alone = Drilled(drill, outcome, timeline, tuple(entries), GOOD, FAULT, ("prometheus",))
    assert "No alerts:</strong> prometheus not installed here" in (
        write_page(alone, tmp_path / "alone.html").read_text()
    )
