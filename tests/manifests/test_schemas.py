"""Chart and manifests against the schemas of their kinds, as the API server and the CRDs of their projects have them."""

import pytest
import yaml

from helm import generate
from tests.helm import rendering
from tests.manifests import schemas

GITOPS_UNKNOWN = ("GitRepository",)


@pytest.fixture(scope="module")
def folder():
    schemas.kubeconform()
    return schemas.folder()


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    target = tmp_path_factory.mktemp("ours")
    for path in (generate.ROOT / "manifests" / "crds").glob("*.yaml"):
        schemas.write(schemas.of_crd(yaml.safe_load(path.read_text())), target)
    return target


@pytest.mark.parametrize("case", rendering.CASES)
def test_what_the_chart_renders_is_valid(case, folder, ours):
    text = rendering.text(rendering.CASES[case])
    problems, valid = schemas.check(text, folder, ours)
    assert problems == []
    assert valid == len(rendering.objects(rendering.CASES[case]))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda text: text.replace("maxReplicas:", "maximumReplicas:"), "maximumReplicas"),
        (lambda text: text.replace("minReplicas: 2", "minReplicas: many"), "minReplicas"),
        (lambda text: text.replace("maxUnavailable: 1", "maxUnavailable: {}"), "maxUnavailable"),
        (lambda text: text.replace("policyTypes:", "policyType:"), "policyType"),
        (lambda text: text.replace("podMetricsEndpoints:", "endpoints:"), "endpoints"),
        (lambda text: text.replace("matchType:", "match:"), "match"),
        (lambda text: text.replace("triggers:", "trigger:"), "trigger"),
        (lambda text: text.replace("supportedModelFormats:", "modelFormats:"), "modelFormats"),
    ],
)
def test_a_field_that_a_kind_does_not_have_is_seen(break_it, says, folder, ours):
    text = rendering.text(rendering.FULL)
    broken = break_it(text)
    assert broken != text
    problems, _ = schemas.check(broken, folder, ours)
    assert any(says in each for each in problems)
