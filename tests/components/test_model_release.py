"""The deploy step on a cluster: which objects it writes, and what it makes of the operator's words."""

import pytest

from clickmill.errors import UsageError
from components.deploy.model_release import ReleaseFailed, ReleaseRequest, ask, wait
from components.typed_settings import typed_settings

A, B = "a" * 64, "b" * 64
REQUEST = ReleaseRequest(name="ctr", store_uri="pvc://models/ctr", wait_seconds=100)
TARGET = {"inferenceService": "ctr", "route": {"gateways": [{"name": "public"}]}}


class Kept(dict):
    """ModelReleases in memory. `script`: what the operator says at each look."""

    script = ()

    def get(self, name):
        if self.script:
            condition, *self.script = self.script
            if name in self:
                self[name]["status"] = condition
        return super().get(name)

    def create(self, body):
        self[body["metadata"]["name"]] = {**body, "metadata": {**body["metadata"], "generation": 1}}

    def patch(self, name, body):
        self[name]["spec"] |= body["spec"]
        self[name]["metadata"]["generation"] += 1


def said(promoted, message="", generation=1, **more):
    condition = {"type": "Promoted", "status": promoted, "message": message, "observedGeneration": generation}
    return {"message": message, "conditions": [condition], **more}


def named(digest=B):
    kept = Kept()
    ask(kept, REQUEST.model_copy(update={"target": TARGET}), uri="pvc://models/ctr/7", digest=digest)
    return kept


def waited(kept, request=REQUEST):
    now, heard = [0.0], []

    def sleep(seconds):
        now[0] += seconds

    words = wait(kept, request, B, say=heard.append, clock=lambda: now[0], sleep=sleep)
    return words, heard


def test_it_is_made_when_there_is_none_and_told_how():
    kept = named()
    assert kept["ctr"]["spec"] == {"bundle": {"uri": "pvc://models/ctr/7", "digest": B}, "target": TARGET}
    with pytest.raises(
        ReleaseFailed, match=r"there is no ModelRelease ctr; make it, or give `release.target`"
    ):
        ask(Kept(), REQUEST, uri="pvc://models/ctr/7", digest=B)


def test_another_bundle_is_named_and_the_same_one_is_not_written_again():
    kept = named(A)
    ask(kept, REQUEST, uri="pvc://models/ctr/8", digest=B)
    assert kept["ctr"]["spec"]["bundle"] == {"uri": "pvc://models/ctr/8", "digest": B}
    assert kept["ctr"]["metadata"]["generation"] == 2
    ask(kept, REQUEST, uri="pvc://models/ctr/8", digest=B)
    assert kept["ctr"]["metadata"]["generation"] == 2


def test_it_waits_until_the_bundle_serves_and_tells_what_for():
    kept = named()
    kept.script = [
        {},
        said("Unknown", "canary at 5 %"),
        said("Unknown", "canary at 5 %"),
        said("True", "it has all traffic"),
    ]
    assert waited(kept) == ("it has all traffic", ["the operator has not looked yet", "canary at 5 %"])


def test_what_was_said_of_the_spec_before_says_nothing_of_this_one():
    kept = named()
    kept.script = [said("True", "the old one serves", generation=0), said("False", "smoke failed")]
    with pytest.raises(ReleaseFailed, match="ctr took the bundle back: smoke failed"):
        waited(kept)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([said("Unknown", "canary at 5 %")], r"no verdict on ctr after 100 s \(canary at 5 %\)"),
        (
            [
                {
                    "conditions": [
                        {
                            "type": "Accepted",
                            "status": "False",
                            "message": "no such service",
                            "observedGeneration": 1,
                        }
                    ]
                }
            ],
            "can't be carried out: no such service",
        ),
    ],
)
def test_the_other_ends_are_failures_with_words(script, words):
    kept = named()
    kept.script = script
    with pytest.raises(ReleaseFailed, match=words):
        waited(kept)


def test_another_run_that_came_after_ends_the_wait():
    kept = named()
    kept["ctr"]["spec"]["bundle"] = {"uri": "pvc://models/ctr/9", "digest": A}
    with pytest.raises(ReleaseFailed, match="names bundle aaaaaaaaaaaa meanwhile"):
        waited(kept)
    del kept["ctr"]
    with pytest.raises(ReleaseFailed, match="was deleted meanwhile"):
        waited(kept)


def test_a_wrong_setting_is_named():
    with pytest.raises(UsageError, match=r"release\.store_uri"):
        typed_settings("release", ReleaseRequest, {"name": "ctr", "store_uri": "/mnt/models"})
