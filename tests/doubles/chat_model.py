"""What the double's model answers: entities and facts of a text, whether two names are one, what a fact ended."""

import ast
import json
import re
import threading
from datetime import datetime
from typing import Any, Literal

from apex_mcp.ids import normalise_name
from tests.doubles.demo_knowledge import KNOWN
from tests.doubles.sentences import Said, read_sentences

Spoiling = Literal["missing_fields", "unknown_types", "types_by_name", "dangling", "empty_names"]

_EPISODE = re.compile(r"^\[Episode (\d+)\] \(timestamp: (\S+)\)\n", re.M)
_LEGAL_FORM = re.compile(r",? (?:corporation|corp|incorporated|inc|limited|ltd|company|co|gmbh|plc|llc)\.?$")
_ONE_AT_A_TIME = (
    frozenset(["WORKS_AT", "WORKS_FOR", "WORKED_AT", "IS_EMPLOYED_BY", "JOINED"]),
    frozenset(["LIVES_IN"]),
    frozenset(["IS_HEADQUARTERED_IN", "MOVED_HEADQUARTERS_TO"]),
    frozenset(["COSTS", "PRICE_IS"]),
    frozenset(["REPORTS_TO"]),
)
# Python 3.11 counts the depth of all threads' syntax trees as one (gh-106905) and fails where two are made at once.
_PARSING = threading.Lock()


def answer(prompt: str) -> dict[str, Any]:
    """The answer to a prompt of the extractor, told apart by what it holds."""
    if (doubts := _block(prompt, "DOUBTS")) is not None:
        return {
            "answers": [
                {"number": number, "same": _same(doubt["first"], doubt["second"])}
                for number, doubt in enumerate(json.loads(doubts))
            ]
        }
    if (clashes := _block(prompt, "CLASHES")) is not None:
        return {
            "answers": [
                {"number": number, "ended": _ended(clash)} for number, clash in enumerate(json.loads(clashes))
            ]
        }
    if (messages := _block(prompt, "CURRENT MESSAGES")) is not None:
        with _PARSING:
            types: list[dict[str, Any]] = ast.literal_eval(_block(prompt, "ENTITY TYPES") or "[]")
        return _extraction(messages, {one["entity_type_name"]: one["entity_type_id"] for one in types})
    return {"answer": "ready"}


def spoil(given: dict[str, Any], how: Spoiling) -> dict[str, Any]:
    """The same answer with what careless models do beside what is right."""
    entities: list[dict[str, Any]] = given["extracted_entities"]
    edges: list[dict[str, Any]] = given["edges"]
    match how:
        case "missing_fields":
            entities.append({"entity_type_id": 1})
            for edge in edges:
                del edge["episode_indices"]
            edges += [{"source_entity_name": "Nobody"}, {**edges[0], "fact": None}]
        case "unknown_types":
            entities = [{**entity, "entity_type_id": 999} for entity in entities]
        case "types_by_name":
            entities = [
                {"name": entity["name"], "entity_type": word}
                for entity, word in zip(
                    entities, ["Software Company", "Employee", "Wombat"] * len(entities), strict=False
                )
            ]
        case "dangling":
            edges.append({**edges[0], "target_entity_name": "Somebody Else Entirely"})
            edges.append({**edges[0], "source_entity_name": "Somebody Else Entirely"})
        case "empty_names":
            entities.append({"name": "  ", "entity_type_id": 1})
            edges.append({**edges[0], "target_entity_name": " "})
            edges.append({**edges[0], "fact": ""})
    return {"extracted_entities": entities, "edges": edges}


def _block(prompt: str, tag: str) -> str | None:
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.S)
    return found[1] if found else None


def _extraction(messages: str, types: dict[str, int]) -> dict[str, Any]:
    entities: dict[str, dict[str, Any]] = {}
    edges: dict[tuple[str, str, str, str | None], dict[str, Any]] = {}
    heads = list(_EPISODE.finditer(messages))
    for position, head in enumerate(heads):
        end = heads[position + 1].start() if position + 1 < len(heads) else len(messages)
        for said in _understood(messages[head.end() : end], head[2]):
            for name, kind in ((said.subject, said.subject_type), (said.object, said.object_type)):
                entities.setdefault(name, {"name": name, "entity_type_id": types.get(kind, 0), "aliases": []})
            key = (said.subject, said.relation, said.object, said.valid_at)
            edge = edges.setdefault(key, _edge(said))
            if int(head[1]) not in edge["episode_indices"]:
                edge["episode_indices"].append(int(head[1]))
    return {"extracted_entities": list(entities.values()), "edges": list(edges.values())}


def _understood(text: str, timestamp: str) -> list[Said]:
    reference = None if timestamp == "unknown" else datetime.fromisoformat(timestamp)
    plain = " ".join(text.split())
    known = [said for words, said in KNOWN if words in plain]
    return [*known, *read_sentences(text, reference)]


def _edge(said: Said) -> dict[str, Any]:
    return {
        "source_entity_name": said.subject,
        "target_entity_name": said.object,
        "relation_type": said.relation,
        "fact": said.sentence,
        "episode_indices": [],
        "valid_at": said.valid_at,
        "invalid_at": said.invalid_at,
    }


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """One thing where the names differ in a legal form, or a given name is written out in one and a letter in the other."""
    if one["type"] != other["type"]:
        return False
    first, second = (_LEGAL_FORM.sub("", normalise_name(each["name"])) for each in (one, other))
    if first == second:
        return True
    words, others = first.split(), second.split()
    return (
        one["type"] == "Person"
        and len(words) == len(others) > 1
        and all(
            a == b or (min(len(a.strip(".")), len(b.strip("."))) == 1 and a[0] == b[0])
            for a, b in zip(words, others, strict=True)
        )
    )


def _ended(clash: dict[str, Any]) -> list[int]:
    new = next(read_sentences(clash["new"], None), None)
    if new is None:
        return []
    group = next((each for each in _ONE_AT_A_TIME if new.relation in each), frozenset[str]())
    ended: list[int] = []
    for number, sentence in enumerate(clash["older"]):
        old = next(read_sentences(sentence, None), None)
        if old is None or old.subject != new.subject:
            continue
        left = new.relation == "LEFT" and old.relation in _ONE_AT_A_TIME[0] and old.object == new.object
        if left or (old.relation in group and old.object != new.object):
            ended.append(number)
    return ended
