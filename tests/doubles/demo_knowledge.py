"""The demo's corpus as a model would understand it: what stands in a text, and what it says."""

from tests.doubles.sentences import Said

_TARNWELL, _AUTHORITY, _CONTRACT = "Tarnwell Instruments", "Ostmere Harbour Authority", "Contract TW-2024-117"
_AUTUMN_2025, _JULY_2024, _MAY_2026 = "2025-09-16T00:00:00Z", "2024-07-01T00:00:00Z", "2026-05-04T00:00:00Z"
_APRIL_2026, _JUNE_2026, _JULY_2026 = "2026-04-01T00:00:00Z", "2026-06-15T00:00:00Z", "2026-07-01T00:00:00Z"


def _organization(name: str, relation: str, target: str, kind: str, sentence: str, since: str = "") -> Said:
    return Said(name, "Organization", relation, target, kind, sentence, since or None)


def _person(name: str, relation: str, target: str, kind: str, sentence: str, since: str = "") -> Said:
    return Said(name, "Person", relation, target, kind, sentence, since or None)


def _product(name: str, relation: str, target: str, kind: str, sentence: str, since: str = "") -> Said:
    return Said(name, "Product", relation, target, kind, sentence, since or None)


# Words that stand in a passage (single spaces), and what they say.
KNOWN: tuple[tuple[str, Said], ...] = (
    # the contract
    ("Tarnwell Instruments, 14 Quay Street, Ostmere (the Supplier)",
     _organization(_TARNWELL, "SUPPLIER_UNDER", _CONTRACT, "Contract",
                   "Tarnwell Instruments is the supplier under Contract TW-2024-117.", _JULY_2024)),
    ("Ostmere Harbour Authority, Custom House, Ostmere (the Authority)",
     _organization(_AUTHORITY, "PARTY_TO", _CONTRACT, "Contract",
                   "The Ostmere Harbour Authority is the customer of Contract TW-2024-117.", _JULY_2024)),
    ("Ostmere Harbour Authority, Custom House, Ostmere (the Authority)",
     _organization(_AUTHORITY, "BASED_IN", "Ostmere", "Place",
                   "The Ostmere Harbour Authority sits in the Custom House in Ostmere.")),
    ("an annual fee of 212,500 euros",
     Said(_CONTRACT, "Contract", "HAS_ANNUAL_FEE", "212,500 euros", "Amount",
          "From 1 July 2026 the annual fee under Contract TW-2024-117 is 212,500 euros.", _JULY_2026)),
    ("an annual fee of 184,000 euros",
     Said(_CONTRACT, "Contract", "HAS_ANNUAL_FEE", "184,000 euros", "Amount",
          "Until 30 June 2026 the annual fee under Contract TW-2024-117 was 184,000 euros.", _JULY_2024)),
    ("The Contract is renewed for three years, from 1 July 2026 to 30 June 2029",
     Said(_CONTRACT, "Contract", "RENEWED_BY", "First Renewal of Contract TW-2024-117", "Document",
          "Contract TW-2024-117 was renewed from 1 July 2026 to 30 June 2029.", _JULY_2026)),
    ("Benedikt Orme, head of harbour environment",
     _person("Benedikt Orme", "HEAD_OF_HARBOUR_ENVIRONMENT_AT", _AUTHORITY, "Organization",
             "Benedikt Orme is head of harbour environment at the Ostmere Harbour Authority.")),
    ("Priya Ostrander, head of sales",
     _person("Priya Ostrander", "HEAD_OF_SALES_AT", _TARNWELL, "Organization",
             "Priya Ostrander is head of sales at Tarnwell Instruments.")),
    # the mail
    ("Rafael Quenby leads engineering from Monday, 4 May 2026",
     _person("Rafael Quenby", "HEAD_OF_ENGINEERING_AT", _TARNWELL, "Organization",
             "Rafael Quenby leads engineering at Tarnwell Instruments from 4 May 2026.", _MAY_2026)),
    ("Solveig Aldane, who becomes our chief scientist",
     _person("Solveig Aldane", "CHIEF_SCIENTIST_OF", _TARNWELL, "Organization",
             "Solveig Aldane becomes chief scientist of Tarnwell Instruments on 4 May 2026.", _MAY_2026)),
    ("our address is 3 Lantern Yard, Ostmere",
     _organization(_TARNWELL, "LOCATED_AT", "3 Lantern Yard, Ostmere", "Place",
                   "From 15 June 2026 the address of Tarnwell Instruments is 3 Lantern Yard, Ostmere.", _JUNE_2026)),
    ("Odile Marchbanks, managing director",
     _person("Odile Marchbanks", "IS_MANAGING_DIRECTOR_OF", _TARNWELL, "Organization",
             "Odile Marchbanks is managing director of Tarnwell Instruments.")),
    # the notes
    ("engineering is led by Solveig Aldane (head of engineering)",
     _person("Solveig Aldane", "LEADS", "engineering", "Topic",
             "In March 2026 engineering is led by Solveig Aldane.", "2026-03-01T00:00:00Z")),
    ("Kept by Mina Fairholt",
     _person("Mina Fairholt", "KEEPS", "engineering notes", "Document",
             "Mina Fairholt keeps the engineering notes of March 2026.")),
    # the minutes
    ("Henrik Vasstrand (finance)",
     _person("Henrik Vasstrand", "WORKS_FOR", _TARNWELL, "Organization",
             "Henrik Vasstrand is responsible for finance at Tarnwell Instruments.")),
    ("move to 7 December 2026",
     _product("Sandpiper 2", "FIRST_DELIVERIES_ON", "7 December 2026", "Event",
              "The first deliveries of the Sandpiper 2 move to 7 December 2026.")),
    # the press release and the product page
    ("says Solveig Aldane, head of engineering at Tarnwell Instruments",
     _person("Solveig Aldane", "HEAD_OF_ENGINEERING_AT", _TARNWELL, "Organization",
             "Solveig Aldane is head of engineering at Tarnwell Instruments.", _AUTUMN_2025)),
    ("Its products are the Sandpiper, the handheld meter Dunlin",
     _organization(_TARNWELL, "PRODUCES", "Sandpiper", "Product", "Tarnwell Instruments makes the Sandpiper.")),
    ("Its products are the Sandpiper, the handheld meter Dunlin",
     _organization(_TARNWELL, "PRODUCES", "Dunlin", "Product", "Tarnwell Instruments makes the handheld meter Dunlin.")),
    ("it employs 38 people at 14 Quay Street, Ostmere",
     _organization(_TARNWELL, "LOCATED_AT", "14 Quay Street, Ostmere", "Place",
                   "Tarnwell Instruments employs 38 people at 14 Quay Street, Ostmere.", _AUTUMN_2025)),
    ("1,180 with its first calibration",
     _product("Sandpiper", "COSTS", "€1,180", "Amount",
              "The Sandpiper costs 1,180 euros with its first calibration.", _AUTUMN_2025)),
    ("1,290 euros for one Sandpiper",
     _product("Sandpiper", "COSTS", "1,290 euros", "Amount",
              "From 1 April 2026 one Sandpiper costs 1,290 euros with its first calibration.", _APRIL_2026)),
    # the report and the slides
    ("Revenue rose to 1.604 million euros",
     _organization(_TARNWELL, "HAS_REVENUE", "1.604 million euros", "Amount",
                   "In the second quarter of 2026 Tarnwell Instruments had a revenue of 1.604 million euros.",
                   "2026-04-01T00:00:00Z")),
    ("Rafael Quenby took over from Solveig Aldane on 4 May 2026",
     _person("Rafael Quenby", "HEAD_OF_ENGINEERING_AT", _TARNWELL, "Organization",
             "Rafael Quenby is head of engineering at Tarnwell Instruments since 4 May 2026.", _MAY_2026)),
    ("Rafael Quenby, head of engineering since 4 May",
     _person("Rafael Quenby", "HEAD_OF_ENGINEERING_AT", _TARNWELL, "Organization",
             "Rafael Quenby is head of engineering at Tarnwell Instruments since 4 May 2026.", _MAY_2026)),
)  # fmt: skip
