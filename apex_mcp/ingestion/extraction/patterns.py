"""The sentence patterns of facts: what must stand, whole, between two mentions that follow each other."""

import re
from dataclasses import dataclass

from apex_mcp.ingestion.extraction.mentions import Kind
from apex_mcp.ingestion.extraction.roles import ROLE

ROLES = rf"(?P<roles>{ROLE}(?:(?:,? and |,? & |/)(?:the )?{ROLE})?)"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern.

    Attributes:
        predicate: "" where the role in the text gives it.
        swapped: the second mention is the subject.
        ended: it tells of the past, so it is a fact only with a date of its end.
    """

    between: re.Pattern[str]
    predicate: str = ""
    swapped: bool = False
    ended: bool = False


def _p(between: str, predicate: str = "", *, swapped: bool = False, ended: bool = False) -> Pattern:
    return Pattern(re.compile(between), predicate, swapped, ended)


_HAS = "(?:has |have )?"
_NAMED = "(?:appointed|named|elected|promoted to)"
_IN_TOTAL = "(?:total |annual |quarterly |record )?"
_PERSON_ORGANIZATION = (
    _p(rf",? (?:is |who is |serves as |has been )?(?:the |an? )?(?:current |new )?{ROLES} (?:of|at|for) (?:the )?"),
    _p(rf" (?:was|has been|is) {_NAMED} (?:as )?(?:the |an? )?(?:new )?{ROLES} (?:of|at) (?:the )?"),
    _p(rf" (?:became|becomes|took over as|takes over as) (?:the )?(?:new )?{ROLES} (?:of|at) (?:the )?"),
    _p(rf" (?:served as|was) (?:the |an? )?{ROLES} (?:of|at|for) (?:the )?", ended=True),
    _p(rf" {_HAS}joined (?:the )?", "works_at"),
    _p(rf" {_HAS}(?:left|resigned from|stepped down from|retired from|departed from) (?:the )?", "left"),
    _p(rf" {_HAS}(?:founded|co-founded|cofounded) (?:the )?", "founded"),
    _p(r" (?:works|is employed|has worked) (?:for|at|by|with) (?:the )?", "works_at"),
    _p(r" worked (?:for|at|with) (?:the )?", "works_at", ended=True),
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
EVENTS = frozenset(["left", "acquired", "merged_with", "partnered_with", "founded", "raised"])
# Beside these a date in the sentence tells nothing of when they were true.
TIMELESS = frozenset(["has_email", "headquartered_in", "valid_until"])
