"""Roles that a person holds, as texts write them, and the predicates they become."""

import re

_SPELLINGS = {
    "ceo": "CEO|[Cc]hief [Ee]xecutive(?: [Oo]fficer)?",
    "cfo": "CFO|[Cc]hief [Ff]inancial [Oo]fficer",
    "cto": "CTO|[Cc]hief [Tt]echnology [Oo]fficer|[Cc]hief [Tt]echnical [Oo]fficer",
    "coo": "COO|[Cc]hief [Oo]perating [Oo]fficer",
    "cio": "CIO|[Cc]hief [Ii]nformation [Oo]fficer",
    "cmo": "CMO|[Cc]hief [Mm]arketing [Oo]fficer",
    "cpo": "CPO|[Cc]hief [Pp]roduct [Oo]fficer",
    "ciso": "CISO|[Cc]hief [Ii]nformation [Ss]ecurity [Oo]fficer",
    "chief_scientist": "[Cc]hief [Ss]cientist",
    "chief_economist": "[Cc]hief [Ee]conomist",
    "vice_president": "[Vv]ice[ -][Pp]resident|VP|[Ss]enior [Vv]ice [Pp]resident|SVP",
    "president": "[Pp]resident",
    "vice_chair": "[Vv]ice[ -][Cc]hair(?:man|woman|person)?|[Dd]eputy [Cc]hair(?:man|woman)?",
    "chair": "[Cc]hair(?:man|woman|person)?|[Ee]xecutive [Cc]hair(?:man|woman)?",
    "managing_director": "[Mm]anaging [Dd]irector|Geschäftsführer(?:in)?|[Dd]irecteur [Gg]énéral|[Dd]irector [Gg]eneral",
    "executive_director": "[Ee]xecutive [Dd]irector",
    "general_counsel": "[Gg]eneral [Cc]ounsel",
    "general_manager": "[Gg]eneral [Mm]anager",
    "cofounder": "[Cc]o-?[Ff]ounder",
    "founder": "[Ff]ounder",
    "owner": "[Oo]wner",
    "editor_in_chief": "[Ee]ditor[- ]in[- ][Cc]hief",
    "director": "[Dd]irector",
    "secretary_general": "[Ss]ecretary[- ][Gg]eneral",
    "treasurer": "[Tt]reasurer",
    "head_coach": "[Hh]ead [Cc]oach",
    "professor": "[Pp]rofessor|[Aa]ssociate [Pp]rofessor|[Aa]ssistant [Pp]rofessor",
    "project_manager": "[Pp]roject [Mm]anager",
    "product_manager": "[Pp]roduct [Mm]anager",
}
_LONGEST_FIRST = sorted(
    (
        (spelling, slug)
        for slug, group in _SPELLINGS.items()
        for spelling in re.split(r"\|(?![^(]*\))", group)
    ),
    key=lambda item: len(item[0]),
    reverse=True,
)
# A department may follow ("director of engineering", "head of sales"); it becomes part of the predicate.
_DEPARTMENT = (
    r"(?:[Hh]ead|[Dd]irector|VP|[Vv]ice [Pp]resident|[Pp]rofessor) (?:of|for) [A-Za-z]+(?: (?:and|&) [A-Za-z]+| [a-z]+)?"
    r"(?=,? (?:at|of) |,|\.|\n|\)|$)"
)
ROLE = rf"(?:{_DEPARTMENT}|{'|'.join(spelling for spelling, _ in _LONGEST_FIRST)})(?![\w-])"
JOB = (
    r"(?:(?!(?i:retired|former|guest|visiting) )[A-Za-z]+ ){0,2}"
    r"(?i:engineer|developer|programmer|scientist|researcher|chemist|physicist|analyst|designer"
    r"|architect|manager|consultant|accountant|lawyer|nurse|doctor|physician|teacher|lecturer|editor|journalist|reporter|technician|mechanic"
    r"|salesman|saleswoman|clerk|secretary|receptionist|trainee|apprentice|intern)(?![\w-])"
)
# "as CFO", "as lead engineer", "as a buyer", but neither "as a guest" nor "as it collapsed".
AS_WORK = (
    rf"as (?:(?:its |the |an? |their )?(?:new )?(?:{ROLE}|{JOB})|(?:an?|the|its|their) (?!(?:[a-z]+ ){{0,2}}(?:guests?|members?"
    r"|visitors?|users?|customers?|clients?|volunteers?|observers?|plaintiffs?|defendants?|sponsors?|students?|patients?|fans?"
    r"|speakers?|investors?|shareholders?|partners?|part|result|way|token|sign|favou?r)\b)[a-z])"
)
ROLE_PATTERN = re.compile(ROLE)
_AND = re.compile(r"\s*(?:,? and |,? & |, |/)\s*(?:the )?")
_EXACT = tuple((re.compile(spelling), slug) for spelling, slug in _LONGEST_FIRST)


def predicates(roles: str) -> list[str]:
    """The predicates of one or more roles: "founder and CEO" -> ["founder_of", "ceo_of"]."""
    found: list[str] = []
    position = 0
    while match := ROLE_PATTERN.match(roles, position):
        slug = next((slug for pattern, slug in _EXACT if pattern.fullmatch(match.group())), None)
        if slug:
            found.append(f"{slug}_of")
        else:
            words = re.sub(r"\W+", "_", match.group().lower().replace("vp ", "vice president "))
            found.append(f"{words}_at")
        joint = _AND.match(roles, match.end())
        if not joint:
            break
        position = joint.end()
    return found
