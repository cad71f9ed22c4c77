"""The sentence patterns of facts: what must stand, whole, between two mentions that follow each other."""

import re
from dataclasses import dataclass

from apex_mcp.ingestion.extraction.mentions import Kind
from apex_mcp.ingestion.extraction.roles import AS_WORK, JOB, ROLE

ROLES = rf"(?P<roles>{ROLE}(?:(?:,? and |,? & |/)(?:the )?{ROLE})?)"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    Attributes:
        predicate: "" where the role in the text gives it.
        swapped: the second mention is the subject.
        ended: it tells of the past, so it is a fact only with a date of its end.
        unless: what follows the second mention where this is no fact.
    """

    between: re.Pattern[str]
    predicate: str = ""
    swapped: bool = False
    ended: bool = False
    unless: re.Pattern[str] | None = None


def _p(
    between: str,
    predicate: str = "",
    *,
    swapped: bool = False,
    ended: bool = False,
    unless: re.Pattern[str] | None = None,
) -> Pattern:
    return Pattern(re.compile(between), predicate, swapped, ended, unless)


_HAS = "(?:has |have )?"
_NAMED = "(?:appointed|named|elected|promoted to)"
_IN_TOTAL = "(?:total |annual |quarterly |record )?"
# "joined Initech for a lunch", "left Initech on Monday for a meeting".
_A_VISIT = re.compile(
    r"(?: (?:on|in|at) [\w ]{1,20}?)? (?:for|at|on) (?:an? |the |\w+ )?(?:\w+ )?"
    r"(?:stage|podcast|panel|interview|webinar|holidays?|days?|weeks?|months?|years?|lunch|dinner|breakfast|coffee|drinks?|meeting|call|visit|tour|walk|talks?|chat|night|party|event)\b"
)
# "joined Initech in condemning", "and Globex in a lawsuit", "as plaintiff", "as it collapsed".
NO_WORK = re.compile(
    rf"{_A_VISIT.pattern}| in (?!spring)[a-z]+ing\b|,? (?:and )?(?:the )?[A-Z]| (?=as )(?!as of |{AS_WORK})"
)
_PERSON_ORGANIZATION = (
    _p(rf",? (?:is |who is |serves as |has been )?(?:the |an? )?(?:current |new )?{ROLES} (?:of|at|for) (?:the )?"),
    _p(rf" (?:was|has been|is) {_NAMED} (?:as )?(?:the |an? )?(?:new )?{ROLES} (?:of|at) (?:the )?"),
    _p(rf" (?:became|becomes|took over as|takes over as) (?:the )?(?:new )?{ROLES} (?:of|at) (?:the )?"),
    _p(rf" (?:served as|was) (?:the |an? )?{ROLES} (?:of|at|for) (?:the )?", ended=True),
    _p(rf" {_HAS}joined (?:the )?", "works_at", unless=NO_WORK),
    _p(rf" {_HAS}(?:left|resigned from|stepped down from|retired from|departed from) (?:the )?", "left", unless=_A_VISIT),
    _p(rf" {_HAS}(?:founded|co-founded|cofounded) (?:the )?", "founded"),
    _p(
        r"(?:,? who)? (?:(?:(?:currently |now )?works|has worked) (?:for|at)"
        r"|is (?:currently |now )?employed (?:for|at|by|with)) (?:the )?",
        "works_at",
    ),
    _p(rf",? (?:(?:who )?is )?an? {JOB} at (?:the )?", "works_at"),
    _p(r" worked (?:for|at) (?:the )?", "works_at", ended=True),
)  # fmt: skip
_ORGANIZATION_PERSON = (
    _p(rf"(?:['’]s?)? (?:new )?{ROLES},? ", swapped=True),
    _p(r",? (?:which )?(?:was )?(?:co-)?founded by ", "founded", swapped=True),
)
_ORGANIZATION_ORGANIZATION = (
    _p(rf" {_HAS}(?:acquired|bought|taken over|took over|completed (?:the|its) acquisition of) (?:the )?", "acquired"),
    _p(r" (?:was|has been) (?:acquired|bought|taken over) by (?:the )?", "acquired", swapped=True),
    _p(rf" {_HAS}merged with (?:the )?", "merged_with"),
    _p(r"(?:,| is|, which is) an? (?:wholly[- ]owned )?(?:subsidiary|division|unit) of (?:the )?", "subsidiary_of"),
    _p(rf" {_HAS}(?:partnered with|entered into a partnership with|announced a partnership with) (?:the )?", "partnered_with"),
)  # fmt: skip
_ORGANIZATION_PLACE = (
    _p(r",? (?:which )?(?:is )?(?:headquartered|based) in (?:the )?", "headquartered_in"),
    _p(r",? (?:has|with) its headquarters in (?:the )?", "headquartered_in"),
)
_PERSON_PLACE = (
    _p(r",? (?:who )?(?:was )?born in (?:the )?", "born_in"),
    _p(r" (?:lives|resides) in (?:the )?", "lives_in"),
)
_PERSON_DATE = (
    _p(r",? ?\(?(?:who )?(?:was )?born:?(?: on| in)? (?:the )?", "born_on"),
    _p(r" died (?:on|in) (?:the )?", "died_on"),
)
_ORGANIZATION_DATE = (
    _p(r",? (?:which )?(?:was |is )?(?:founded|established|incorporated)(?: on| in) ", "founded_on"),
)
_ORGANIZATION_MONEY = (
    _p(
        rf" (?:reported|posted|recorded|announced|generated) {_IN_TOTAL}(?:revenues?|sales) of (?:about |approximately )?",
        "revenue",
    ),
    _p(
        rf"(?:['’]s)? {_IN_TOTAL}revenues? (?:was|were|is|reached|totall?ed|rose to|grew to|increased to|fell to) ",
        "revenue",
    ),
    _p(rf" {_HAS}raised ", "raised"),
)  # fmt: skip
_PAPER_DATE = (
    _p(
        r",? (?:is |becomes |became |shall be(?:come)? |will be(?:come)? )?(?:effective|valid|in force)(?: from| as of| on)? ",
        "effective_from",
    ),
    _p(r" (?:takes effect|enters into force|comes into force|took effect) on ", "effective_from"),
    _p(r",? (?:is )?(?:expires|terminates|ends|valid until) (?:on )?", "valid_until"),
    _p(r",? (?:was )?(?:signed|dated|executed) (?:on )?", "signed_on"),
)  # fmt: skip

PATTERNS: dict[tuple[Kind, Kind], tuple[Pattern, ...]] = {
    (Kind.PERSON, Kind.ORGANIZATION): _PERSON_ORGANIZATION,
    (Kind.ORGANIZATION, Kind.PERSON): _ORGANIZATION_PERSON,
    (Kind.ORGANIZATION, Kind.ORGANIZATION): _ORGANIZATION_ORGANIZATION,
    (Kind.ORGANIZATION, Kind.PLACE): _ORGANIZATION_PLACE,
    (Kind.PERSON, Kind.PLACE): _PERSON_PLACE,
    (Kind.PERSON, Kind.DATE): _PERSON_DATE,
    (Kind.PERSON, Kind.EMAIL): (_p(r" ?[<(\[]", "has_email"),),
    (Kind.ORGANIZATION, Kind.DATE): _ORGANIZATION_DATE,
    (Kind.ORGANIZATION, Kind.AMOUNT): _ORGANIZATION_MONEY,
    (Kind.CONTRACT, Kind.DATE): _PAPER_DATE,
    (Kind.DOCUMENT, Kind.DATE): _PAPER_DATE,
}

# A date beside one of these is when it happened; it is not true until then, and no longer.
EVENTS = frozenset(["left", "acquired", "merged_with", "partnered_with", "founded", "raised", "born_in"])
# Beside these a date in the sentence tells nothing of when they were true.
TIMELESS = frozenset(["has_email", "headquartered_in", "valid_until"])
