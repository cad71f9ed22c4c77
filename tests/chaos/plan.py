"""What happens in a run, made wholly from its seed before it begins: which operation does what, and who is harmed at which."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.documents import Shape


class Kind(StrEnum):
    """What a client does."""

    ADD = "add"
    UPDATE = "update"
    SAME = "same content again"
    CANCEL = "add and cancel"
    FORGET = "forget"


class Act(StrEnum):
    """What is done to a part of the system."""

    KILL = "kill"
    PAUSE = "pause"
    CUT = "cut"
    FAIL = "fail"
    DIE = "die"
    FILL_DISK = "fill disk"
    LOSE_TEMPORAL = "lose temporal"
    WIPE_INDEX = "wipe index"
    KILL_EVERYTHING = "kill everything"


# Both are asked for before the operation, and met by whoever comes to that point first.
AT_A_POINT = (Act.FAIL, Act.DIE)

# Every point of the ways that the client stream takes.
POINTS = tuple(
    f"{work}.{where}"
    for work in (
        "record.accept", "record.commit", "record.purge_tombstone", "record.purge_rows", "record.purge_passed",
        "index.upsert", "index.retire", "index.delete", "index.flush", "staging.put", "staging.delete",
        "step.prepare_group", "step.generate_embeddings", "step.write_to_databases", "step.stage_document",
        "step.parse_document", "step.extract_entities", "step.cleanup_staging", "step.rollback_writes",
    )
    for where in ("before", "after")
)  # fmt: skip
# What only servers have.
POINTS_OF_SERVERS = ("graph.write.before", "graph.write.after", "cache.set.before", "cache.set.after")
# No call of a cache fails: losing one costs nothing but time.
_NEVER_FAILS = "cache."
# So many kills, and every point is met by a failure and by a death.
_FULL_SIZE = 50
# A note is searchable in less.
_LONGEST_CANCEL_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a client does to one document."""

    number: int
    kind: Kind
    document: int
    version: int
    shape: Shape
    cancel_after_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """One thing that is done when so many operations have begun."""

    at: int
    act: Act
    target: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole run."""

    seed: int
    profile: str
    operations: tuple[Operation, ...]
    harms: tuple[Harm, ...]


def make_plan(*, seed: int, n: int, kills: int, profile: str, targets: Sequence[str]) -> Plan:
    """The plan of a seed.

    Args:
        seed: of everything random.
        n: number of operations.
        kills: number of processes that are killed one by one; what else is done follows from it, and without any next to
            nothing is.
        profile: whose points there are.
        targets: who can be killed and paused.
    """
    rng = random.Random(f"{seed} {n} {kills} {profile}")
    operations = tuple(_operations(rng, n))
    harms = [
        *_between_points_and_commit(operations),
        *(_harms(rng, n, kills, profile, targets) if kills else ()),
    ]
    return Plan(
        seed=seed,
        profile=profile,
        operations=operations,
        harms=tuple(sorted(harms, key=lambda harm: harm.at)),
    )


def make_plan_of_cancels(*, seed: int, n: int, profile: str) -> Plan:
    """Everything is cancelled, as a rule while its points are written and nothing is committed."""
    rng = random.Random(seed)
    operations = tuple(
        _cancelled(rng, number, document=number, shape=rng.choice((Shape.NOTE, Shape.LONG_NOTE)))
        for number in range(n)
    )
    harms = tuple(_between_points_and_commit(operations))
    return Plan(seed=seed, profile=profile, operations=operations, harms=harms)


def _cancelled(rng: random.Random, number: int, *, document: int, shape: Shape) -> Operation:
    pause = rng.uniform(0, _LONGEST_CANCEL_SECONDS)
    return Operation(
        number=number, kind=Kind.CANCEL, document=document, version=1, shape=shape, cancel_after_seconds=pause
    )


def _between_points_and_commit(operations: Sequence[Operation]) -> Iterator[Harm]:
    """What is cancelled meets its cancellation when its points are written and nothing is committed, as often as can be."""
    for one in operations:
        if one.kind is Kind.CANCEL:
            yield Harm(at=one.number, act=Act.FAIL, target="record.commit.before")


def _operations(rng: random.Random, n: int) -> Iterator[Operation]:
    last: dict[int, Operation] = {}
    for number in range(n):
        kind = rng.choices(list(Kind), weights=(50, 26, 6, 8, 10))[0] if len(last) > 3 else Kind.ADD
        if kind in (Kind.ADD, Kind.CANCEL):
            document, version, shape = len(last), 1, _shape(rng)
        else:
            document = rng.choice(list(last))
            before = last[document]
            shape = before.shape
            version = before.version + (
                kind is Kind.UPDATE or (kind is Kind.SAME and before.kind is Kind.FORGET)
            )
        last[document] = (
            _cancelled(rng, number, document=document, shape=shape)
            if kind is Kind.CANCEL
            else Operation(number=number, kind=kind, document=document, version=version, shape=shape)
        )
        yield last[document]


def _shape(rng: random.Random) -> Shape:
    return rng.choices(
        list(Shape), weights=[8 if one in (Shape.NOTE, Shape.CONVERSATION) else 2 for one in Shape]
    )[0]


def _harms(rng: random.Random, n: int, kills: int, profile: str, targets: Sequence[str]) -> list[Harm]:
    harms: list[Harm] = []

    def spread(number: int) -> list[int]:
        """Moments all over the run, but its first steps."""
        return [int(n * (0.08 + 0.9 * (place + rng.random()) / number)) for place in range(number)]

    # Each as often as the others, in an order of chance.
    killed = [targets[place % len(targets)] for place in range(kills)]
    rng.shuffle(killed)
    harms += [Harm(at=at, act=Act.KILL, target=one) for at, one in zip(spread(kills), killed, strict=True)]
    some = max(1, kills // 4)
    harms += [
        Harm(at=at, act=Act.PAUSE, target=rng.choice(targets), seconds=rng.uniform(0.5, 4))
        for at in spread(some)
    ]
    points = [*POINTS, *(POINTS_OF_SERVERS if profile == "servers" else ())]
    asked = len(points) if kills >= _FULL_SIZE else max(2, kills // 2)
    failing = [one for one in points if not one.startswith(_NEVER_FAILS)]
    for act, among in ((Act.FAIL, failing), (Act.DIE, points)):
        chosen = rng.sample(among, min(asked, len(among)))
        harms += [
            Harm(at=at, act=act, target=one) for at, one in zip(spread(len(chosen)), chosen, strict=True)
        ]
    if profile == "servers":
        cut = [one for one in targets if one not in ("server", "worker", "parser")]
        harms += [Harm(at=at, act=Act.CUT, target=rng.choice(cut)) for at in spread(some)]
    else:
        harms.append(Harm(at=int(n * 0.3), act=Act.FILL_DISK, seconds=3))
    harms.append(Harm(at=int(n * 0.45), act=Act.LOSE_TEMPORAL))
    harms.append(Harm(at=int(n * 0.6), act=Act.WIPE_INDEX))
    harms.append(Harm(at=int(n * 0.9), act=Act.KILL_EVERYTHING))
    return harms
