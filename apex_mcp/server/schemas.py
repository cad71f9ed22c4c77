"""Make published JSON schemas small: every client pays for `tools/list` in each conversation."""

from typing import Any, cast

Schema = dict[str, Any]


def slim(schema: Schema) -> Schema:
    """Arguments: drop what tells a reader nothing: titles, null alternatives, empty defaults."""
    return cast(Schema, _slim(schema))


def outline(schema: Schema) -> Schema:
    """Results: names and types of the fields that are always there, lists included; others may come along."""
    definitions = cast(dict[str, Schema], schema.get("$defs", {}))
    return _outline(schema, definitions, depth=2)


def _slim(node: Any) -> Any:
    if isinstance(node, list):
        return [_slim(item) for item in cast(list[Any], node)]
    if not isinstance(node, dict):
        return node
    out: Schema = {}
    for name, value in cast(Schema, node).items():
        if name == "properties":
            # Names here are fields, which may well be called "title".
            out[name] = {key: _slim(item) for key, item in cast(Schema, value).items()}
        elif name == "$defs":
            out[name] = {
                key: _without(_slim(item), "description") for key, item in cast(Schema, value).items()
            }
        elif (
            name == "additionalProperties"
            or name == "title"
            or (name == "default" and not value and value != 0)
        ):
            continue
        else:
            out[name] = _slim(value)
    return _without_null(out)


def _outline(node: Schema, definitions: dict[str, Schema], depth: int) -> Schema:
    node = _without_null(dict(node))
    if reference := cast(str | None, node.get("$ref")):
        node = definitions[reference.rpartition("/")[2]]
    kind = cast(str | None, node.get("type"))
    if kind == "array" and depth > 0:
        return {"type": "array", "items": _outline(node.get("items", {}), definitions, depth)}
    if kind == "object" and "properties" in node and depth > 0:
        fields = cast(dict[str, Schema], node["properties"])
        required = cast(list[str], node.get("required", []))
        return {
            "type": "object",
            "properties": {name: _outline(fields[name], definitions, depth - 1) for name in required},
        }
    return {"type": kind} if kind else {}


def _without(node: Schema, name: str) -> Schema:
    return {key: value for key, value in node.items() if key != name}


def _without_null(node: Schema) -> Schema:
    alternatives = node.get("anyOf")
    if isinstance(alternatives, list):
        kept = [item for item in cast(list[Schema], alternatives) if item != {"type": "null"}]
        if len(kept) == 1:
            return {**kept[0], **_without(node, "anyOf")}
    return node
