"""The CustomResourceDefinition says what the classes say, and nothing goes missing between status and storage."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.release import Phase, ReleasePolicy
from monitoring.operator import ModelReleaseSpec, Status
from monitoring.operator.crd import FILE, definition, text
from monitoring.operator.structural import structural
from tests.monitoring.operator.twin import A, B, Twin


def schema():
    (version,) = definition()["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]["properties"]


def test_the_file_is_what_the_classes_say():
    assert FILE.read_text() == text(), "run `make gen`"
    assert yaml.safe_load(FILE.read_text()) == definition()


def test_every_setting_of_the_policy_is_there_with_its_default_and_its_words():
    policy = schema()["spec"]["properties"]["policy"]["properties"]
    assert set(policy) == {
        "".join([first, *(word.capitalize() for word in rest)])
        for first, *rest in (name.split("_") for name in ReleasePolicy.model_fields)
    }
    assert policy["maxErrorRate"] == {
        "description": " ".join(ReleasePolicy.model_fields["max_error_rate"].description.split()),
        "type": "number", "default": 0.01, "minimum": 0, "exclusiveMinimum": True, "maximum": 1, "exclusiveMaximum": True,
    }  # fmt: skip
    assert policy["steps"]["default"] == [1, 5, 25, 50, 100]
    assert all(each["description"] for each in policy.values())


def test_what_the_server_fills_in_by_default_reads_as_the_default():
    filled = {
        name: each["default"] for name, each in schema()["spec"]["properties"]["policy"]["properties"].items()
    }
    spec = ModelReleaseSpec.model_validate(
        {
            "bundle": {"uri": "s3://a/1", "digest": A},
            "target": {"inferenceService": "ctr", "route": {"gateways": [{"name": "g"}]}},
            "policy": filled,
        }
    )
    assert spec.policy.model_dump() == ReleasePolicy().model_dump()
    assert schema()["spec"]["properties"]["policy"]["default"] == filled


def nodes(schema, path="$"):
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from nodes(each, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}.{key}")


@pytest.mark.parametrize("part", ["spec", "status"])
def test_it_is_structural(part):
    for path, node in nodes(schema()[part]):
        assert "type" in node, path
        assert not {"$ref", "anyOf", "title", "allOf"} & set(node), path


def test_what_has_no_place_in_it_is_an_error():
    with pytest.raises(ValueError, match="uniqueItems has no place in a structural schema"):
        structural({"type": "array", "uniqueItems": True})


def test_every_phase_is_known_to_it():
    phase = schema()["status"]["properties"]["release"]["properties"]["phase"]
    assert phase["enum"] == [each.value for each in Phase]


@settings(max_examples=25, deadline=None)
@given(steps=st.integers(0, 40), bad=st.booleans())
def test_a_status_comes_back_from_storage_as_it_went(steps, bad):
    twin = Twin()
    twin.tick()
    if bad:
        twin.bad.add(B)
    twin.step()
    twin.name(B)
    for _ in range(steps):
        twin.step()
    status = Status.from_storage(twin.release.get("status"))
    assert Status.from_storage(status.for_storage()) == status
    assert "last_good" not in str(status.for_storage())
