"""Holds JSON documents against the schemas of test/data/schema.

    check_schema.py FOLDER FILE...      each FILE holds one document, or one a line; "schema" in it names its schema

Python's standard library has no validator. This one knows the words of JSON Schema that our schemas use and refuses
any other, so that no schema promises what is not checked.
"""
import json
import pathlib
import re
import sys

KNOWN = {"$schema", "$id", "$defs", "$ref", "title", "type", "const", "enum", "pattern", "minimum", "properties",
         "required", "additionalProperties", "items", "minItems", "oneOf", "anyOf"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_of(value, name):
    if name == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems(value, schema, root, where="$"):
    """Sentences about everything in `value` that `schema` does not allow."""
    for word in schema.keys() - KNOWN:
        yield f"{where}: the schema uses '{word}', which is not checked"
    if "$ref" in schema:
        yield from problems(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, where)
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(is_of(value, name) for name in names):
            yield f"{where}: {json.dumps(value)[:60]} is not {' or '.join(names)}"
            return
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {json.dumps(value)[:60]} is not {json.dumps(schema['const'])}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {json.dumps(value)[:60]} is none of {json.dumps(schema['enum'])}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{where}: {json.dumps(value)[:60]} does not match {schema['pattern']}"
    if "minimum" in schema and is_of(value, "number") and value < schema["minimum"]:
        yield f"{where}: {value} is less than {schema['minimum']}"
    if isinstance(value, dict):
        yield from problems_of_object(value, schema, root, where)
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{where}: fewer than {schema['minItems']} items"
        for index, item in enumerate(value):
            yield from problems(item, schema.get("items", {}), root, f"{where}[{index}]")
    for word, most in ("oneOf", 1), ("anyOf", sys.maxsize):
        if word in schema:
            found = [list(problems(value, choice, root, where)) for choice in schema[word]]
            if not 1 <= found.count([]) <= most:
                yield f"{where}: fits {found.count([])} of {len(found)} forms; the nearest: {min(found, key=len)}"


def problems_of_object(value, schema, root, where):
    for key in schema.get("required", []):
        if key not in value:
            yield f"{where}: '{key}' is missing"
    for key, item in value.items():
        rest = schema.get("additionalProperties", True)
        if key in schema.get("properties", {}):
            yield from problems(item, schema["properties"][key], root, f"{where}.{key}")
        elif rest is False:
            yield f"{where}: '{key}' is not in the schema"
        elif rest is not True:
            yield from problems(item, rest, root, f"{where}.{key}")


def documents(path):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line]


def main():
    folder = pathlib.Path(sys.argv[1])
    schemas = {}
    for file in sorted(folder.glob("*.json")):
        schema = json.loads(file.read_text())
        assert schema["$id"] == file.stem + "/1", f"{file}: its $id is {schema['$id']}"
        schemas[schema["$id"]] = schema
    bad = 0
    for path in sys.argv[2:]:
        for document in documents(path):
            schema = schemas.get(document.get("schema"))
            found = (list(problems(document, schema, schema)) if schema
                     else [f"there is no schema '{document.get('schema')}'"])
            bad += len(found)
            for sentence in found:
                print(f"{path}: {sentence}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
