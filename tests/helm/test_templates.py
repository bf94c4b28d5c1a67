"""What values make of the chart: each option does what its comment says."""

import itertools
import json
import shutil
import subprocess

import pytest
import yaml

from helm import generate
from tests.helm import rendering
from tests.helm.rendering import FULL, KNATIVE, MINIMAL, TF_SERVING, named, objects, of_kind

SCHEMA = json.loads((generate.CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((generate.CHART / "values.yaml").read_text())


def kinds(rendered):
    return {each["kind"] for each in rendered}


def predictor(rendered):
    (service,) = of_kind(rendered, "InferenceService")
    return service["spec"]["predictor"]


def container(rendered):
    return named(rendered, "ServingRuntime", "ctr")["spec"]["containers"][0]


@pytest.mark.parametrize("case", rendering.CASES)
def test_helm_lint_has_nothing_to_say(case, tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(rendering.CASES[case]))
    done = subprocess.run(
        [
            rendering.program(),
            "lint",
            generate.CHART,
            "--strict",
            "--kube-version",
            generate.KUBERNETES,
            "--values",
            values,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("case", rendering.CASES)
def test_every_object_is_in_the_namespace_labelled_and_named_once(case):
    rendered = objects(rendering.CASES[case], namespace="tenant-a")
    seen = [(each["kind"], each["metadata"]["name"]) for each in rendered]
    assert len(seen) == len(set(seen))
    for each in rendered:
        if each["kind"] == "CustomResourceDefinition":
            continue
        assert each["metadata"]["namespace"] == "tenant-a"
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "ctr"


def test_without_optional_kinds_the_cluster_is_asked_for_nothing_it_lacks():
    found = kinds(objects(MINIMAL, apis=()))
    assert not found & {
        "PodMonitor",
        "PrometheusRule",
        "AlertmanagerConfig",
        "ScaledObject",
        "ResourceQuota",
    }
    assert {"InferenceService", "ServingRuntime", "NetworkPolicy", "PodDisruptionBudget"} <= found


def test_prometheus_objects_come_with_its_kinds_or_by_value_and_go_by_value():
    assert {"PodMonitor", "PrometheusRule"} <= kinds(objects(MINIMAL))
    always = {**MINIMAL, "monitoring": {"enabled": True}}
    assert {"PodMonitor", "PrometheusRule"} <= kinds(objects(always, apis=()))
    never = {**MINIMAL, "monitoring": {"enabled": False}}
    assert not kinds(objects(never)) & {"PodMonitor", "PrometheusRule"}


def test_alerts_reach_a_receiver_only_when_its_token_is_named():
    assert "AlertmanagerConfig" not in kinds(objects(MINIMAL))
    assert "AlertmanagerConfig" in kinds(objects({**MINIMAL, "operator": {"alertTokenSecretName": "alerts"}}))


@pytest.mark.parametrize(
    ("scaling", "annotation", "scaled"),
    [("hpa", "hpa", False), ("keda", "external", True), ("none", "none", False)],
)
def test_one_autoscaler_at_a_time(scaling, annotation, scaled):
    rendered = objects({**MINIMAL, "autoscaling": {"class": scaling, "cpuPercent": 55}})
    (service,) = of_kind(rendered, "InferenceService")
    assert service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == annotation
    assert (service["spec"]["predictor"].get("scaleTarget") == 55) is (scaling == "hpa")
    assert ("ScaledObject" in kinds(rendered)) is scaled


def test_keda_asks_for_queue_and_p99_of_these_pods_only():
    rendered = objects(
        {**MINIMAL, "autoscaling": {"class": "keda"}, "predictor": {"replicas": {"min": 3, "max": 9}}}
    )
    spec = named(rendered, "ScaledObject", "ctr-predictor")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["fallback"]["replicas"]) == (3, 9, 9)
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": "ctr-predictor",
    }
    _, queue, p99 = spec["triggers"]
    pods = '{namespace="ads",pod=~"ctr-predictor-.*"}'
    assert queue["metadata"]["query"] == f"sum(clickmill_requests_waiting{pods})"
    assert (queue["metricType"], queue["metadata"]["threshold"]) == ("AverageValue", "2")
    assert p99["metadata"]["query"] == (
        f"histogram_quantile(0.99, sum by (le) (rate(clickmill_request_seconds_bucket{pods}[2m]))) > 0 or vector(0)"
    )
    assert (p99["metricType"], p99["metadata"]["threshold"]) == ("Value", "0.008")


def test_a_single_replica_can_be_drained():
    rendered = objects({**MINIMAL, "predictor": {"replicas": {"min": 1, "max": 3}}})
    budgets = of_kind(rendered, "PodDisruptionBudget")
    assert {each["metadata"]["name"] for each in budgets} == {"ctr-transformer", "ctr-operator"}


def test_pods_live_longer_than_their_drain():
    rendered = objects({**MINIMAL, "predictor": {"drainSeconds": 40}})
    assert "--drain-seconds=40" in container(rendered)["args"]
    assert predictor(rendered)["terminationGracePeriodSeconds"] == 75


def test_a_copy_of_the_inference_service_under_another_name_serves_the_same_model():
    rendered = objects(MINIMAL)
    (service,) = of_kind(rendered, "InferenceService")
    assert "--model-name=ctr" in container(rendered)["args"]
    (ranker,) = service["spec"]["transformer"]["containers"]
    assert "--model_name=ctr" in ranker["args"]
    assert any("$(INFERENCE_SERVICE_NAME)" in word for word in ranker["args"])


def test_the_feature_store_is_named_by_a_secret_and_nowhere_else():
    rendered = objects({**MINIMAL, "features": {"secretName": "store", "secretKey": "url"}})
    wanted = {
        "name": "CLICKMILL_FEATURES",
        "valueFrom": {"secretKeyRef": {"name": "store", "key": "url"}},
    }
    (service,) = of_kind(rendered, "InferenceService")
    (ranker,) = service["spec"]["transformer"]["containers"]
    for each in (container(rendered), ranker):
        assert wanted in each["env"]
        assert "--features=$(CLICKMILL_FEATURES)" in each["args"]
    assert "redis://" not in rendering.text({**MINIMAL, "features": {"secretName": "store"}})


def test_object_store_credentials_are_the_service_accounts():
    account = named(objects(FULL), "ServiceAccount", "ctr-endpoint")
    assert account["secrets"] == [{"name": "object-store"}]
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/ctr"}
    assert "secrets" not in named(objects(MINIMAL), "ServiceAccount", "ctr-endpoint")


def test_a_prediction_log_has_a_volume_and_a_salt():
    with pytest.raises(rendering.HelmFailed, match=r"predictionLog\.saltSecretName"):
        objects({**MINIMAL, "predictionLog": {"claim": "log"}})
    found = container(
        objects({**MINIMAL, "predictionLog": {"claim": "log", "saltSecretName": "salt", "share": 0.1}})
    )
    assert {"--prediction-log=/var/log/clickmill", "--log-share=0.1"} <= set(found["args"])
    assert {"name": "prediction-log", "mountPath": "/var/log/clickmill"} in found["volumeMounts"]


def test_live_quality_says_which_claim_it_lacks():
    with pytest.raises(rendering.HelmFailed, match=r"predictionLog\.claim: live quality reads"):
        objects({**MINIMAL, "quality": {"enabled": True}})
    log = {"predictionLog": {"claim": "log", "saltSecretName": "salt"}}
    with pytest.raises(rendering.HelmFailed, match=r"clicks\.claim: live quality reads"):
        objects({**MINIMAL, **log, "quality": {"enabled": True}})


def test_drift_is_a_deployment_that_is_scraped_or_a_cron_job_that_keeps_its_reports_and_pushes():
    rendered = objects(FULL)
    (drift,) = named(rendered, "Deployment", "ctr-drift")["spec"]["template"]["spec"]["containers"]
    assert drift["ports"] == [{"name": "metrics", "containerPort": 9107, "protocol": "TCP"}]
    assert "CronJob" not in kinds(rendered)
    rendered = objects(rendering.OTHER)
    cron = named(rendered, "CronJob", "ctr-drift")["spec"]
    assert (cron["schedule"], cron["timeZone"], cron["concurrencyPolicy"]) == (
        "0 3 * * *",
        "Etc/UTC",
        "Forbid",
    )
    (job,) = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert job["args"][-2:] == [
        "--once",
        "--push=http://pushgateway.monitoring.svc:9091/metrics/job/ads-ctr-drift",
    ]
    assert "ctr-drift" not in {each["metadata"]["name"] for each in of_kind(rendered, "Deployment")}
    lost = {**FULL, "drift": {"enabled": True, "schedule": "0 3 * * *"}}
    with pytest.raises(rendering.HelmFailed, match="name the claim that keeps them"):
        objects(lost)


def test_the_pipeline_is_uploaded_after_each_install_or_scheduled():
    job = named(objects(FULL), "Job", "ctr-pipeline")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["clickmill", "pipeline", "upload"]
    (container,) = named(objects(rendering.OTHER), "Job", "ctr-pipeline")["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["command"] == ["clickmill", "pipeline", "schedule"]
    assert '--set=impressions=["/mnt/log/*.parquet"]' in container["args"]
    assert "--cron=0 0 3 * * *" in container["args"]
    with pytest.raises(rendering.HelmFailed, match="the URL of the Kubeflow Pipelines API"):
        objects({**MINIMAL, "pipelines": {"enabled": True}})


def test_images_by_registry_tag_and_digest():
    rendered = objects(
        {**MINIMAL, "images": {"registry": "registry.example/ads", "serving": {"tag": "0.2.0"}}}
    )
    assert container(rendered)["image"] == "registry.example/ads/clickmill/serving:0.2.0"
    assert container(objects(FULL))["image"] == f"registry.example/ads/clickmill/serving@sha256:{'a' * 64}"


def test_knative_has_one_port_and_nothing_it_refuses():
    rendered = objects(KNATIVE)
    (service,) = of_kind(rendered, "InferenceService")
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    assert [each["name"] for each in container(rendered)["ports"]] == ["http1"]
    refused = {"topologySpreadConstraints", "terminationGracePeriodSeconds", "securityContext"}
    assert not refused & set(service["spec"]["predictor"])


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"endpoint": {"mode": "Knative", "storageUri": "s3://a/b"}}, "Set ranker.enabled=false"),
        (
            {"endpoint": {"mode": "Knative", "storageUri": "s3://a/b"}, "ranker": {"enabled": False}},
            "Set autoscaling.class=none",
        ),
        ({}, "endpoint.storageUri: where is the bundle"),
        ({**FULL, "drift": {"enabled": True, "pushgateway": "http://gateway:9091"}}, "set drift.schedule"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(values, says):
    with pytest.raises(rendering.HelmFailed) as failed:
        objects(values)
    assert says in str(failed.value)


def test_tf_serving_reads_the_saved_model_and_the_ranker_the_bundle():
    rendered = objects(TF_SERVING)
    assert "ServingRuntime" not in kinds(rendered)
    model = predictor(rendered)["model"]
    assert (model["runtime"], model["storageUri"]) == ("kserve-tensorflow-serving", "s3://ads/ctr/7/model")
    (ranker,) = of_kind(rendered, "InferenceService")[0]["spec"]["transformer"]["containers"]
    assert {"name": "STORAGE_URI", "value": "s3://ads/ctr/7"} in ranker["env"]
    assert named(rendered, "Service", "ctr-predictor-pods")["spec"]["ports"][0]["port"] == 9000


def test_a_quota_is_the_tenants():
    quota = named(
        objects({**MINIMAL, "quota": {"enabled": True, "hard": {"pods": "5"}}}), "ResourceQuota", "ctr"
    )
    assert quota["spec"]["hard"]["pods"] == "5"


def test_notes_say_how_to_wait_how_to_ask_and_what_is_missing(tmp_path):
    # Helm shows notes only when it installs: here they are rendered as a value of an object.
    chart = tmp_path / "clickmill"
    shutil.copytree(generate.CHART, chart)
    shutil.copyfile(chart / "templates" / "NOTES.txt", chart / "notes.txt")
    (chart / "templates" / "shown.yaml").write_text(
        'kind: ConfigMap\nnotes: {{ tpl (.Files.Get "notes.txt") . | toJson }}\n'
    )
    done = subprocess.run(
        [
            *(rendering.program(), "template", "ctr", chart, "--namespace", "ads"),
            *("--kube-version", generate.KUBERNETES, "--show-only", "templates/shown.yaml"),
            *("--set", "endpoint.storageUri=pvc://models/ctr"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    notes = yaml.safe_load(done.stdout)["notes"]
    assert "kubectl -n ads wait inferenceservice/ctr --for=condition=Ready" in notes
    assert "http://ctr-transformer.ads/v1/models/ctr:rank" in notes
    assert "Nothing is scraped" in notes
    assert "operator.alertTokenSecretName is empty" in notes


# -- the schema ------------------------------------------------------------------------------------------------------------


def leaves(values, schema, path=()):
    """(path, value, schema of it) of every value, as far as the schema describes it."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    if isinstance(values, dict) and "properties" in schema:
        for key, value in values.items():
            assert key in schema["properties"], f"{'.'.join((*path, key))} is not in values.schema.json"
            yield from leaves(value, schema["properties"][key], (*path, key))
        missing = set(schema["properties"]) - set(values) - {"global"}
        assert not missing, f"{'.'.join(path)}: {missing} in the schema, not in values.yaml"
    else:
        yield path, values, schema


def test_schema_and_values_have_the_same_names():
    assert len(list(leaves(VALUES, SCHEMA))) > 60


def test_every_value_has_a_comment_above_or_is_one_of_a_group_that_has():
    lines = (generate.CHART / "values.yaml").read_text().splitlines()
    undocumented = [
        line
        for before, line in itertools.pairwise(lines)
        if line.startswith("  ")
        and not line.startswith("   ")
        and before.rstrip().endswith(":")
        and not line.strip().startswith("#")
    ]
    assert undocumented == []


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"predictor": {"replica": {"min": 2}}}, "replica"),
        ({"endpoint": {"mode": "RawDeployment"}}, "mode"),
        ({"predictor": {"replicas": {"min": 0}}}, "min"),
        ({"predictionLog": {"share": 2}}, "share"),
        ({"endpoint": {"name": "Bad_Name"}}, "name"),
        ({"predictor": {"args": ["batch-rows=512"]}}, "args"),
        ({"images": {"serving": {"digest": "sha256:abc"}}}, "digest"),
        ({"clicks": {"path": "/absolute"}}, "path"),
        ({"monitoring": {"enabled": "yes"}}, "enabled"),
        ({"drift": {"pushgateway": "http://gateway"}}, "pushgateway"),
        ({"predictor": {"resources": {"limits": {"cpu": None, "memory": "1Gi"}}}}, "cpu"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values, names):
    with pytest.raises(rendering.HelmFailed) as failed:
        objects({**MINIMAL, **values, "endpoint": {**MINIMAL["endpoint"], **values.get("endpoint", {})}})
    assert "schema" in str(failed.value)
    assert names in str(failed.value)
