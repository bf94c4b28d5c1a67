"""The inbox: told twice, late, out of order, cut off by a crash; what fires is what fires."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.errors import DataError, RequestError
from monitoring.release import Inbox


def told(
    fingerprint="f1", status="firing", start="2026-11-24T12:00:00Z", bundle="abc", action="rollback", **more
):
    labels = {"alertname": "CalibrationRatioOff", "bundle": bundle, "action": action}
    annotations = {"summary": "ratio 1.5"}
    return {"status": status, "labels": labels, "annotations": annotations, "startsAt": start, "endsAt": "0001-01-01T00:00:00Z",
            "fingerprint": fingerprint, "generatorURL": "", **more}  # fmt: skip


def body(*alerts, **more):
    return json.dumps(
        {"version": "4", "groupKey": "g", "status": "firing", "receiver": "r", "alerts": alerts, **more}
    ).encode()


def test_it_is_on_the_disk_when_it_is_accepted(tmp_path):
    inbox = Inbox(tmp_path / "alerts.json")
    assert inbox.take(body(told())) == 1
    again = Inbox(tmp_path / "alerts.json")
    assert again.firing == inbox.firing
    assert again.firing[0].summary == "ratio 1.5"


def test_told_again_it_changes_nothing_and_resolved_it_goes(tmp_path):
    inbox = Inbox(tmp_path / "alerts.json")
    assert [inbox.take(body(told())) for _ in range(3)] == [1, 0, 0]
    assert inbox.take(body(told(status="resolved"))) == 1
    assert inbox.firing == ()
    assert inbox.take(body(told())) == 0  # a repeat that was on its way while it was resolved
    assert inbox.firing == ()
    assert inbox.take(body(told(start="2026-11-24T13:00:00Z"))) == 1  # it fires anew
    assert len(inbox.firing) == 1


def test_only_rollbacks_of_a_bundle_are_kept(tmp_path):
    inbox = Inbox(tmp_path / "alerts.json")
    nameless = told("f3")
    del nameless["labels"]["bundle"]
    assert inbox.take(body(told("f2", action="page-data"), nameless)) == 0


@given(
    order=st.permutations(
        [("f1", "firing"), ("f1", "firing"), ("f2", "firing"), ("f1", "resolved"), ("f3", "resolved")]
    )
)
def test_in_whatever_order_they_come_the_end_is_the_same(tmp_path_factory, order):
    inbox = Inbox(tmp_path_factory.mktemp("inbox") / "alerts.json")
    for fingerprint, status in order:
        inbox.take(body(told(fingerprint, status)))
    assert [alert.fingerprint for alert in inbox.firing] == ["f2"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (b"{", "Expecting property name"),
        (b"[]", "should be a valid dictionary"),
        (body(told(), version="3"), "version"),
        (body({"status": "firing"}), "alerts.0.labels"),
        (body(told(startsAt="noon")), "alerts.0.startsAt"),
    ],
)
def test_what_is_no_webhook_is_refused_and_named(tmp_path, wrong, words):
    inbox = Inbox(tmp_path / "alerts.json")
    with pytest.raises(RequestError, match="not a webhook of Alertmanager, version 4") as caught:
        inbox.take(wrong)
    assert words in str(caught.value)
    assert not (tmp_path / "alerts.json").exists()


def test_a_file_that_is_none_is_named(tmp_path):
    (tmp_path / "alerts.json").write_text("{")
    with pytest.raises(DataError, match=r"alerts.json: cannot be read as alerts"):
        Inbox(tmp_path / "alerts.json")
