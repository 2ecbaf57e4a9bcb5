"""Holds the built-in profiles and their example jobs against the vendors' own OpenAPI documents.

The documents are not part of this project. The folder that has them is named by MIGRATOR_OPENAPI. Each request is
validated by openapi-core, which shares no code with the program; where the program's own reader of OpenAPI is asked, it
makes a job of each operation, and that job is loaded.

Run: MIGRATOR_OPENAPI=FOLDER make interop-profiles
"""

import json
import os
import re
import sys
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest

from migrator.job.items import Form, Item, read_items
from migrator.job.job_file import load_job
from migrator.job.openapi.document import Document
from migrator.job.openapi.make import from_document
from migrator.job.profile.api_profile import built_in, built_in_names
from migrator.job.profile.variables import Outside
from migrator.job.source import find_job
from migrator.job.template import Template

JOBS = Path(__file__).parents[1] / "jobs"
RECORDS: dict[str, dict[str, Any]] = {
    "move-pagerduty-escalation-policies": {
        "id": "PSERV01",
        "type": "service",
        "name": "Shop",
        "escalation_policy": {"id": "PPOL001", "type": "escalation_policy_reference"},
    },
    "rotate-datadog-webhooks": {"name": "pager", "url": "https://old.example.com", "payload": "{}"},
}
"""What the example jobs that write a whole record have read before."""


class Environment(dict[str, str]):
    """Every variable is set."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value for each name."""
        return default if key in {"XDG_CONFIG_HOME", "HOME"} else self[key]

    def __missing__(self, key: str) -> str:
        return "https://server.example.com" if key.endswith("_URL") and key != "OKTA_BASE_URL" else "example.com"


def shape(path: str) -> str:
    """Return a path without the names of its columns."""
    return re.sub(r"\{[^{}]*\}", "{}", path)


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the operations by method and shape."""
    return {
        f"{method.upper()} {shape(path)}": one
        for path, item in document["paths"].items()
        for method, one in item.items()
        if isinstance(one, dict) and method in {"get", "put", "post", "patch", "delete"}
    }


def mended(node: Any) -> Any:
    """Return a document without what the validator cannot judge.

    PagerDuty's references require `id` and `type` in one part and call them read-only in another; it takes both in
    requests. Stripe's forms have lists in brackets (deepObject), which openapi-core does not read.
    """
    if isinstance(node, list):
        return [mended(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: mended(value) for name, value in node.items()}
    if "application/x-www-form-urlencoded" in found:
        found["application/x-www-form-urlencoded"].pop("encoding", None)
    if found.get("readOnly") is True and found.get("type") == "string":
        del found["readOnly"]
    return found


def check_example(name: str, document: dict[str, Any]) -> list[str]:
    """Return what is wrong with the first request of an example job, by the vendor's document."""
    job = find_job(str(JOBS / f"{name}.json"), items=None, template=None, env=Environment())
    file = BytesIO((JOBS / f"{name}.csv").read_bytes())
    item, *_ = [one for one in read_items(file, form=Form.CSV, job=job, name=name) if isinstance(one, Item)]
    template = Template.compile(job)
    request = template.request(item)
    if name in RECORDS:
        request = template.complete(request, record=RECORDS[name])
    server = "https://api.invalid"
    spec = {**mended(document), "servers": [{"url": server}], "security": []}
    headers = {key: value if isinstance(value, str) else "value" for key, value in job.api.headers.items()}
    sent = dict(request.headers)
    asked = MockRequest(
        server,
        request.method.lower(),
        request.url.removeprefix(job.api.base_url),
        headers=headers | sent,
        data=request.body or b"",
        content_type=sent.get("Content-Type", "application/json"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = OpenAPI.from_dict(spec, config=Config(spec_validator_cls=None)).unmarshal_request(asked)
    return [f"{name}: {error!r}: {error.__cause__!r}"[:400] for error in found.errors]


def check_limits(profile: dict[str, Any], document: dict[str, Any]) -> list[str]:
    """Return the operations and members that a profile names, and the vendor's document does not know."""
    known, problems = operations(document), []
    reader = Document(json.dumps(document), "vendor.json", lambda _: "")
    for place, limits in profile["limits"].items():
        method, _, path = place.partition(" ")
        operation = known.get(f"{method} {shape(path)}")
        if operation is None:
            problems.append(f"{profile['name']}: {place} is not in the document")
            continue
        content = reader.node(operation.get("requestBody")).get("content", {})
        members: set[str] = set()
        for media in content.values():
            members |= properties(reader, media.get("schema"))
        inner = {one for name in members for one in properties(reader, member(reader, content, name))}
        problems += [
            f"{profile['name']}: {place}: {name} is no member of the document's body"
            for name in limits["properties"]
            if name not in members | inner
        ]
    collection = profile.get("collection")
    if collection is not None and f"GET {collection['path'].partition('?')[0]}" not in known:
        problems.append(f"{profile['name']}: the list {collection['path']} is not in the document")
    return problems


def member(reader: Document, content: Any, name: str) -> Any:
    """Return the schema of a member of a body."""
    for media in content.values():
        found = schema_members(reader, media.get("schema"))
        if name in found:
            return found[name]
    return {}


def properties(reader: Document, schema: Any) -> set[str]:
    """Return the members that a schema knows."""
    return set(schema_members(reader, schema))


def schema_members(reader: Document, schema: Any) -> dict[str, Any]:
    """Return the members of a schema and of the parts that it is made of."""
    node = reader.node(schema)
    found: dict[str, Any] = {}
    for part in (one for name in ("allOf", "oneOf", "anyOf") for one in node.get(name, ())):
        found |= schema_members(reader, part)
    found |= node.get("properties", {})
    return found


def check_reader(name: str, document: dict[str, Any]) -> list[str]:
    """Return the operations of which no job file can be made that loads."""
    text, problems = json.dumps(document), []
    reader = Document(text, f"{name}.json", lambda _: "")
    for method, path, _ in reader.operations():
        try:
            made = from_document(reader, operation=f"{method} {path}", columns=())
            load_job(json.dumps(made.job), source="job.json", outside=Outside(Environment(), lambda _: "value"))
        except Exception as error:  # noqa: BLE001  each is a finding
            problems.append(f"{name}: {method} {path}: {type(error).__name__}: {error}"[:400])
    return problems


def main() -> int:
    """Hold every profile against its document, and print what was looked at."""
    folder = os.environ.get("MIGRATOR_OPENAPI", "")
    if not folder or not Path(folder).is_dir():
        print("MIGRATOR_OPENAPI names no folder with the vendors' documents: nothing was looked at")
        return 2
    problems: list[str] = []
    for name in built_in_names(templates=False):
        path = Path(folder) / f"{name}.json"
        if not path.is_file():
            print(f"{name}: there is no {path.name} in the folder: not looked at")
            continue
        document = json.loads(path.read_text("utf-8"))
        profile = json.loads(built_in(name) or "{}")
        examples = [one.stem for one in sorted(JOBS.glob("*.json")) if json.loads(one.read_text())["api"] == name]
        found = check_limits(profile, document) + check_reader(name, document)
        for example in examples:
            found += check_example(example, document)
        print(f"{name}: {len(profile['limits'])} operations, {len(examples)} example jobs, {len(found)} problems")
        problems += found
    for path in sorted(Path(folder).glob("*.json")):
        if path.stem not in built_in_names(templates=False):
            found = check_reader(path.stem, json.loads(path.read_text("utf-8")))
            print(f"{path.stem}: no profile; its operations as jobs: {len(found)} problems")
            problems += found
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
