"""The committed dashboards are what the code gives, and every panel reads series that exist."""

import json

import pytest

from monitoring.dashboards import BOARDS
from monitoring.dashboards.write import FOLDER, text_of
from tests.monitoring import promql
from tests.monitoring.series import LABELS, RECORDED, exposed


def panels(name):
    return [panel for panel in json.loads(text_of(BOARDS[name]))["panels"] if panel["type"] != "row"]


QUERIES = [
    pytest.param(target["expr"], id=f"{name}: {panel['title']} {target['refId']}")
    for name in BOARDS
    for panel in panels(name)
    for target in panel["targets"]
]


@pytest.mark.parametrize("name", BOARDS)
def test_the_committed_json_is_what_the_code_gives(name):
    assert (FOLDER / f"{name}.json").read_text() == text_of(BOARDS[name]), "run `make gen` and commit"


def test_no_json_is_left_behind():
    assert {path.stem for path in FOLDER.iterdir()} == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_a_title_an_id_and_a_place_of_their_own(name):
    everything = json.loads(text_of(BOARDS[name]))["panels"]
    assert [panel["id"] for panel in everything] == list(range(1, len(everything) + 1))
    taken = set()
    for panel in everything:
        assert panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_reads_series_and_labels_that_exist(query):
    read = promql.metrics(query)
    assert read
    assert read <= exposed() | RECORDED | {"ALERTS"}
    assert promql.labels(query) <= LABELS | {"alertstate", "action", "subject"}
