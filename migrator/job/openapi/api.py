"""The API around an operation: its server, its credentials, how a record is read, and how all are listed."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from migrator.job.openapi.document import Document, Node
from migrator.job.openapi.operation import Operation, array_in, reading, response_of

__all__ = ["Api", "auth_of", "base_url_of", "collection_of", "record_of", "variable"]

CURSORS: Final = ("page_token", "pageToken", "cursor", "after", "starting_after", "next_token", "nextToken")
OFFSETS: Final = ("offset", "startAt", "startIndex", "skip", "start")
PAGES: Final = ("page", "pageNumber", "page_number")
SIZES: Final = ("page_size", "pageSize", "per_page", "limit", "maxResults", "count", "size")
NEXT: Final = ("next", "next_url", "nextLink", "next_page_token", "nextPageToken", "next_cursor", "nextCursor", "after")
LONGEST_PAGE: Final = 100
"""Records a page that are asked for where the document names no maximum."""


class Api(msgspec.Struct):
    """What is known of an API, and what is not.

    Attributes:
        profile: members of the profile.
        notes: what the document does not say, in sentences.
        variables: the environment's variables that the profile takes.
    """

    profile: dict[str, Any] = msgspec.field(default_factory=dict)
    notes: list[str] = msgspec.field(default_factory=list)
    variables: list[str] = msgspec.field(default_factory=list)


def variable(*parts: str) -> str:
    """Return the name of an environment's variable, such as ``ACME_API_KEY``."""
    name = re.sub(r"[^A-Z0-9]+", "_", " ".join(parts).upper()).strip("_") or "API"
    # A name that starts with a digit is one that no shell can set.
    return f"API_{name}" if name[0].isdigit() else name


PLACEHOLDER: Final = re.compile(
    r"//(?:[^/]*\.)?(?:your[a-z]*[-_.]|subdomain\.|example\.(?!(?:com|net|org)(?:[:/]|$)))", re.IGNORECASE
)
"""A host that is another one for each customer, such as ``your-domain.atlassian.net`` or ``example.okta.com``."""


def base_url_of(document: Document, api: Api, prefix: str) -> None:
    """Take down the server; where the document does not name one, a variable stands for it."""
    if document.is_swagger:
        host = document.root.get("host")
        schemes = document.root.get("schemes", ["https"])
        scheme = "https" if "https" in schemes or not schemes else schemes[0]
        url = f"{scheme}://{host}{document.root.get('basePath', '')}" if host else ""
    else:
        servers = document.root.get("servers") or [{}]
        server = document.node(servers[0])
        url = _with_defaults(str(server.get("url", "")), server.get("variables"), api)
        if len(servers) > 1:
            api.notes.append(f"The document names {len(servers)} servers. The job uses the first, {url}.")
    if not re.match(r"https?://[^/]", url) or PLACEHOLDER.search(url):
        name = variable(prefix, "URL")
        api.variables.append(name)
        api.notes.append(f"The server is not one that is named for all. Set {name}, or write base_url.")
        url = f"${{{name}}}"
    api.profile["base_url"] = url.rstrip("/")


def _with_defaults(url: str, variables: Any, api: Api) -> str:
    """Return a server's URL with the defaults of its variables put in."""
    for name, given in variables.items() if isinstance(variables, dict) else ():
        default = str(given.get("default", "")) if isinstance(given, dict) else ""
        if f"{{{name}}}" in url:
            url = url.replace(f"{{{name}}}", default)
            api.notes.append(f"The server's {name} is {default}, which is the document's default.")
    return url


def auth_of(document: Document, operation: Operation, api: Api, prefix: str) -> None:
    """Take down the first of the operation's ways to show credentials that can be used here."""
    if document.is_swagger:
        schemes = document.root.get("securityDefinitions", {})
    else:
        schemes = document.node(document.root.get("components")).get("securitySchemes", {})
    wanted = operation.node.get("security", document.root.get("security"))
    if wanted is None:
        wanted = [{name: []} for name in schemes] if isinstance(schemes, dict) else []
        if not wanted:
            api.notes.append("The document does not say which credentials the API takes: write auth.")
            return
        api.notes.append(
            f"The document does not say which credentials this operation takes; {next(iter(wanted[0]))} is used."
        )
    unusable = []
    for alternative in wanted:
        if not alternative:
            return
        found = [(name, document.node(schemes.get(name))) for name in alternative]
        if all(_usable(scheme) for _, scheme in found):
            for name, scheme in found:
                _take(name, scheme, api, prefix)
            return
        unusable += alternative
    api.notes.append(
        f"The credentials {', '.join(map(str, unusable))} are of a kind that is not known here: write auth."
    )


def _usable(scheme: Node) -> bool:
    kind = scheme.get("type")
    if kind == "http":
        return str(scheme.get("scheme")).lower() in {"basic", "bearer"}
    if kind == "apiKey":
        return scheme.get("in") == "header"
    return kind in {"basic", "oauth2", "openIdConnect"}


def _take(name: str, scheme: Node, api: Api, prefix: str) -> None:
    """Add one scheme to the profile; a second one can only be a header."""
    kind, word = scheme.get("type"), str(scheme.get("scheme", "")).lower()
    if kind == "apiKey":
        _take_header(scheme, api, prefix)
    elif kind == "basic" or word == "basic":
        user, password = variable(prefix, "USERNAME"), variable(prefix, "PASSWORD")
        api.profile["auth"] = {"type": "basic", "username": f"${{{user}}}", "password": f"${{{password}}}"}
        api.variables += [user, password]
    elif kind == "oauth2" and (flow := _client_credentials(scheme)) is not None:
        client, secret = variable(prefix, "CLIENT_ID"), variable(prefix, "CLIENT_SECRET")
        api.profile["auth"] = {
            "type": "oauth2",
            "grant": "client_credentials",
            "token_url": flow,
            "client_id": f"${{{client}}}",
            "client_secret": f"${{{secret}}}",
        }
        api.variables += [client, secret]
        api.notes.append("The scopes of the token are not chosen: write auth.scope where the API needs it.")
    else:
        token = variable(prefix, "TOKEN")
        api.profile["auth"] = {"type": "bearer", "token": f"${{{token}}}"}
        api.variables.append(token)
        if kind in {"oauth2", "openIdConnect"}:
            api.notes.append(
                f"How a token is got ({name}) is not said in a way that a program can use alone: set {token}."
            )


def _client_credentials(scheme: Node) -> str | None:
    """Return the token URL of a client credentials flow (OpenAPI 3: flows; Swagger 2: flow)."""
    if scheme.get("flow") == "application":
        found = scheme.get("tokenUrl")
    else:
        flows = scheme.get("flows")
        flow = flows.get("clientCredentials") if isinstance(flows, dict) else None
        found = flow.get("tokenUrl") if isinstance(flow, dict) else None
    return found if isinstance(found, str) and found.startswith("https://") else None


def _take_header(scheme: Node, api: Api, prefix: str) -> None:
    header = str(scheme.get("name", ""))
    if header.lower() == "authorization":
        held = variable(prefix, "AUTHORIZATION")
        said = re.search(
            r"`?(?:Authorization: )?(Token token=|SSWS |GenieKey |Bearer |Token )", str(scheme.get("description", ""))
        )
        value = f"{said[1]}${{{variable(prefix, 'TOKEN')}}}" if said else f"${{{held}}}"
        held = variable(prefix, "TOKEN") if said else held
    else:
        held = variable(prefix, header)
        value = f"${{{held}}}"
    api.variables.append(held)
    if "auth" not in api.profile:
        api.profile["auth"] = {"type": "header", "name": header, "value": value}
    else:
        api.profile.setdefault("headers", {})[header] = value


def record_of(document: Document, schema: Any, members: Iterable[str]) -> str | None:
    """Return where a record stands in an answer: None for the whole, else the member around it.

    Args:
        document: the document.
        schema: the answer's.
        members: the record's own, which are written.
    """
    wanted = set(members)
    properties = _properties(document, schema)
    if not wanted or wanted & properties.keys():
        return None
    for name, member in properties.items():
        if wanted & _properties(document, member).keys():
            return name
    return None


def _properties(document: Document, schema: Any) -> dict[str, Any]:
    found = document.node(schema)
    properties: dict[str, Any] = {}
    for part in found.get("allOf", ()):
        properties |= _properties(document, part)
    own = found.get("properties")
    return properties | (own if isinstance(own, dict) else {})


def collection_of(document: Document, operation: Operation, api: Api, key: str | None) -> None:
    """Take down the list that has the operation's records, and how it goes on."""
    above, _, last = operation.path.rpartition("/")
    listing = reading(document, above) if re.fullmatch(r"\{[^{}]+\}", last) else None
    if listing is None or key is None:
        api.notes.append("No list of these records was found: export, plan by list and join need a collection.")
        return
    if listing.path_columns:
        columns = ", ".join(listing.path_columns)
        api.notes.append(f"The list of these records is below {columns}: write a collection with each, to use export.")
        return
    schema, headers = response_of(document, listing)
    lists = [(place, entry) for place, entry in array_in(document, schema) if _properties(document, entry)]
    if not lists:
        api.notes.append(f"Where GET {above} has its records is not said: write a collection.")
        return
    place, entry = lists[0]
    member = key if key in _properties(document, entry) else "id"
    if member not in _properties(document, entry):
        api.notes.append(f"Which member of a record is {key} is not said: write collection.item.")
        return
    collection: dict[str, Any] = {
        "path": above + _size(listing),
        "items": place,
        "item": f"{above}/{{{member}}}",
    }
    paging = _paging(document, listing, schema, headers)
    if paging is None:
        api.notes.append(f"How GET {above} goes on to its next page is not said: it is read as one page.")
    else:
        collection["paging"] = paging
    api.profile["collection"] = collection


def _size(listing: Operation) -> str:
    for parameter in listing.of_kind("query"):
        if parameter["name"] in SIZES:
            schema = parameter.get("schema", parameter)
            most = schema.get("maximum") if isinstance(schema, dict) else None
            return f"?{parameter['name']}={most if isinstance(most, int) else LONGEST_PAGE}"
    return ""


def _paging(document: Document, listing: Operation, schema: Any, headers: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a list goes on, where the document shows it."""
    if any(name.lower() == "link" for name in headers):
        return {"by": "link-header"}
    query = {parameter["name"] for parameter in listing.of_kind("query")}
    told = _next(document, schema)
    cursor = next((name for name in CURSORS if name in query), None)
    if told is not None and cursor is not None and not told[1]:
        return {"by": "cursor", "from": told[0], "into": cursor}
    if told is not None and told[1]:
        return {"by": "next-url", "from": told[0]}
    offset = next((name for name in OFFSETS if name in query), None)
    more = {"from": "more"} if "more" in _properties(document, schema) else {}
    if offset is not None:
        return {"by": "offset", "into": offset, **more}
    page = next((name for name in PAGES if name in query), None)
    return None if page is None else {"by": "page", "into": page, **more}


def _next(document: Document, schema: Any) -> tuple[str, bool] | None:
    """Return where a page names the next one, and whether that is a URL."""
    top = _properties(document, schema)
    places = [("", top), *((f"{name}.", _properties(document, member)) for name, member in top.items())]
    for prefix, properties in places:
        for name in NEXT:
            if name in properties:
                found = document.node(properties[name])
                said = f"{found.get('format', '')} {found.get('description', '')} {found.get('example', '')}".lower()
                return prefix + name, "ur" in str(found.get("format", "")) or "http" in said or "url" in said
    return None
