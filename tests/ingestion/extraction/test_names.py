import pytest

from tests.ingestion.extraction.documents import extraction, names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Yesterday Acme Corp. was sold", "Acme Corp."),
        ("The CEO of Galaxy Gaming, Inc. left", "Galaxy Gaming, Inc."),
        ("Die Müller & Söhne GmbH mit Sitz", "Müller & Söhne GmbH"),
        ("die Bäckerei Huber GmbH & Co. KG spendet", "Bäckerei Huber GmbH & Co. KG"),
        ("by Delta Four Consulting Limited today", "Delta Four Consulting Limited"),
        ("La empresa Aceros del Norte S.A. abrirá", "Aceros del Norte S.A."),
        ("La Ferri Costruzioni S.p.A. ha pagato", "Ferri Costruzioni S.p.A."),
        ("sold to Atlantic Holdings plc in May", "Atlantic Holdings plc"),
        ("for Norwich City F.C. in", "Norwich City F.C."),
        ("at the University of Val Royeaux,", "University of Val Royeaux"),
        ("at the University of New South Wales,", "University of New South Wales"),
        ("at the Hebrew University of Jerusalem and", "Hebrew University of Jerusalem"),
        ("the Massachusetts Institute of Technology.", "Massachusetts Institute of Technology"),
        ("the Institute for the Study of War doubted", "Institute for the Study of War"),
        ("the Ministry of Health and Welfare said", "Ministry of Health and Welfare"),
        ("L'Université de Genève publie", "Université de Genève"),
        ("an order of the U.S. Department of Justice.", "U.S. Department of Justice"),
        ("Analysts at Goldman Sachs expect", "Goldman Sachs"),
        ("with Bosch Technologies as", "Bosch Technologies"),
        ("Jane joined Northwind. Later Northwind Traders, Inc. grew", "Northwind Traders, Inc."),
    ],
)
def test_an_organisation_is_found_whole(text: str, name: str) -> None:
    assert names(text, "Organization") == [name]


@pytest.mark.parametrize(
    "text",
    [
        "Our Company and the Holding Company agree",
        "Time Limited Offer, Limited Liability Company",
        "a Nevada Corporation",
        "Harvard University Press and Deutsche Bank Park",
        "the Sixth Company marched",
        "Working Group, Data Bank, Focus Group",
        "Bank of the river",
        "the Department of",
        "class Foo(Inc): pass",
        "21st Century Fox Inc",
        "Jane Doe joined Alistair and the Warden",
        "Ann Lee worked for Ronald Reagan.",
        "Jane Doe works at Berlin.",
        "Jane Doe joined the Army. She works at Night.",
        "Jane Doe works for Dr. Grey.",
        "Jane Doe worked for Meeran and the smugglers",
        "The Company works at Full Capacity.",
        "Mr. Bauer joined Schneider in the lobby.",
        "Jane Smith has worked for Gorbachev. Mr. Reed worked for Obama. Ann Lee worked for Thatcher.",
        "Jane Smith was employed by Rothschild until 1920.",
        "Angela Merkel was chancellor. Mr. Altmaier worked for Merkel until 2021.",
        "Angela Merkel was chancellor. Mr. Altmaier works for Merkel.",
        "Authentication works by OAuth.",
        "Upload works for PDFs.",
        "Jane Smith works by Lake Geneva.",
        "Ms. Adler joined Pilates on Monday.",
        "John Smith joined Catholicism.",
        "John Smith joined the Resistance in 1942.",
        "Road works at Chiswick, expected until June.",
        "Jane Doe works for Barack Obama.",
        "Jane Doe works for Christ.",
        "Jane Doe works at Easter.",
        "Jane Doe works for Everyone.",
        "Jane Doe works at Downing Street.",
        "Jane Doe works at Procter and Gamble.",
        "Jane Doe joined Buddhism in 1998.",
        "Jane Doe joined Christianity in 2009.",
        "Jane Doe joined Bitcoin in 2009.",
        "Jane Doe joined Slack as a guest.",
        "Jane Doe joined Globex as plaintiff.",
        "Jane Doe joined Globex as it collapsed.",
    ],
)
def test_words_that_look_like_an_organisation_are_none(text: str) -> None:
    assert names(text, "Organization") == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Jane Doe works at Initech.", "Initech"),
        ("Jane Doe worked at Initech until May.", "Initech"),
        ("Ada Lindqvist works for Tarnwell Instruments", "Tarnwell Instruments"),
        ("Jane Smith worked for Tarnwell Instruments.", "Tarnwell Instruments"),
        ("Jane Smith has joined Globex as a chemist.", "Globex"),
        ("Jane Doe works for Globex Labs.", "Globex Labs"),
        ("Jane Doe, a nurse at Globex, spoke.", "Globex"),
        ("Jane Doe works at [Initech](https://initech.example).", "Initech"),
        ("Jane Doe joined Slack as a software engineer.", "Slack"),
        ("Jane Doe joined Globex in May 2024.", "Globex"),
        ("Jane Doe joined Globex in 2024.", "Globex"),
        ("Jane Doe joined Globex on 1 May 2024.", "Globex"),
        ("Jane Smith is employed by the Ostmere Harbour Works.", "Ostmere Harbour Works"),
    ],
)
def test_an_organisation_is_found_by_who_works_there(text: str, name: str) -> None:
    assert names(text, "Organization") == [name]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Dr. Jane Smith said", "Jane Smith"),
        ("with Prof. Dr. Ute Brandt today", "Ute Brandt"),
        ("Mr. Oliver Grant shall pay", "Oliver Grant"),
        ("asked Prof. Yamamoto about", "Prof. Yamamoto"),
        ("greeted Prince Vasili Kuragin warmly", "Vasili Kuragin"),
        ("when Prince Andrew came", "Prince Andrew"),
        ("said Ludwig van Beethoven once", "Ludwig van Beethoven"),
        ("by Juan Carlos de la Vega in", "Juan Carlos de la Vega"),
        ("Martin Luther King spoke", "Martin Luther King"),
        ("met Peter J. Liu, who", "Peter J. Liu"),
        ("met James O'Connor2, who", "James O'Connor"),
        ("The CEO, Satoru Iwata, presented", "Satoru Iwata"),
        ("Xelan Torvik, president of the club", "Xelan Torvik"),
        ("Xelan Torvik works for Initech.", "Xelan Torvik"),
        ("Xelan Torvik was employed at a London bank.", "Xelan Torvik"),
        ("From: Xelan Torvik <x@example.org>", "Xelan Torvik"),
        ("Best regards,\nMallori", "Mallori"),
    ],
)
def test_a_person_is_found_without_the_title(text: str, name: str) -> None:
    assert names(text, "Person") == [name]


@pytest.mark.parametrize(
    "text",
    [
        "Queen Elizabeth Hall and Martin Luther King Boulevard",
        "Grace Period ends, Max Connections raised",
        "San Jose, St. Louis, Fort Wayne",
        "General Ledger, Justice League, Count Data",
        "45 Main Dr. Austin",
        "3 place Jean Jaurès",
        "Will Payment May Follow",
        "/home/John Smith/x.txt and \\Users\\Frank Miller",
        "From: Sales Team <sales@example.org>",
        "Thank you,\nThe Billing Team",
        "Die schöne Frau hat einen Kaffee",
        "Azure Vault resides in the cloud.",
        "Kafka Connect worked as a bridge. Kafka Connect works at scale.",
        "Kafka Streams works for Initech.",
        "Prototype Mark works at Initech.",
        "Madonna Inn works at Initech.",
        "Ruby Rails works at Initech.",
        "Turbo Pascal was born in 1983.",
        "Delta Blues was born in Mississippi.",
    ],
)
def test_words_that_look_like_a_person_are_none(text: str) -> None:
    assert names(text, "Person") == []


def test_people_of_lists_are_found_by_the_line_that_names_them() -> None:
    text = "Attendees: Xelan Torvik (Chair), Dr. Mirko Aldebaran, Sales Team and Bo Qin\n"
    assert names(text, "Person") == ["Xelan Torvik", "Mirko Aldebaran", "Bo Qin"]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("He lives in Seattle.", ["Seattle"]),
        ("Offices: Munich, Germany", ["Munich", "Germany"]),
        ("Genoa and Lucca are estates", ["Genoa", "Lucca"]),
        ("Doylestown, PA 18901", ["Doylestown, PA"]),
        ("1200 Market Street Springfield, IL 62701", ["Springfield, IL"]),
        ("The Paris Agreement and the Bank of Madrid Cup", []),
        ("a Liverpool fan of London Grammar", []),
        ("Paris Hilton, Washington Post, Norwich City", []),
    ],
)
def test_a_place_is_found_only_where_it_stands_as_a_place(text: str, places: list[str]) -> None:
    assert names(text, "Place") == places


def test_code_gives_no_names_but_the_text_around_does() -> None:
    text = "Ask Jane Smith.\n```\n# John Doe, Acme Inc., 2020-01-01, $5\n```\nOr `Peter Miller` <b>now</b>."
    assert [entity.name for entity in extraction(text).entities] == ["Jane Smith"]


def test_a_name_goes_over_the_end_of_a_line_of_running_text_and_not_over_that_of_a_heading() -> None:
    wrapped = "It was then agreed that the shares of Galaxy\nGaming, Inc. would be sold without delay by Vasili\nKuragin himself."
    assert names(wrapped, "Organization") == ["Galaxy Gaming, Inc."]
    assert names(wrapped, "Person") == ["Vasili Kuragin"]
    assert names("Overview\nGaming World, Inc.\nJane\nSmith", "Organization") == ["Gaming World, Inc."]
    assert names("Overview\nGaming World, Inc.\nJane\nSmith", "Person") == []
