"""Compares the document that the smoke run saved with the wire contract, for every operation that exists here.

Compared: paths, methods, operation ids, security, parameters, request and response schemas, statuses. Statuses that any
operation may answer (405, 415, 429, 503, and 403 of the gates) may be more here than in the contract, never fewer.
"""

import json
import pathlib
import re
import sys

METHODS = ("get", "post", "put", "patch", "delete")
WORDS = ("description", "summary", "title", "example", "examples", "default", "x-plexsphere-event-payload-schemas")
ANYWHERE = {"401", "403", "404", "405", "408", "413", "414", "415", "429", "431", "500", "503"}
# Members of answers that our briefs add to the contract's; those of a Node's state are always there.
EXTRA_MEMBERS = {"correlation_id", "executions", "sessions"}
ALWAYS_EXTRA = {"executions", "sessions"}
# Only sent where an optional backend is not configured; surfaces that are always built do not describe it.
NEVER = {"501"}


def operations(document: dict) -> dict:
    return {
        operation["operationId"]: (path, method, operation, item.get("parameters", []))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def resolve(document: dict, value, depth: int = 0):
    """Writes references in place and drops words, so that two schemas compare by what they admit."""
    if depth > 24:
        return "…"
    if isinstance(value, list):
        return [resolve(document, item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return resolve(document, target, depth + 1)
    if set(value) - set(WORDS) == {"allOf"} and len(value["allOf"]) == 1:
        return resolve(document, value["allOf"][0], depth + 1)
    out = {}
    for key, item in value.items():
        if key == "properties":
            out[key] = {name: resolve(document, schema, depth + 1) for name, schema in item.items()}
        elif key not in WORDS:
            out[key] = resolve(document, item, depth + 1)
    if isinstance(out.get("required"), list):
        out["required"] = sorted(out["required"])
        if not out["required"]:
            del out["required"]
    if isinstance(out.get("enum"), list):
        out["enum"] = sorted(out["enum"], key=str)
    if out.get("format") in ("int32", "int64", "double", "float") and out.get("type") in ("integer", "number"):
        del out["format"]
    # Open is what a schema is that says nothing, and closed is what every request is here.
    if isinstance(out.get("additionalProperties"), bool):
        del out["additionalProperties"]
    admit_null(out)
    if set(out) - {"nullable"} == {"allOf"} and len(out["allOf"]) == 1:
        return {**out["allOf"][0], **({"nullable": True} if "nullable" in out else {})}
    if out.get("propertyNames") == {"type": "string"}:
        del out["propertyNames"]
    return out


def admit_null(schema: dict) -> None:
    """Says in one way that a value may be null: by `nullable`, which the contract writes, for the other two forms."""
    null = {"type": "null"}
    if null in schema.get("oneOf", []) and len(schema["oneOf"]) == 2:
        (other,) = [choice for choice in schema.pop("oneOf") if choice != null]
        schema.update(other, nullable=True)
    if isinstance(schema.get("type"), list) and "null" in schema["type"]:
        rest = [name for name in schema["type"] if name != "null"]
        schema.update(type=rest[0] if len(rest) == 1 else rest, nullable=True)
    if schema.get("nullable") is False:
        del schema["nullable"]


def schema_differences(ours, theirs, place: str) -> list[str]:
    if ours == theirs:
        return []
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in sorted(set(ours) | set(theirs)):
            if key == "properties":
                mine, other = ours.get(key, {}), theirs.get(key, {})
                for name in sorted(set(mine) | set(other)):
                    if name not in mine:
                        found.append(f"{place}.{name}: missing here")
                    elif name not in other:
                        if name not in EXTRA_MEMBERS:
                            found.append(f"{place}.{name}: not in the contract")
                    else:
                        found += schema_differences(mine[name], other[name], f"{place}.{name}")
            elif key == "required":
                mine = [name for name in ours.get(key) or [] if name not in ALWAYS_EXTRA]
                found += schema_differences(mine or None, theirs.get(key), f"{place}/{key}")
            else:
                found += schema_differences(ours.get(key), theirs.get(key), f"{place}/{key}")
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [line for i, pair in enumerate(zip(ours, theirs)) for line in schema_differences(*pair, f"{place}[{i}]")]
    return [f"{place}: {json.dumps(ours)[:120]} here, {json.dumps(theirs)[:120]} there"]


def parameters(document: dict, item: list, operation: dict) -> dict:
    found = {}
    for parameter in item + operation.get("parameters", []):
        parameter = resolve(document, parameter)
        found[(parameter["in"], parameter["name"])] = (parameter.get("required", False), parameter.get("schema"))
    return found


def bodies(document: dict, holder: dict) -> dict:
    return {media: resolve(document, body.get("schema", {})) for media, body in holder.get("content", {}).items()}


def compare(ours: dict, theirs: dict) -> list[str]:
    found = []
    mine, contract = operations(ours), operations(theirs)
    for name, (path, method, operation, item) in sorted(mine.items()):
        if name not in contract:
            found.append(f"{name}: not in the contract")
            continue
        other_path, other_method, other, other_item = contract[name]
        if (path, method) != (other_path, other_method):
            found.append(f"{name}: {method} {path} here, {other_method} {other_path} there")
        if operation.get("security") != other.get("security"):
            found.append(f"{name}: security {operation.get('security')} here, {other.get('security')} there")
        left, right = parameters(ours, item, operation), parameters(theirs, other_item, other)
        for key in sorted(set(left) | set(right)):
            if key not in left or key not in right:
                found.append(f"{name}: parameter {key} {'missing here' if key in right else 'not in the contract'}")
            else:
                found += schema_differences(list(left[key]), list(right[key]), f"{name} parameter {key[1]}")
        left, right = bodies(ours, operation.get("requestBody", {})), bodies(theirs, other.get("requestBody", {}))
        found += schema_differences(left, right, f"{name} request")
        for status in sorted(set(operation["responses"]) | set(other["responses"])):
            if status not in operation["responses"]:
                if status not in NEVER:
                    found.append(f"{name}: status {status} missing here")
            elif status not in other["responses"]:
                if status not in ANYWHERE:
                    found.append(f"{name}: status {status} not in the contract")
            else:
                left = bodies(ours, operation["responses"][status])
                right = bodies(theirs, other["responses"][status])
                found += schema_differences(left, right, f"{name} {status}")
    return found


def catalogue_gaps(conventions: pathlib.Path) -> list[str]:
    """Rows (code, status) of the brief's problem catalogue that the code table lacks."""
    table = pathlib.Path("wire/src/problem/code.rs").read_text()
    ours = set(re.findall(r'= "([a-z0-9_]+)", (\d{3});', table))
    theirs = set(re.findall(r"^\| `([a-z0-9_]+)`(?: \(ours\))? \| (\d{3}) \|", conventions.read_text(), re.MULTILINE))
    return [f"code {word} {status} is missing" for word, status in sorted(theirs - ours)]


def main() -> None:
    theirs = json.loads(pathlib.Path(sys.argv[1]).read_text())
    ours = json.loads(pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "target/openapi.json").read_text())
    # What is known to be missing still; the list may only shrink.
    allowed = set(pathlib.Path(__file__).with_name("contract_allowed.txt").read_text().splitlines())
    found = compare(ours, theirs)
    conventions = pathlib.Path(sys.argv[1]).parent.parent / "spec" / "http-conventions.md"
    if conventions.exists():
        found += catalogue_gaps(conventions)
    new = [line for line in found if line not in allowed]
    for line in new:
        print("contract:", line)
    for line in sorted(allowed - set(found)):
        print("contract: no longer a difference, take it off the list:", line)
    stale = len(allowed - set(found))
    print(f"contract: {len(operations(ours))} operations compared, {len(found) - len(new)} known and {len(new)} new differences")
    sys.exit(1 if new or stale else 0)


main()
