"""The manifests for workers and for a shared quota are ones that Kubernetes takes, and as careful as the CronJob."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

ROOT = Path(__file__).parents[3]
FILES = ("cluster.yaml", "valkey.yaml")


def objects(name: str) -> list[dict[str, Any]]:
    """Return the Kubernetes objects of a file."""
    return list(yaml.safe_load_all((ROOT / "docs/deploy" / name).read_text()))


def deployments() -> list[dict[str, Any]]:
    """Return all Deployments."""
    return [one for name in FILES for one in objects(name) if one["kind"] == "Deployment"]


def problems(document: dict[str, Any]) -> list[str]:
    """Return what Kubernetes would say of an object."""
    samples = ROOT / "tests/samples"
    schemas = json.loads((samples / "kubernetes-cluster.schema.json").read_text())
    job = json.loads((samples / "kubernetes-cronjob.schema.json").read_text())["CronJob"]
    for step in ("spec", "jobTemplate", "spec", "template"):
        job = job["properties"][step]
    schema = {**schemas[document["kind"]], "$defs": {"template": job}}
    found = jsonschema_rs.Draft202012Validator(schema).iter_errors(document)
    return [f"{list(error.instance_path)}: {error.message}" for error in found]


@pytest.mark.parametrize("name", FILES)
def test_every_member_is_one_that_kubernetes_knows(name: str) -> None:
    """In its place and of its type."""
    assert [problem for one in objects(name) for problem in problems(one)] == []


def test_a_misspelling_is_found() -> None:
    """In a pod template and beside it."""
    document = deployments()[0]
    document["spec"]["replica"] = 1
    document["spec"]["template"]["spec"]["containers"][0]["imag"] = "x"
    assert len(problems(document)) == 2


@pytest.mark.parametrize("document", deployments(), ids=lambda one: str(one["metadata"]["name"]))
def test_pods_have_no_rights_to_spare_and_mount_what_they_have(document: dict[str, Any]) -> None:
    """Secrets come as files, and the selector finds the pods."""
    template = document["spec"]["template"]
    pod = template["spec"]
    (container,) = pod["containers"]
    assert document["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert {one["name"] for one in container["volumeMounts"]} == {one["name"] for one in pod["volumes"]}
    assert all(one["readOnly"] for one in container["volumeMounts"] if one["name"] != "tmp")
    assert not [one for one in container.get("env", []) if "PASSWORD" in one["name"] or "SECRET" in one["name"]]


def test_services_and_policies_find_the_pods() -> None:
    """Every label that they name is that of a Deployment, or of the pod of the run."""
    labels = {one["spec"]["template"]["metadata"]["labels"]["migrator"] for one in deployments()} | {"driver"}
    named = {value for name in FILES for document in objects(name) for value in labels_in(document)}
    assert named <= labels
    assert {"driver", "quota", "scheduler", "worker"} <= named


def labels_in(value: Any) -> list[str]:
    """Return the values of the label `migrator` anywhere in an object."""
    if isinstance(value, list):
        return [found for one in value for found in labels_in(one)]
    if not isinstance(value, dict):
        return []
    own = [value["migrator"]] if isinstance(value.get("migrator"), str) else []
    own += value["values"] if value.get("key") == "migrator" else []
    return own + [found for one in value.values() for found in labels_in(one)]


def test_connections_are_encrypted_and_nothing_is_shown_or_spilled() -> None:
    """Workers and scheduler have no dashboard, workers no memory limit of Dask's, and Valkey no plain port."""
    (config,) = [one["data"] for one in objects("cluster.yaml") if one["kind"] == "ConfigMap"]
    assert config["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
    commands = {one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0] for one in deployments()}
    scheduler, worker = commands["migrator-scheduler"]["args"], commands["migrator-worker"]["args"]
    assert {"--no-dashboard", "--protocol=tls"} <= set(scheduler)
    assert {"--no-dashboard", "--no-nanny", "--memory-limit=0"} <= set(worker)
    assert [word for word in worker if word.startswith("tls://")] == ["tls://migrator-scheduler:8786"]
    valkey = commands["migrator-quota"]["args"]
    assert dict(zip(valkey[::2], valkey[1::2], strict=True))["--port"] == "0"


def test_images_of_one_file_are_of_one_version() -> None:
    """Workers of another version are refused."""
    images = [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in deployments()]
    ours = [one for one in images if "migrator" in one]
    assert len(list(groupby(ours))) == 1
