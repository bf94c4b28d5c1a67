"""Every pod of the chart: what it may do, what it runs, what it asks for."""

import pytest

from tests.helm import rendering
from tests.helm.command_line import clickmill_commands, expanded, parse
from tests.helm.pod_security import violations

CASES = rendering.CASES


def every_pod(case):
    return rendering.pods(rendering.objects(CASES[case]))


def sound():
    return {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "containers": [
            {
                "name": "c",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }


def test_a_pod_that_keeps_every_rule_violates_none():
    assert violations(sound()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pod: pod.update(hostNetwork=True), "hostNetwork"),
        (lambda pod: pod.update(hostPID=True), "hostPID"),
        (lambda pod: pod["volumes"].append({"name": "root", "hostPath": {"path": "/"}}), "hostPath"),
        (lambda pod: pod.pop("securityContext"), "runAsNonRoot"),
        (lambda pod: pod["securityContext"].update(runAsUser=0), "runAsUser 0"),
        (lambda pod: pod["securityContext"].update(seccompProfile={"type": "Unconfined"}), "seccompProfile"),
        (lambda pod: pod["securityContext"].update(seLinuxOptions={"user": "root"}), "seLinuxOptions"),
        (
            lambda pod: pod["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
            "sysctl",
        ),
        (lambda pod: pod["containers"][0]["securityContext"].update(privileged=True), "privileged"),
        (
            lambda pod: pod["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
            "allowPrivilegeEscalation",
        ),
        (lambda pod: pod["containers"][0]["securityContext"].pop("capabilities"), "dropped"),
        (
            lambda pod: pod["containers"][0]["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
            "added",
        ),
        (
            lambda pod: pod["containers"][0].update(ports=[{"containerPort": 80, "hostPort": 80}]),
            "hostPort",
        ),
        (lambda pod: pod["containers"][0]["securityContext"].update(procMount="Unmasked"), "procMount"),
        (lambda pod: pod.update(initContainers=[{"name": "i"}]), "i: allowPrivilegeEscalation"),
    ],
)
def test_the_oracle_sees_each_rule_broken(change, named):
    pod = sound()
    change(pod)
    assert any(named in each for each in violations(pod))


@pytest.mark.parametrize("case", CASES)
def test_pods_are_restricted(case):
    for name, pod in every_pod(case).items():
        assert violations(pod) == [], name


@pytest.mark.parametrize("case", CASES)
def test_containers_write_nowhere_but_to_volumes_and_say_what_they_take(case):
    for name, pod in every_pod(case).items():
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            for side in ("requests", "limits"):
                assert {"cpu", "memory"} <= set(container["resources"][side]), name


@pytest.mark.parametrize("case", CASES)
def test_only_the_operator_and_the_router_have_a_token_of_the_api_server(case):
    rendered = rendering.objects(CASES[case])
    for name, pod in rendering.pods(rendered).items():
        if not name.endswith(("-operator", "-router")):
            assert pod["automountServiceAccountToken"] is False, name
    for account in rendering.of_kind(rendered, "ServiceAccount"):
        if not account["metadata"]["name"].endswith(("-operator", "-router")):
            assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("case", CASES)
def test_every_service_account_and_volume_of_a_pod_is_one_of_the_chart_or_a_value(case):
    rendered = rendering.objects(CASES[case])
    accounts = {each["metadata"]["name"] for each in rendering.of_kind(rendered, "ServiceAccount")}
    for name, pod in rendering.pods(rendered).items():
        assert pod["serviceAccountName"] in accounts, name
        volumes = {each["name"] for each in pod.get("volumes", [])}
        for container in pod["containers"]:
            mounts = [each["name"] for each in container.get("volumeMounts", [])]
            assert set(mounts) <= volumes, name
            assert len({each["mountPath"] for each in container.get("volumeMounts", [])}) == len(mounts)


@pytest.mark.parametrize("case", CASES)
def test_what_pods_run_is_a_command_that_exists_with_options_it_takes(case):
    found = list(clickmill_commands(rendering.objects(CASES[case])))
    assert found
    for name, words, env in found:
        words = expanded(words, env)
        assert not any("$(" in word for word in words), name
        parse(words)


def test_a_command_with_an_option_that_is_not_there_would_be_seen():
    rendered = rendering.objects({**CASES["minimal"], "predictor": {"args": ["--no-such-option=1"]}})
    (words,) = [words for name, words, _ in clickmill_commands(rendered) if name.endswith("predictor")]
    with pytest.raises(Exception, match="no-such-option"):
        parse(words)


def test_the_ranker_asks_the_predictor_of_its_own_inference_service():
    (ranker,) = [
        expanded(words, env)
        for name, words, env in clickmill_commands(rendering.objects(CASES["minimal"]))
        if name.endswith("transformer")
    ]
    assert parse(ranker).params["predictor"] == "ctr-predictor-pods:8081"


@pytest.mark.parametrize("entry", ["transformer", "predictor"])
def test_the_router_sends_home_to_what_callers_would_ask_without_it(entry):
    values = {**CASES["minimal"], "router": {"enabled": True}, "ranker": {"enabled": entry == "transformer"}}
    (words,) = [
        expanded(words, env)
        for name, words, env in clickmill_commands(rendering.objects(values))
        if name.endswith("router")
    ]
    assert parse(words).params["home"] == f"ctr-{entry}"
    assert parse(words).params["shares"] == "ctr-shares"
