"""Shares as they are stored: what does not add up is nobody's."""

import pytest
from pydantic import ValidationError

from clickmill.release import Shares


def test_what_is_stored_comes_back():
    said = Shares(percent={"ctr-predictor": 90, "ctr-b-predictor": 10}, mirror="ctr-c-predictor", port=81)
    assert Shares.model_validate_json(said.model_dump_json()) == said
    assert Shares.model_validate_json('{"percent": {"ctr-predictor": 100}}').port == 80


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ('{"percent": {}}', "add up to 100"),
        ('{"percent": {"a": 60, "b": 41}}', "add up to 100"),
        ('{"percent": {"a": 100, "b": 0}}', "greater than or equal to 1"),
        ('{"percent": {"http://elsewhere": 100}}', "pattern"),
        ('{"percent": {"a": 100}, "mirrors": "b"}', "Extra inputs"),
    ],
)
def test_what_can_not_be_followed_is_refused(text, words):
    with pytest.raises(ValidationError, match=words):
        Shares.model_validate_json(text)
