"""Whether a sentence says for certain what a pattern found in it: what stands before, what follows, and words of doubt."""

import re

from apex_mcp.ingestion.extraction.roles import ROLE

_LONGEST_BEFORE = 80
MARKUP = r"[*_\"“\[]{0,3}"
_ARTICLE = "(?:the|an?|our|its|his|her|their|my|your)"
_IN = (
    "in|into|to|for|with|without|by|from|at|on|over|under|than|like|such as|unlike|except|besides|about|against|behind|between"
    "|among|around|via|despite|including|versus"
)
_DID = r"(?:has |had )?(?:[a-z]+(?:ed|s)|bought|sold|met|knows?|hit|led|left)"
# "The mother of Jane Doe lives in Paris" tells of the mother, "who hired Jane Doe works at" of who hired her, and "repairing
# the Widget Pro costs $49" of the repair.
_BELONGS_TO = re.compile(
    rf"\b(?:(?P<of>(?<![Aa]s )[Oo]f\s(?!course )(?:[^,;:()\n]{{1,40}} and )?(?:{_ARTICLE}\s)?(?:[a-z-]+\s|C[A-Z]O ){{0,2}})"
    rf"|(?i:{_IN})\s(?:{_ARTICLE}\s)?|(?:[Ww]ho|[Ww]hoever|which|that)\s{_DID}\s|(?!morning|evening|spring)[a-z]+ing\s"
    rf"|(?:[A-Za-z]+ing|[Tt]o [a-z]+) {_ARTICLE} |(?i:until|till) [^.,;\n]{{1,30}},? ){MARKUP}$"
)
# What explains the name before it ("Jane Doe, CEO of", "Jane Doe <jane@...", "ACME's CEO"), whatever stands before that.
_EXPLAINS = re.compile(rf" ?[<(\[]|['’]|,? (?:the |an? )?(?:current |new )?{ROLE}|, an? ")
# "Globex, a subsidiary of Initech, is based in Berlin": behind a comma the sentence goes on about what it began with.
_GOES_ON = re.compile(r", (?:is|was|were|has|have|had|will|shall|becomes?|became)\b")

_AFTER = (
    "on|in|for|from|at|during|last|this|and|as|through|after|before|with|who|which|that|since|while|where|but|effective"
    "|by|because|when|now|today|again|despite|versus"
)
_STOPS = r"[ \n]?[(\[]|[.,;:)\n!\"”*_\]]|$| [–—-] "
# What must follow an organisation that is an object: "acquired Bosch's sensor division" says nothing of Bosch itself.
AFTER_OBJECT = re.compile(rf"{_STOPS}| (?:{_AFTER}|to|under|is|was|earlier|later|until|till)\b")
# The same for an amount: "costs $49 less than", "$49 to $99", "revenue was $5 million below" state none.
AFTER_AMOUNT = re.compile(
    rf"{_STOPS}|/| (?:{_AFTER}|an?|per|each|apiece|plus|incl|including|inclusive|excl|excluding|net(?! of)|gross|only|total"
    r"|so far|online|up front|compared|against|annually|yearly|monthly|starting|led|via|within|yesterday"
    r"|of (?:Series|seed|fresh|new)|seed|Series|thanks|due|following|to (?=[a-z]))\b"
)

# What a sentence puts in doubt is no fact ("May" with a capital is a month, "No." a number; no part of an address is meant).
_UNCERTAIN = re.compile(
    r"(?<![\w.@-])(?:(?i:if|whether|would|could|might|not|never|neither|nor|nobody|no one|nothing|none|no(?![.-])|without|unless"
    r"|hardly|(?:nearly|almost)(?! (?:\w+ )?(?:years?|months?|weeks?|decades?)\b)"
    r"|contrary|wrong\w*|untrue|den(?:y|ies|ied)|doubt\w*|lied?|lies|thinks?|thought|believe[sd]?|guess\w*"
    r"|hope[sd]?|rumou?r\w*|allege\w*|reportedly|suppose\w*|imagine|pretend\w*|assum(?:e|ing)|claim\w*|false\w*"
    r"|replac(?:es|ed|ing)|succeed(?:s|ed|ing)|ousted|outgoing"
    r"|perhaps|maybe|probably|possibly|likely|apparently|in case|provided that|planned|proposed|hypothetical\w*"
    r"|for example|(?:example|draft|template|fake news)(?=:)|scenario|test data|todo"
    r"|in (?:the|a|this) (?:novel|film|movie|story|play)|former|formerly|ex)|may|Had)(?![\w@])|e\.g\.|n['’]t\b"
)
# These take back what stands before them.
_TAKEN_BACK = re.compile(
    r"(?:\b|(?=,))(?i:allegedly|supposedly|reportedly|rumou?r\w*|untrue|false|falsely|(?:not|n['’]t) (?:true|so|correct|the case)"
    r"|(?:is|was) (?:wrong|a lie|a joke)|kidding|no (?:more|longer)|said nobody|or so|called off|fell through"
    r"|(?:but|then|and) (?:\w+ )?(?:declined(?! by)|refused|withdrew|backed out)"
    r"|unconfirmed|, (?:maybe|perhaps|probably|as far as|if|I (?:think|believe|guess|suppose|hope)))\b"
    r"|, (?:\w+ )?(?!(?:the|these|those|all|any|such|its|his|her|their) )\w+ claim(?:s|ed)?\b"
)
_SAID = re.compile(r"[\"”],? (?:said|says|added|adds|explained|explains|commented|comments|stated|noted)\b")
_SAYS = re.compile(
    r",? (?:said|says|told|denied|denies|called) (?:that|it|he|she|they|on|in|reporters|rumou?rs)\b"
)


def belongs_to_another(text: str, start: int, told: str) -> bool:
    """Whether `told`, which stands behind the name at `start`, is told of something else: "the mother of Jane Doe"."""
    if _GOES_ON.match(told):
        # But in "the founder of Globex, Jane Doe, was born in Paris" with the name itself.
        return not text.startswith(", ", start - 2)
    if explains(told):
        return False
    before = _BELONGS_TO.search(text, max(0, start - _LONGEST_BEFORE), start)
    # "We met with Jane Doe, who is CEO of ..." is clear; of "the mother of Jane Doe, who is ..." it may be either.
    return before is not None and (before["of"] is not None or not told.startswith(","))


def explains(told: str) -> bool:
    """Whether `told` does no more than explain the name before it: ", CEO of"."""
    return _EXPLAINS.match(told) is not None


def is_in_doubt(text: str, sentence: tuple[int, int], end: int) -> bool:
    """Whether words of doubt stand before `end` in the sentence, or it takes back behind it what it said."""
    start, sentence_end = sentence
    # What somebody says is in doubt does not concern who says it: "We might sell," said Jane Doe, CEO of ...
    said = max((quote.end() for quote in _SAID.finditer(text, start, end)), default=start)
    takes_back = None if _SAYS.match(text, end) else _TAKEN_BACK.search(text, said, sentence_end)
    return takes_back is not None or _UNCERTAIN.search(text, said, end) is not None
