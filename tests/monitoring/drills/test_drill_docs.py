"""The table of docs/incidents.md is the catalogue."""

from pathlib import Path

from monitoring.drills import DRILLS

DOCS = Path(__file__).parents[3] / "docs" / "incidents.md"


def test_the_table_has_every_drill_in_its_own_words():
    lines = [line for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    assert lines == [f"| `{drill.name}` | {drill.injects} | {drill.must} |" for drill in DRILLS.values()]
