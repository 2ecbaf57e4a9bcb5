"""A job file and its template of items, from an operation: of an OpenAPI document, or of a profile."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from migrator.errors import SourceError
from migrator.job.openapi.api import Api, auth_of, base_url_of, collection_of, record_of, variable
from migrator.job.openapi.document import Document
from migrator.job.openapi.operation import FORM, Operation, find, reading, request_body, response_of
from migrator.job.openapi.samples import allows, sample
from migrator.job.openapi.schemas import Schemas, leaves, narrowed, with_definitions
from migrator.job.problems import did_you_mean

__all__ = ["Made", "from_document", "from_profile"]

SECRET: Final = re.compile(
    r"secret|password|passwd|passphrase|token|credential|api_?key|private_?key|signing_?key|routing_?key|webhook_?url",
    re.IGNORECASE,
)
"""Names of members whose values are not shown."""

SCALAR: Final = frozenset({"string", "integer", "number", "boolean", "null"})
Leaves = dict[tuple[str, ...], Mapping[str, Any]]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A job file with its template.

    Attributes:
        job: the job file's document.
        columns: of the template.
        example: one item as the template shows it; None where none could be made.
        lists: whether an item holds a list or nests, so that the template is JSON Lines and not CSV.
        notes: what the source does not say, and what to look at.
        variables: the environment's variables that the job needs.
    """

    job: dict[str, Any]
    columns: tuple[str, ...]
    example: Mapping[str, Any] | None
    lists: bool
    notes: tuple[str, ...]
    variables: tuple[str, ...]


def from_document(document: Document, *, operation: str | None, columns: Sequence[str]) -> Made:
    """Return the job of an OpenAPI document's operation.

    Args:
        document: the document.
        operation: an operationId, or ``METHOD /path``; None where there is only one that changes a record.
        columns: the members of the body to fill, dotted; empty for all that a template can hold.

    Raises:
        SourceError: there is no such operation or member; the text says which there are.
    """
    chosen = find(document, operation)
    api = Api()
    prefix = _prefix(document)
    base_url_of(document, api, prefix)
    auth_of(document, chosen, api, prefix)
    schemas = Schemas(document)
    body = request_body(document, chosen)
    schema = {} if body is None else schemas.convert(body.schema)
    found = _leaves(schema, schemas.definitions, chosen.path_columns)
    picked = _picked(found, columns, chosen.path_columns)
    narrow, missing = narrowed(schema, schemas.definitions, list(picked)) if columns else (schema, [])
    if narrow:
        limits = with_definitions(narrow, schemas.definitions)
        api.profile["limits"] = {f"{chosen.method} {chosen.path}": limits}
    answered = _reads(document, chosen, api, {path[0] for path in found})
    key = chosen.path_columns[-1] if chosen.path_columns else None
    if answered:
        collection_of(document, chosen, api, key)
    _headers(chosen, api)
    api.notes += [
        *_says_nothing_of(document, chosen, missing, body.media_type if body else None),
        *sorted(schemas.dropped),
    ]
    profile = {"name": prefix.lower().replace("_", "-"), **api.profile}
    path_schemas = {one["name"]: _of_parameter(document, one, schemas) for one in chosen.of_kind("path")}
    job = _job(_slug(chosen.name), str(chosen.node.get("summary", "")), profile, chosen.method, chosen.path)
    encoding = _encoding(chosen.method, body.media_type if body else "", api.profile)
    if encoding is not None and picked:
        wanted = _nested({".".join(path): f"{{{'.'.join(path)}}}" for path in picked})
        job["request"] |= {"encoding": encoding, "wanted": wanted}
    made = _made(job, picked, path_schemas, (narrow, schemas.definitions), api)
    if "collection" in profile:
        _export_columns(profile["collection"], made.job, picked)
    return made


def _export_columns(collection: dict[str, Any], job: Mapping[str, Any], picked: Mapping[tuple[str, ...], Any]) -> None:
    """Let an export write what names a record and what the job writes, so that its file can become items."""
    named = collection["item"].rpartition("{")[2].removesuffix("}")
    columns = [named, *(".".join(path) for path, member in picked.items() if _is_scalar(member))]
    collection["columns"] = list(dict.fromkeys(columns))
    if secrets := [name for name in job.get("secrets", ()) if name in columns]:
        collection["secrets"] = secrets


def from_profile(name: str, profile: Mapping[str, Any], *, operation: str | None, columns: Sequence[str]) -> Made:
    """Return the job of one of the requests whose limits a profile has.

    Args:
        name: the profile's name.
        profile: its document.
        operation: ``METHOD /path``; None where there is only one, or one PATCH.
        columns: as in `from_document`.

    Raises:
        SourceError: as in `from_document`.
    """
    limits: Mapping[str, Any] = profile.get("limits", {})
    patches = [one for one in limits if one.startswith("PATCH ")] or list(limits)
    chosen = operation or (patches[0] if len(patches) == 1 else None)
    if chosen is None or chosen not in limits:
        known = "\n".join(f"  {one}" for one in limits)
        what = f"there is no operation {chosen}" if chosen else "choose an operation with --operation"
        raise SourceError(f"{what}:\n{known}")
    method, _, path = chosen.partition(" ")
    schema = limits[chosen]
    definitions = schema.get("$defs", {})
    path_columns = re.findall(r"\{([^{}]+)\}", path)
    picked = _picked(_leaves(schema, definitions, path_columns), columns, path_columns)
    api = Api(variables=_variables(profile))
    for secret in profile.get("collection", {}).get("secrets", ()):
        if tuple(secret.split(".")) in picked:
            picked[tuple(secret.split("."))] = {**picked[tuple(secret.split("."))], "writeOnly": True}
    job = _job(_slug(f"{name} {method} {path.rpartition('/')[0] or path}"), "", name, method, path)
    narrow, _ = narrowed(schema, definitions, list(picked)) if columns else (schema, [])
    return _made(job, picked, {}, (narrow, definitions), api)


def _variables(document: Any) -> list[str]:
    return list(dict.fromkeys(re.findall(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", str(document))))


def _prefix(document: Document) -> str:
    """Return what variables begin with: the server's name, or the document's."""
    servers = document.root.get("servers") or [{}]
    url = str(document.node(servers[0]).get("url", "")) if isinstance(servers, list) else ""
    host = str(document.root.get("host") or urlsplit(url).hostname or "")
    parts = [part for part in host.split(".") if re.fullmatch(r"[A-Za-z0-9-]+", part) and part not in {"api", "www"}]
    title = re.sub(
        r"\b(?:api|the|rest)\b",
        "",
        str(document.node(document.root.get("info")).get("title", "api")),
        flags=re.IGNORECASE,
    )
    return variable(parts[0] if len(parts) > 1 and "{" not in host else " ".join(title.split()[:2]) or "api")


def _encoding(method: str, media_type: str, profile: Mapping[str, Any]) -> str | None:
    """Return how the columns are said; None for JSON as it is.

    A PUT of the columns alone would drop the other members, so that the record is read first where it can be. A record
    that stands inside one member is left to the user, since its columns name that member.
    """
    if media_type == FORM:
        return "form"
    if "patch+json" in media_type:
        return "json-patch" if "json-patch" in media_type else "merge-patch"
    return "put-merge" if method == "PUT" and profile.get("read") and "record" not in profile else None


def _slug(text: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", text)
    return re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")[:60].strip("-") or "job"


def _job(name: str, description: str, api: Any, method: str, path: str) -> dict[str, Any]:
    columns = re.findall(r"\{([^{}]+)\}", path)
    return {
        "name": name,
        **({"description": description} if description else {}),
        "api": api,
        "request": {"method": method, "path": path},
        "key": columns[0] if len(columns) == 1 else columns,
    }


def _leaves(schema: Any, definitions: Mapping[str, Any], path_columns: Iterable[str]) -> Leaves:
    """Return the members that can be columns, each once; one that is named as the path's is the path's."""
    found: Leaves = {}
    for path, member in leaves(schema, definitions):
        found[path] = {
            **member,
            **{name: found[path][name] for name in ("description",) if path in found and name in found[path]},
        }
    return {path: member for path, member in found.items() if ".".join(path) not in set(path_columns)}


def _picked(found: Leaves, columns: Sequence[str], path_columns: Iterable[str]) -> Leaves:
    """Return the members that are chosen.

    Raises:
        SourceError: one of them is not there.
    """
    if not columns:
        around = {path[:end] for path in found for end in range(1, len(path))}
        return {path: member for path, member in found.items() if _is_scalar(member) and path not in around}
    known = {".".join(path): path for path in found}
    picked: Leaves = {}
    for column in columns:
        inner = {
            path: member for name, path in known.items() if name.startswith(f"{column}.") for member in [found[path]]
        }
        if column in known:
            picked[known[column]] = found[known[column]]
        elif inner:
            picked |= inner
        elif column not in set(path_columns):
            shown = ", ".join(known)
            raise SourceError(f"{column} is no member of the body{did_you_mean(column, known)}; there are {shown}")
    return picked


def _is_scalar(schema: Mapping[str, Any]) -> bool:
    return _kinds(schema) <= SCALAR and not schema.get("properties")


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    kinds = schema.get("type", [])
    return {kinds} if isinstance(kinds, str) else set(kinds)


def _reads(document: Document, chosen: Operation, api: Api, members: set[str]) -> bool:
    """Take down how a record is read; tell whether it has a path of its own."""
    read = reading(document, chosen.path)
    schema, _ = response_of(document, read if read is not None else chosen)
    if read is None:
        api.notes.append(f"There is no GET {chosen.path}: plan, rollback and --only-changed cannot read one record.")
    else:
        api.profile["read"] = True
    record = record_of(document, schema, members)
    if record is not None:
        api.profile["record"] = record
    return bool(chosen.path_columns)


def _headers(chosen: Operation, api: Api) -> None:
    """Take down headers that have one value, and name those that have not."""
    for parameter in chosen.of_kind("header"):
        name, schema = str(parameter["name"]), parameter.get("schema", parameter)
        if parameter.get("required") is not True or name.lower() in {"content-type", "authorization"}:
            continue
        value = schema.get("default", next(iter(schema.get("enum", ())), None)) if isinstance(schema, Mapping) else None
        if isinstance(value, str):
            api.profile.setdefault("headers", {})[name] = value
        elif name.lower() != "if-match":
            api.notes.append(f"The header {name} is required, and its value is not said: write it into headers.")


def _says_nothing_of(
    document: Document, chosen: Operation, missing: Sequence[str], media_type: str | None
) -> list[str]:
    """Return what to look at before the job is run."""
    notes = []
    if missing:
        notes.append(f"Required members that are not among the columns: {', '.join(missing)}.")
    if chosen.method == "PUT":
        notes.append(
            "PUT replaces the record: a member that is not sent may be lost. Look whether the API has a PATCH."
        )
    if chosen.method == "POST":
        notes.append("POST is not safe to send twice, unless request.idempotent says so: look what the API does.")
    _, headers = response_of(document, reading(document, chosen.path) or chosen)
    conditional = any(str(one["name"]).lower() == "if-match" for one in chosen.of_kind("header"))
    if conditional or any(str(name).lower() == "etag" for name in headers):
        notes.append(
            "The API knows If-Match (ETag): without it, a change that another user makes meanwhile is overwritten."
        )
    notes += [
        f"The parameter {one['name']} of the query is required: write it into request.path."
        for one in chosen.of_kind("query")
        if one.get("required") is True
    ]
    if media_type is None and chosen.method != "DELETE":
        notes.append("The document names no JSON body for this operation.")
    return notes


def _of_parameter(document: Document, parameter: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    """Return the schema of a parameter of the path, without what only an editor would show."""
    given = document.node(parameter.get("schema", parameter))
    schema = schemas.convert({name: value for name, value in given.items() if name not in {"name", "in", "required"}})
    kept = {name: value for name, value in schema.items() if name not in {"description", "properties", "$ref"}}
    if _kinds(schema) == {"integer"}:
        return {"pattern": "^-?[0-9]+$", "examples": ["1"]}  # a key is compared as a text
    return kept if _kinds(schema) <= {"string", "null"} else {}


def _made(
    job: dict[str, Any],
    picked: Leaves,
    path_schemas: Mapping[str, dict[str, Any]],
    body: tuple[Any, Mapping[str, Any]],
    api: Api,
) -> Made:
    """Finish a job file: its key, secrets, types and an example."""
    schema, definitions = body
    columns = {".".join(path): member for path, member in picked.items()}
    keys = [job["key"]] if isinstance(job["key"], str) else list(job["key"])
    secrets = [name for name, member in columns.items() if _is_secret(name, member)]
    if not keys:
        required = (
            [name for name in schema.get("required", ()) if name in columns] if isinstance(schema, Mapping) else []
        )
        keys = [name for name in (*required, *columns) if name not in secrets][:1]
        api.notes.append(f"The path names no record: {', '.join(keys) or 'nothing'} is taken for the key.")
        job["key"] = keys[0] if keys else "id"
    typed = {name: {"type": member["type"]} for name, member in columns.items() if _kinds(member) - {"string", "null"}}
    properties = {name: one for name, one in path_schemas.items() if one and one != {"type": "string"}} | typed
    path_columns = re.findall(r"\{([^{}]+)\}", job["request"]["path"])
    names = [*path_columns, *(name for name in columns if name not in path_columns)]
    own = {name: sample(path_schemas.get(name, {}), {}) for name in path_columns}
    whole = sample(schema, definitions) if schema else {}
    flat = _flat(whole)
    cells = {name: flat[name] for name in names if name in flat and not isinstance(flat[name], list | dict)}
    alone = "wanted" in job["request"]  # the columns alone are sent, or put into the record
    if not cells.keys() & columns.keys():
        cells |= _one_cell(columns, {} if alone else schema, definitions)
    fits = alone or not schema or allows(schema, definitions, _nested(cells))
    whole = {name: flat[name] for name in columns if name in flat} if alone else whole
    in_cells = fits and all(_is_scalar(member) for member in columns.values())
    shown = cells if in_cells else whole
    sends = bool(shown) or job["request"]["method"] == "DELETE"
    if not columns and not sends:
        api.notes.append("The members of the body are not described: each further column becomes one.")
    elif whole is None:
        api.notes.append("No example could be made that the schema allows: fill the template by hand.")
    job |= {"secrets": secrets} if secrets else {}
    job |= {"item_schema": {"properties": properties}} if properties else {}
    return Made(
        job=job,
        columns=tuple(names),
        example=own | (shown or {}) if sends else None,
        lists=not in_cells and whole is not None,
        notes=tuple(api.notes),
        variables=tuple(dict.fromkeys(api.variables)),
    )


def _one_cell(columns: Mapping[str, Any], schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for one column, so that an example whose members may all be left out has something to send."""
    for name, member in columns.items():
        value = sample(member, definitions)
        if value is not None and _is_scalar(member) and allows(schema, definitions, _nested({name: value})):
            return {name: value}
    return {}


def _is_secret(name: str, schema: Mapping[str, Any]) -> bool:
    """Tell whether a member's values are not to be shown: by name, by what the schema says, and every hook's URL."""
    last = name.rpartition(".")[2]
    words = f"{name} {schema.get('description', '')}".lower()
    is_hook = schema.get("format") == "uri" and "hook" in words
    return schema.get("writeOnly") is True or SECRET.search(last) is not None or is_hook


def _flat(value: Any, above: str = "") -> dict[str, Any]:
    """Return an object's members by their dotted names."""
    if not isinstance(value, dict):
        return {above: value} if above else {}
    flat: dict[str, Any] = {}
    for name, member in value.items():
        inner = f"{above}.{name}" if above else name
        flat |= _flat(member, inner) if isinstance(member, dict) and member else {inner: member}
    return flat


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body that dotted columns make."""
    body: dict[str, Any] = {}
    for name, value in flat.items():
        *above, last = name.split(".")
        inner = body
        for step in above:
            inner = inner.setdefault(step, {})
        inner[last] = value
    return body
