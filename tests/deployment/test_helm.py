"""The chart: what it renders is the kustomize base's pod, fits the service, and refuses values that mean nothing."""

from __future__ import annotations

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
    manifests = rendered("--set", "gpu.count=1")

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
    ["replica=3", "autoscaling.by=cron", "settings.MAX_ORDER=3", "gpu.count=-1", "service.port=70000", "grpc.on=true"],
)
def test_values_that_mean_nothing_are_refused(value: str) -> None:
    """A misspelt value is an error, not a default."""
    done = helm("template", "release", "matfn", "--set-string" if "settings" in value else "--set", value)

    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr


def test_chart_has_the_version_of_the_package() -> None:
    """The image that is pulled by default is that of this source."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == matfn.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", chart["version"])
