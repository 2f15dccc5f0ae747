"""The manifests fit the image, the service's settings and each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from matfn_service.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "kubernetes"


def manifest(name: str) -> dict[str, Any]:
    """One manifest by its file's name."""
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return loaded


DEPLOYMENT = manifest("deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRONMENT = {entry["name"]: entry for entry in CONTAINER["env"]}


def test_kustomization_lists_every_manifest() -> None:
    """Nothing lies beside the list but the list itself and the example of a Secret."""
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml", "keys.example.yaml"}

    assert files == set(manifest("kustomization")["resources"])


def test_settings_exist() -> None:
    """Every variable that the pod sets is one that the service reads."""
    assert set(ENVIRONMENT) <= {f"MATFN_{name.upper()}" for name in Settings.model_fields}


def test_pod_waits_for_the_drain() -> None:
    """What comes before SIGTERM and the drain fit into the time that Kubernetes gives."""
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = float(ENVIRONMENT["MATFN_DRAIN_SECONDS"]["value"])

    assert before + drain < POD["terminationGracePeriodSeconds"]


def test_pod_fits_the_image() -> None:
    """User, group and the folder of the profile are the image's; its port is the service's."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    user, group = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)[0]
    mounts = [mount["mountPath"] for mount in CONTAINER["volumeMounts"]]

    assert (POD["securityContext"]["runAsUser"], POD["securityContext"]["runAsGroup"]) == (int(user), int(group))
    assert re.findall(r"MATFN_CACHE_DIR=(/var\S+)", dockerfile) == mounts
    assert CONTAINER["ports"][0]["containerPort"] == Settings.model_fields["port"].default


def test_pod_is_confined() -> None:
    """The pod gains no privilege, writes nothing but its volume, and hears nothing of Services called matfn."""
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["enableServiceLinks"] is False


@pytest.mark.parametrize(
    ("probe", "path"), [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")]
)
def test_probes_ask_what_they_mean(probe: str, path: str) -> None:
    """A server that drains gets no calls, but is not killed for it."""
    assert CONTAINER[probe]["httpGet"] == {"path": path, "port": CONTAINER["ports"][0]["name"]}


def test_secret_holds_the_key_that_is_read() -> None:
    """The example has the name and the entry that the Deployment asks for."""
    reference = ENVIRONMENT["MATFN_API_KEYS"]["valueFrom"]["secretKeyRef"]
    secret = manifest("keys.example")

    assert secret["metadata"]["name"] == reference["name"]
    assert list(secret["stringData"]) == [reference["key"]]


def test_everything_selects_the_pods() -> None:
    """Service, disruption budget and autoscaler are about the Deployment's pods."""
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    target = manifest("autoscaler")["spec"]["scaleTargetRef"]

    assert manifest("service")["spec"]["selector"] == labels
    assert manifest("disruption-budget")["spec"]["selector"]["matchLabels"] == labels
    assert (target["kind"], target["name"]) == (DEPLOYMENT["kind"], DEPLOYMENT["metadata"]["name"])
