"""Mentions of one document that name the same thing become one entity: "ACME Corporation (ACME)", "Dr. Jane Smith", "Smith"."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from apex_mcp.ids import normalise_name
from apex_mcp.ingestion.extraction import lexicon
from apex_mcp.ingestion.extraction.mentions import PRIORITY, Kind, Mention
from apex_mcp.ingestion.extraction.organizations import base_and_form
from apex_mcp.ingestion.extraction.person_names import RANKS, titled
from apex_mcp.ingestion.extraction.words import Words

_GENERATIONS = frozenset(["jr", "sr", "ii", "iii", "iv"])


@dataclass(slots=True)
class Named:
    """One entity of the document, with all its mentions in text order."""

    kind: Kind
    name: str
    aliases: tuple[str, ...] = ()
    mentions: list[Mention] = field(default_factory=list[Mention])


def unify(words: Words, mentions: Iterable[Mention]) -> list[Named]:
    """The entities that the mentions name, in the order of their first mention; bare surnames and short names are added."""
    by_kind: defaultdict[Kind, list[Mention]] = defaultdict(list)
    taken: list[Mention] = []
    for mention in mentions:
        by_kind[mention.kind].append(mention)
        if mention.kind is not Kind.TOPIC:
            taken.append(mention)
    people = _people(by_kind.pop(Kind.PERSON, []))
    organizations = _organizations(by_kind.pop(Kind.ORGANIZATION, []))
    others = [_named(kind, group) for kind, found in by_kind.items() for group in _by_name(found)]
    _add_short_mentions(words, people, organizations, taken)
    return _one_per_name([*organizations, *people, *others])


def _by_name(mentions: list[Mention]) -> Iterable[list[Mention]]:
    groups: defaultdict[str, list[Mention]] = defaultdict(list)
    for mention in mentions:
        groups[normalise_name(mention.name)].append(mention)
    return groups.values()


def _named(kind: Kind, mentions: list[Mention]) -> Named:
    """The entity of these mentions: its name is the one used most, its aliases the other spellings."""
    counts = Counter(mention.name for mention in mentions)
    # Of names used equally often the fuller, and rather one that isn't in capitals throughout.
    name = max(counts, key=lambda item: (not item.isupper() or " " not in item, counts[item], len(item)))
    spellings: dict[str, str] = {}
    for mention in mentions:
        # "Mr. Smith" is an alias of one Smith in this document only, so it isn't kept.
        surfaces = (mention.surface,) if len(mention.surface.split()) > 2 or not mention.title else ()
        for spelling in (mention.name, *surfaces, *mention.extra_names):
            spellings.setdefault(normalise_name(spelling), spelling)
    spellings.pop(normalise_name(name), None)
    return Named(kind, name, tuple(spellings.values()), mentions)


def _people(mentions: list[Mention]) -> list[Named]:
    full: defaultdict[tuple[str, str], list[Mention]] = defaultdict(list)
    single: list[Mention] = []
    for mention in mentions:
        parts = _parts(mention.name)
        if len(parts) > 1:
            full[parts[0], parts[-1]].append(mention)
        else:
            single.append(mention)
    groups = _without_beginnings([group for same in full.values() for group in _by_middle_name(same)])
    alone: defaultdict[str, list[Mention]] = defaultdict(list)
    by_single_name: defaultdict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        for part in {part for member in group for part in (_parts(member.name)[0], _parts(member.name)[-1])}:
            by_single_name[part].append(number)
    titles = [{title for member in group for title in member.title.split()} for group in groups]
    for mention in single:
        part = " ".join(_parts(mention.name)[:1])
        known = by_single_name.get(part, [])
        # Where so many share a name, nobody in particular is meant.
        candidates = (
            [n for n in known if _may_mean(mention, part, groups[n][0], titles[n])] if len(known) < 20 else []
        )
        if len(candidates) == 1:
            group = groups[candidates[0]]
            group.append(_renamed(mention, group[0].name))
        else:
            name = titled(mention.title, mention.name)
            alone[normalise_name(name)].append(_renamed(mention, name))
    return [_named(Kind.PERSON, group) for group in [*groups, *alone.values()]]


def _parts(name: str) -> list[str]:
    parts = [part.strip(".,") for part in normalise_name(name).split()]
    return [part for part in parts if part and part not in _GENERATIONS]


def _by_middle_name(mentions: list[Mention]) -> list[list[Mention]]:
    """One group, unless middle names (or Jr. and Sr.) tell several people apart."""
    by_middle: defaultdict[str, list[Mention]] = defaultdict(list)
    for mention in mentions:
        middle = [part.strip(".,")[:1] for part in normalise_name(mention.name).split()[1:-1]]
        by_middle["".join(middle)].append(mention)
    if len(by_middle.keys() - {""}) <= 1:
        return [mentions]
    return list(by_middle.values())


def _without_beginnings(groups: list[list[Mention]]) -> list[list[Mention]]:
    """Joins "Anna Pavlovna" to "Anna Pavlovna Scherer" where no other name begins so."""
    by_beginning: defaultdict[tuple[str, ...], set[int]] = defaultdict(set)
    for number, group in enumerate(groups):
        for parts in {tuple(_parts(mention.name)) for mention in group}:
            for length in range(2, len(parts)):
                by_beginning[parts[:length]].add(number)
    kept: list[list[Mention]] = []
    for number, group in enumerate(groups):
        longer = by_beginning.get(tuple(_parts(group[0].name)), set[int]())
        if len(longer) == 1 and number not in longer:
            groups[next(iter(longer))].extend(group)
        else:
            kept.append(group)
    return kept


def _may_mean(mention: Mention, part: str, person: Mention, titles: set[str]) -> bool:
    """Whether a single name may mean this person: after a title the surname (a rank's own: either name), else the given name."""
    parts = _parts(person.name)
    if not mention.title:
        return part == parts[0]
    if titles and not titles.intersection(mention.title.split()):
        return False
    return part == parts[-1] or bool(titles)


def _renamed(mention: Mention, name: str) -> Mention:
    return Mention(
        start=mention.start, end=mention.end, kind=mention.kind, name=name, surface=name, title=mention.title
    )


def _organizations(mentions: list[Mention]) -> list[Named]:
    groups: defaultdict[tuple[str, str], list[Mention]] = defaultdict(list)
    forms: defaultdict[str, set[str]] = defaultdict(set)
    for mention in mentions:
        base, form = base_and_form(mention.name)
        key = normalise_name(base).replace(".", "")
        groups[key, form].append(mention)
        forms[key].add(form)
    for base, known in forms.items():
        # "Microsoft" is "Microsoft Corporation" where no other form of that name occurs.
        if "" in known and len(known) == 2:
            form = next(form for form in known if form)
            groups[base, form].extend(groups.pop((base, "")))
    return [_named(Kind.ORGANIZATION, group) for group in groups.values()]


def _add_short_mentions(
    words: Words, people: list[Named], organizations: list[Named], taken: list[Mention]
) -> None:
    """Adds mentions by surname alone, or by an organisation's short name, where just one entity can be meant."""
    meant: defaultdict[tuple[str, ...], list[Named]] = defaultdict(list)
    for entity in (*people, *organizations):
        for name in _surname(words, entity) if entity.kind is Kind.PERSON else _short_names(words, entity):
            meant[name].append(entity)
    by_first: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for name, entities in meant.items():
        if len(entities) == 1:
            by_first[" ".join(name[:1])].append(name)
    for first, last, name in _alone(words, by_first, taken) if by_first else ():
        entity, surface = meant[name][0], words.surface(first, last)
        mention = Mention(
            start=words.start[first], end=words.end[last], kind=entity.kind, name=entity.name, surface=surface
        )
        entity.mentions.append(mention)
        # A surname, or "Northwind" for "Northwind Traders, Inc.", is a name in this document only.
        if entity.kind is Kind.ORGANIZATION and " ".join(name) in _whole_short_names(entity):
            known = {normalise_name(alias) for alias in (entity.name, *entity.aliases)}
            if normalise_name(surface) not in known:
                entity.aliases = (*entity.aliases, surface)
    for entity in (*people, *organizations):
        entity.mentions.sort(key=lambda mention: mention.start)


def _alone(
    words: Words, by_first: dict[str, list[tuple[str, ...]]], taken: list[Mention]
) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Places of the short names where no mention and no further capitalised word touches them."""
    next_taken = 0
    for i, word in enumerate(words.word):
        for name in sorted(by_first.get(word, ()), key=len, reverse=True):
            last = i + len(name) - 1
            if tuple(words.word[i : last + 1]) != name:
                continue
            if any(words.gap(k) not in (" ", " & ") for k in range(i, last)):
                continue
            while next_taken < len(taken) and taken[next_taken].end <= words.start[i]:
                next_taken += 1
            free = next_taken == len(taken) or taken[next_taken].start >= words.end[last]
            if free and not _part_of_longer(words, i, last):
                yield i, last, name
            break


def _part_of_longer(words: Words, first: int, last: int) -> bool:
    stop = lexicon.lowered("function_words")
    if words.text.startswith((" family", " families"), words.end[last]):
        return True
    if words.joined_before(first) and words.low[first - 1] not in stop:
        return True
    return words.joined_after(last) and words.low[last + 1] not in stop


def _surname(words: Words, person: Named) -> set[tuple[str, ...]]:
    parts = [part for part in person.name.split() if part.lower().strip(".") not in _GENERATIONS]
    if parts[0] in RANKS:
        # "Justinia" alone may be another than "Empress Justinia".
        return set()
    surname = parts[-1] if len(parts) > 1 else ""
    certain = len(surname) > 2 and not surname.isupper() and _is_name_only(words, surname)
    return {(surname,)} if certain else set()


def _short_names(words: Words, organization: Named) -> set[tuple[str, ...]]:
    """The name without its legal form, its first word, and the short forms that the text itself gives."""
    found: set[tuple[str, ...]] = set()
    for mention in organization.mentions:
        found.update(tuple(extra.split()) for extra in mention.extra_names)
        base, form = base_and_form(mention.name)
        parts = [part for part in base.split() if part != "&"]
        if not form or not parts:
            continue
        if len(parts) > 1 or _is_name_only(words, parts[0]):
            found.add(tuple(parts))
        if len(parts) > 1 and len(parts[0]) >= 5 and _is_name_only(words, parts[0]):
            found.add((parts[0],))
    common = lexicon.lowered("common_words")
    return {name for name in found if not all(part.lower() in common for part in name)}


def _whole_short_names(organization: Named) -> set[str]:
    names = {base_and_form(mention.name)[0] for mention in organization.mentions}
    return names.union(extra for mention in organization.mentions for extra in mention.extra_names)


def _is_name_only(words: Words, word: str) -> bool:
    """Whether this single word can only be a name in this text."""
    low = word.lower()
    return (
        low not in lexicon.lowered("common_words")
        and low not in lexicon.lowered("function_words")
        and low not in words.lower_case
        and low not in lexicon.lowered("given_names")
        and word not in lexicon.by_first_word("places")
    )


def _one_per_name(entities: list[Named]) -> list[Named]:
    """An entity's id is made of its name alone, so things of one name are one entity, of the kind that is trusted most."""
    kept: dict[str, Named] = {}
    for entity in sorted(entities, key=lambda item: PRIORITY[item.kind]):
        key = normalise_name(entity.name)
        if not key:
            continue
        if key in kept:
            kept[key].mentions = sorted(
                [*kept[key].mentions, *entity.mentions], key=lambda mention: mention.start
            )
        else:
            kept[key] = entity
    uses = Counter(
        key for entity in kept.values() for key in {normalise_name(alias) for alias in entity.aliases}
    )
    for entity in kept.values():
        # A name of one entity, or an alias of two, leads nowhere.
        entity.aliases = tuple(
            alias for alias in entity.aliases if (key := normalise_name(alias)) not in kept and uses[key] == 1
        )
    return sorted(kept.values(), key=lambda item: item.mentions[0].start)
