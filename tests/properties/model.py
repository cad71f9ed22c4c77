"""What a memory must be after each operation, as a few plain dictionaries."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from uuid import UUID

from apex_mcp.ids import core_name

Fact = tuple[str, str, str]
Id = tuple[int, int]


@dataclass(frozen=True)
class Said:
    """What one version says: a word that no other one has, names, and facts."""

    marker: str
    names: frozenset[str] = frozenset()
    facts: frozenset[Fact] = frozenset()

    @property
    def named(self) -> frozenset[str]:
        """Every entity: those given, and those that a fact is about."""
        return self.names | {subject for subject, _, _ in self.facts}

    def without(self, gone: Collection[str]) -> "Said":
        """As it is stored: whom a fact was about stays named where what it told of goes."""
        less = self.as_if_never_given(gone)
        about = {subject for subject, _, _ in self.facts - less.facts}
        return replace(less, names=less.names | (about - set(gone)))

    def as_if_never_given(self, gone: Collection[str]) -> "Said":
        """As what is kept of a request, of which nothing was made yet."""
        facts = {fact for fact in self.facts if fact[0] not in gone and fact[2] not in gone}
        return replace(self, names=self.names - set(gone), facts=frozenset(facts))


@dataclass(frozen=True)
class Version:
    """Current from one step until before another.

    Attributes:
        sent: what its sender gave; `said` lacks what was forgotten of that.
        accepted: the step at which it was given, which is an earlier one where it was cancelled, and then tried again.
        imported: of how many archives in a row it came.
    """

    said: Said
    sent: Said
    accepted: int
    since: int
    until: int | None = None
    imported: int = 0

    def shows(self, step: int) -> bool:
        return self.since <= step and (self.until is None or step < self.until)

    @property
    def id(self) -> Id:
        """No step accepts two things."""
        return self.accepted, self.imported

    @property
    def content(self) -> tuple[Said, bool]:
        """What is compared to tell whether something is new: what was given, and that it is not all there any more."""
        return self.sent, self.said != self.sent


@dataclass
class Document:
    """Its versions, the last one current.

    Attributes:
        accepted: the steps at which they were given, and those that were pruned since.
        attempts: its cancelled ingestions, and the step at which each was given.
        cancelled: what its newest ingestion says, if that was cancelled: it may be tried again.
    """

    versions: list[Version] = field(default_factory=list[Version])
    accepted: list[int] = field(default_factory=list[int])
    attempts: dict[UUID, int] = field(default_factory=dict[UUID, int])
    cancelled: Said | None = None


@dataclass
class Split:
    """Two spellings that are kept apart from one step until before another."""

    core: str
    since: int
    until: int | None = None

    def holds(self, step: int) -> bool:
        return self.since <= step and (self.until is None or step < self.until)


@dataclass(frozen=True)
class Shown:
    """An entity as it is shown: its names, the words of what names it, the facts about it."""

    names: frozenset[str]
    markers: frozenset[str]
    facts: frozenset[Fact]


@dataclass
class Model:
    """One namespace.

    Attributes:
        forgotten_keys, forgotten_names: what no archive brings back.
        removed: versions that went; under the same id none comes again.
        known_from: the step before which something was pruned.
    """

    documents: dict[str, Document] = field(default_factory=dict[str, Document])
    splits: list[Split] = field(default_factory=list[Split])
    forgotten_keys: set[str] = field(default_factory=set[str])
    forgotten_names: set[str] = field(default_factory=set[str])
    removed: set[tuple[str, Id]] = field(default_factory=set[tuple[str, Id]])
    stands: bool = False
    known_from: int | None = None

    # --- what there is -----------------------------------------------------------------------------------------------

    def current(self, key: str) -> Version | None:
        versions = self.documents[key].versions if key in self.documents else []
        return versions[-1] if versions else None

    def visible(self, step: int) -> dict[str, Said]:
        """What each document says at a step."""
        return {
            key: one.said
            for key, document in self.documents.items()
            for one in document.versions
            if one.shows(step)
        }

    def versions(self) -> int:
        return sum(len(document.versions) for document in self.documents.values())

    def split(self, core: str, step: int) -> Split | None:
        return next((one for one in self.splits if one.core == core and one.holds(step)), None)

    def entities(self, step: int) -> set[Shown]:
        """As they are shown: spellings of one name are one, unless they were split."""
        said = self.visible(step).values()
        groups: dict[object, set[str]] = {}
        for name in {name for one in said for name in one.named}:
            core = core_name(name)
            groups.setdefault(name if self.split(core, step) else (core,), set()).add(name)
        return {_shown(names, said) for names in groups.values()}

    def facts(self, step: int) -> set[Fact]:
        return {fact for one in self.visible(step).values() for fact in one.facts}

    def spelled_alike(self, name: str) -> set[str]:
        """Every name, of the past as well, that has this one's core."""
        known = {named for one in self._all_versions() for named in one.said.named}
        return {one for one in known if core_name(one) == core_name(name)}

    # --- what is done ------------------------------------------------------------------------------------------------

    def given(self, key: str, said: Said) -> None:
        """The user's own word lifts what was forgotten."""
        self.stands = True
        self.forgotten_keys.discard(key)
        self.forgotten_names -= said.named | {thing for _, _, thing in said.facts}

    def remember(self, key: str, new: Version) -> None:
        """A new version takes the place of the last one."""
        document = self.documents.setdefault(key, Document())
        if document.versions:
            document.versions[-1] = replace(document.versions[-1], until=new.since)
        document.versions.append(new)
        document.accepted.append(new.accepted)
        document.cancelled = None

    def cancel(self, key: str, said: Said, step: int, attempt: UUID) -> None:
        document = self.documents.setdefault(key, Document())
        document.attempts[attempt] = step
        document.cancelled = said

    def forget_documents(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.removed |= {(key, one.id) for one in self.documents.pop(key).versions}
            self.forgotten_keys.add(key)

    def forget_namespace(self) -> None:
        self.forget_documents(list(self.documents))
        self.splits.clear()
        self.stands = False
        self.known_from = None

    def forget_entity(self, name: str, step: int) -> None:
        gone = {name} if self.split(core_name(name), step) else self.spelled_alike(name)
        self.splits = [one for one in self.splits if one.core != core_name(name)]
        self.forgotten_names |= gone
        self._say(lambda said: said.without(gone))
        for document in self.documents.values():
            if document.cancelled is not None:
                document.cancelled = document.cancelled.as_if_never_given(gone)

    def accepted_in(self, after: int, before: int) -> set[str]:
        """Documents that were given behind the one step, and not behind the other.

        What was cancelled counts only where nothing else is there of its document.
        """
        return {
            key
            for key, document in self.documents.items()
            if any(
                after < step <= before
                for step in (document.accepted if document.versions else document.attempts.values())
            )
        }

    def prune(self, step: int) -> None:
        past = [one.until for one in self._all_versions() if one.until is not None]
        if past:
            self.known_from = max(past)
        for key, document in self.documents.items():
            self.removed |= {(key, one.id) for one in document.versions if one.until is not None}
            document.versions = [one for one in document.versions if one.until is None]

    def copy(self) -> "Model":
        """What an archive holds of it: documents that are searchable, and what was forgotten."""
        return Model(
            documents={
                key: Document(list(one.versions), [version.accepted for version in one.versions])
                for key, one in self.documents.items()
                if one.versions
            },
            splits=[replace(one) for one in self.splits],
            forgotten_keys=set(self.forgotten_keys),
            forgotten_names=set(self.forgotten_names),
            stands=True,
            known_from=self.known_from,
        )

    def taken_elsewhere(self, archive: "Model") -> "Model":
        """What comes of an archive of this memory in a namespace that held nothing: no more than was not forgotten since."""
        taken = archive.copy()
        for key in self.forgotten_keys:
            taken.documents.pop(key, None)
        taken._say(lambda said: said.without(self.forgotten_names))
        named = {name for one in taken._all_versions() for name in one.said.named}
        # Both have to be there.
        cores = [core_name(name) for name in named]
        taken.splits = [one for one in taken.splits if cores.count(one.core) > 1]
        return taken

    def take_back(self, archive: "Model", step: int, *, again: bool) -> None:
        """Its own archive comes in again: what is not here of a document that has nothing newer, and was not forgotten."""
        self.stands = True
        for key, theirs in archive.documents.items():
            if key in self.forgotten_keys:
                continue
            previous: Version | None = None
            for one in theirs.versions:
                comes = replace(
                    one,
                    said=one.said.without(self.forgotten_names),
                    since=step,
                    until=None,
                    imported=one.imported + 1,
                )
                if self._wanted(key, comes, previous, theirs.versions[-1]):
                    self.remember(key, comes)
                previous = comes
        if again:
            return
        known = {name for one in self._all_versions() for name in one.said.named}
        cores = [core_name(name) for name in known]
        for split in archive.splits:
            if split.until is None and cores.count(split.core) > 1 and not self.split(split.core, step):
                self.splits.append(Split(split.core, step))

    def _wanted(self, key: str, one: Version, previous: Version | None, newest: Version) -> bool:
        """Whether a version out of an archive comes after what is current."""
        current = self.current(key)
        known = {version.id for version in self.documents[key].versions} if current is not None else set[Id]()
        if (key, one.id) in self.removed or one.id in known:
            return False
        if current is None or (previous is not None and current.id == previous.id):
            return True
        return current.content != newest.content and current.accepted < one.accepted

    def _say(self, change: Callable[[Said], Said]) -> None:
        for document in self.documents.values():
            document.versions = [replace(one, said=change(one.said)) for one in document.versions]

    def _all_versions(self) -> Iterator[Version]:
        for document in self.documents.values():
            yield from document.versions


def _shown(names: Collection[str], said: Iterable[Said]) -> Shown:
    """Who only appears as what a fact tells of another is not named by it, but has it."""
    said = list(said)
    markers = {one.marker for one in said if one.named & set(names)}
    facts = {fact for one in said for fact in one.facts if {fact[0], fact[2]} & set(names)}
    return Shown(frozenset(names), frozenset(markers), frozenset(facts))
