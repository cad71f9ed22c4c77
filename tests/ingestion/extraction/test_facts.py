from datetime import UTC, datetime

import pytest

from tests.ingestion.extraction.documents import extraction, facts, only_fact


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("John Smith, CEO of Acme Corp., spoke.", ("John Smith", "ceo_of", "Acme Corp.")),
        ("Acme Corp.'s chief executive officer, John Smith, spoke.", ("John Smith", "ceo_of", "Acme Corp.")),
        ("The CEO, John Smith, presented it.", ("John Smith", "holds_role", "CEO")),
        ("Victor Chen (CFO) agreed.", ("Victor Chen", "holds_role", "CFO")),
        ("John Smith, head of sales at Acme Corp., spoke.", ("John Smith", "head_of_sales_at", "Acme Corp.")),
        ("Acme Corp. was acquired by Beta Ltd. in 2020.", ("Beta Ltd.", "acquired", "Acme Corp.")),
        ("Acme Corp. (NYSE: ACM) has merged with Beta Ltd.", ("Acme Corp.", "merged_with", "Beta Ltd.")),
        ("Acme Corp., a subsidiary of Beta Ltd., grew.", ("Acme Corp.", "subsidiary_of", "Beta Ltd.")),
        ("Acme Corp. is headquartered in Berlin.", ("Acme Corp.", "headquartered_in", "Berlin")),
        ("Acme Corp. was founded by Jane Smith.", ("Jane Smith", "founded", "Acme Corp.")),
        ("Acme Corp. was founded in 1998.", ("Acme Corp.", "founded_in", "1998")),
        ("Acme Corp. reported revenue of $5.2M.", ("Acme Corp.", "revenue", "$5.2 million")),
        ("Jane Smith <jane@acme.org> wrote", ("Jane Smith", "has_email", "jane@acme.org")),
        ("Jane Smith lives in Berlin.", ("Jane Smith", "lives_in", "Berlin")),
        ("Jane Smith works at Google.", ("Jane Smith", "works_at", "Google")),
        ("Jane Smith works at Initech.", ("Jane Smith", "works_at", "Initech")),
        (
            "Ada Lindqvist works for Tarnwell Instruments",
            ("Ada Lindqvist", "works_at", "Tarnwell Instruments"),
        ),
        ("Jane Smith has joined Globex as a chemist.", ("Jane Smith", "works_at", "Globex")),
        (
            "Jane Smith is employed by the Ostmere Harbour Works.",
            ("Jane Smith", "works_at", "Ostmere Harbour Works"),
        ),
        ("The price of the Widget Pro is $49.", ("Widget Pro", "priced_at", "$49")),
        ("The Widget Pro costs $49 a month.", ("Widget Pro", "priced_at", "$49")),
        ("The Widget Pro costs $49/month.", ("Widget Pro", "priced_at", "$49")),
        ("Acme Corp. raised $5 million to build a plant.", ("Acme Corp.", "raised", "$5 million")),
        ("Jane Smith works at Initech and lives in a boat.", ("Jane Smith", "works_at", "Initech")),
        ("Jane Smith currently works at Initech.", ("Jane Smith", "works_at", "Initech")),
        ("Jane Smith, who works at Initech, spoke.", ("Jane Smith", "works_at", "Initech")),
        ("Jane Smith is a software engineer at Initech.", ("Jane Smith", "works_at", "Initech")),
        ("**Jane Smith** works at **Initech**.", ("Jane Smith", "works_at", "Initech")),
        ("Jane Smith works at Initech (Berlin).", ("Jane Smith", "works_at", "Initech")),
        ("Jane Smith works at “Initech”.", ("Jane Smith", "works_at", "Initech")),
        ("Jane Smith joined Acme Corp. and became its CFO.", ("Jane Smith", "works_at", "Acme Corp.")),
        ("Jane Smith joined Google as lead engineer.", ("Jane Smith", "works_at", "Google")),
    ],
)
def test_a_sentence_that_says_it_plainly_gives_the_fact(text: str, fact: tuple[str, str, str]) -> None:
    assert facts(text) == [fact]


@pytest.mark.parametrize(
    "text",
    [
        "If Acme Corp. acquired Beta Ltd., prices would rise.",
        "It is rumoured that Acme Corp. acquired Beta Ltd.",
        "Acme Corp. has not acquired Beta Ltd.",
        "Has it come to pass that Acme Corp. acquired Beta Ltd.?",
        "Acme Corp. acquired Beta Ltd.'s sensor division.",
        "Acme Corp. acquired Beta Ltd. shares.",
        "Acme Corp. plans to acquire Beta Ltd.",
        "John Smith, former CEO of Acme Corp., spoke.",
        "John Smith was CEO of Acme Corp.",
        "Acme Corp. grew. Beta Ltd. shrank.",
        "John Smith\n\nCEO of Acme Corp.",
        "Shipping costs $5. It costs $5. The Hotel Bellini costs $140.",
        "The price of the Widget Pro is $49 lower than last year.",
        "The price of the Widget Pro is $49 to $99.",
        "The rise in the price of the Widget Pro is $49.",
        "The Widget Pro costs $49 less than the Widget Max.",
        "The Widget Pro costs $49 to repair.",
        "The repair of the Widget Pro costs $49.",
        "The case for the Widget Pro costs $49.",
        "Repairing the Widget Pro costs $49.",
        "Losing Jane Doe costs $49 million.",
        "Acme Corp. raised $5 billion concerns.",
        "Acme Corp. raised $5 million of its goal.",
        "Acme Corp. reported revenue of $5 million less than last year.",
        "Acme Corp.'s revenue was $5 million below target.",
    ],
)
def test_doubt_denial_and_distance_give_no_fact(text: str) -> None:
    assert facts(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "The mother of Jane Doe lives in Paris.",
        "The mother of the late Jane Doe was born in Paris on 3 May 1950.",
        "The husband of Jane Doe founded Acme Corp. in 1999.",
        "The sons of Bob Smith and Jane Doe live well. The heirs of Bob Smith and Jane Doe founded Acme Corp.",
        "The assistant to Jane Doe works at Initech.",
        "Everyone except Jane Doe works at Initech.",
        "The CEO of Acme Corp. is based in Berlin.",
        "A competitor of Acme Corp. raised $5 million.",
        "A competitor of Acme Corp., based in Berlin, grew.",
        "Investors in Acme Corp. raised $5 million.",
        "Customers of Acme Corp. reported revenue of $5 million.",
        "A subsidiary of Acme Corp. acquired Beta Ltd.",
        "A rival of Acme Corp. was acquired by Beta Ltd.",
        "A rival of Acme Corp. was founded in 1998.",
        "Beta Ltd., a rival of Acme Corp., was founded in 1998.",
        "Beta Ltd., a rival of Acme Corp., is based in Berlin.",
        "The woman who raised Jane Doe lives in Paris.",
        "The company that bought Acme Corp. is headquartered in Berlin.",
        "The lawyer representing Jane Doe works at Google.",
        "Competitors such as Acme Corp. raised $5 million.",
        "The annex to Contract No. 2024-117 is effective from 1 February 2024.",
    ],
)
def test_what_is_told_of_something_of_somebody_is_no_fact_about_them(text: str) -> None:
    assert facts(text) == []


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("The lawyer of Jane Doe, CEO of Acme Corp., spoke.", ("Jane Doe", "ceo_of", "Acme Corp.")),
        ("We met with Jane Doe, who is CEO of Acme Corp.", ("Jane Doe", "ceo_of", "Acme Corp.")),
        ("An offer to Jane Doe <jane@acme.org> went out", ("Jane Doe", "has_email", "jane@acme.org")),
        ("Of course Jane Doe lives in Paris.", ("Jane Doe", "lives_in", "Paris")),
        ("Bob Smith's wife Jane Doe works at Initech.", ("Jane Doe", "works_at", "Initech")),
        ("Unlike Acme Corp., Beta Ltd. raised $5 million.", ("Beta Ltd.", "raised", "$5 million")),
    ],
)
def test_what_explains_a_name_is_a_fact_about_it_whatever_stands_before(
    text: str, fact: tuple[str, str, str]
) -> None:
    assert facts(text) == [fact]


@pytest.mark.parametrize(
    "said",
    [
        "Neither Bob Smith nor {}",
        "Nobody named {}",
        "No {}",
        "It is untrue that {}",
        "I doubt that {}",
        "Bob Smith lied that {}",
        "Bob Smith believes {}",
        "Perhaps {}",
        "Nothing shows that {}",
        "In case {}, ask",
        "TODO: check that {}",
        "Example: {}",
        "In the novel, {}",
        "{}, allegedly",
        "{}, she claims",
        "{}, but that is not true",
        "{}, which is false",
        "{} (false)",
        "{} no longer",
        "{}, I think",
        "{}, if I remember well",
        "Draft: {}",
    ],
)
def test_words_of_doubt_anywhere_in_the_sentence_leave_no_fact(said: str) -> None:
    assert facts(f"{said.format('Jane Doe works at Google')}.") == []
    assert facts(f"{said.format('Jane Doe works at Initech')}.") == []


@pytest.mark.parametrize(
    "text",
    [
        '"I believe we might sell," said Jane Doe, CEO of Acme Corp.',
        '"Nothing is certain," says Acme Corp. CEO Jane Doe.',
        "Jane Doe, CEO of Acme Corp., denied the claims.",
        "Jane Doe, CEO of Acme Corp., said that rumours were untrue.",
        "Nearly ten years ago, Jane Doe founded Acme Corp.",
        "The founder of Acme Corp., Jane Doe, was born in Paris.",
        "Jane Doe joined Acme Corp. as Senior Engineer.",
        "Jane Doe joined Acme Corp. as Marketing Manager in May 2024.",
    ],
)
def test_a_doubt_about_something_else_takes_nothing_from_the_fact(text: str) -> None:
    assert only_fact(text).subject == "Jane Doe"


@pytest.mark.parametrize(
    "told",
    [
        "The Widget Pro costs $49 including tax.",
        "The Widget Pro costs $49 incl. VAT.",
        "The Widget Pro costs $49 net.",
        "The Widget Pro costs $49 apiece.",
        "The Widget Pro costs $49 [1].",
        "Acme Corp. raised $49 of Series A funding.",
        "Acme Corp. raised $49 led by Beta Ltd.",
        "Acme Corp. reported revenue of $49 due to strong demand.",
    ],
)
def test_an_amount_is_whole_whatever_is_told_of_it(told: str) -> None:
    assert only_fact(told).object == "$49"


@pytest.mark.parametrize(
    "text",
    [
        "Had Acme Corp. acquired Beta Ltd., prices would fall.",
        "The deal in which Acme Corp. acquired Beta Ltd. was called off.",
        "Jane Doe was named CEO of Acme Corp. but declined.",
        "Jane Doe lives in Germany's capital.",
        "Jane Doe lives in London or Paris.",
    ],
)
def test_so_do_a_deal_that_failed_an_office_declined_and_half_a_place(text: str) -> None:
    assert facts(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Jane Smith joined Google as a guest.",
        "Jane Smith joined Google as plaintiff.",
        "Jane Smith joined Acme Corp. as it collapsed.",
        "Jane Smith joined Acme Corp. for lunch on 3 May 2024.",
        "Jane Smith joined Acme Corp. in condemning the war.",
        "Jane Smith joined Acme Corp. and Beta Ltd. in a lawsuit.",
        "Jane Smith joined Facebook in 2009.",
        "Jane Smith joined Acme Corp. on stage on 3 May 2024.",
        "Jane Smith joined Acme Corp. for a year.",
        "Jane Smith left Acme Corp. on Monday for a lunch.",
        "Jane Smith works with Google.",
        "Jane Smith is a guest at Google.",
        "Jane Smith is a Retired Engineer at Google.",
        "Jane Smith joined Acme Corp. as Visiting Researcher.",
    ],
)
def test_who_comes_for_another_thing_than_work_does_not_work_there(text: str) -> None:
    assert facts(text) == []


def test_a_word_of_doubt_in_an_address_or_a_number_is_none() -> None:
    text = "Contract No. 2024-117 is effective from 1 February 2024. Jane Doe <no-reply@doubt.example> wrote."
    assert [predicate for _, predicate, _ in facts(text)] == ["effective_from", "has_email"]


@pytest.mark.parametrize(
    ("text", "valid_at"),
    [
        ("Acme Corp. acquired Beta Ltd. in March 2024.", datetime(2024, 3, 1, tzinfo=UTC)),
        ("On 2 April 2024, Acme Corp. acquired Beta Ltd.", datetime(2024, 4, 2, tzinfo=UTC)),
        ("In May 2023, Acme Corp. acquired Beta Ltd.", datetime(2023, 5, 1, tzinfo=UTC)),
        ("Acme Corp. acquired Beta Ltd. in 2019.", datetime(2019, 1, 1, tzinfo=UTC)),
        ("In 2019, Acme Corp. acquired Beta Ltd.", datetime(2019, 1, 1, tzinfo=UTC)),
        ("Acme Corp. acquired Beta Ltd. after all.", None),
        ("Acme Corp.'s revenue was $5 million in 2023.", datetime(2023, 1, 1, tzinfo=UTC)),
        ("Acme Corp.'s annual revenue grew to $5 million in May 2023.", datetime(2023, 5, 1, tzinfo=UTC)),
        ("The price of the Widget Pro is $49 from April 1, 2024.", datetime(2024, 4, 1, tzinfo=UTC)),
        ("Contract No. 2024-117 is effective from 1 February 2024.", datetime(2024, 2, 1, tzinfo=UTC)),
    ],
)
def test_a_fact_is_valid_from_the_date_beside_it(text: str, valid_at: datetime | None) -> None:
    assert only_fact(text).valid_at == valid_at


@pytest.mark.parametrize(
    ("text", "since", "until"),
    [
        ("Jane Doe served as CFO of Acme Corp. from January 2018 to March 2022.", (2018, 1, 1), (2022, 3, 1)),
        ("Jane Doe was CEO of Acme Corp. from 2001 to 2005.", (2001, 1, 1), (2005, 1, 1)),
        ("Jane Doe was the CEO of Acme Corp. until 2005.", None, (2005, 1, 1)),
        ("Jane Doe, CEO of Acme Corp. until 2005, spoke.", None, (2005, 1, 1)),
        ("Jane Doe, CEO of Acme Corp. from 2001 to 2005, spoke.", (2001, 1, 1), (2005, 1, 1)),
        ("Jane Doe, CEO of Acme Corp. (2001-2005), spoke.", (2001, 1, 1), (2005, 1, 1)),
        ("Jane Doe worked at Initech until May 2021.", None, (2021, 5, 1)),
        ("Jane Doe works at Initech until 1 May 2021.", None, (2021, 5, 1)),
        ("Jane Doe joined Acme Corp. in May 2019 and left in June 2021.", (2019, 5, 1), (2021, 6, 1)),
        ("Jane Doe has worked at Initech from May 2015 until now.", (2015, 5, 1), None),
        ("Jane Doe, CEO of Acme Corp. since 2019, spoke.", (2019, 1, 1), None),
        ("Acme Corp. is headquartered in Berlin until 2010.", None, (2010, 1, 1)),
    ],
)
def test_what_ended_has_the_time_between(
    text: str, since: tuple[int, int, int] | None, until: tuple[int, int, int] | None
) -> None:
    fact = only_fact(text)
    assert fact.valid_at == (since and datetime(*since, tzinfo=UTC))
    assert fact.invalid_at == (until and datetime(*until, tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        "Jane Doe works at Initech till she retires.",
        "Jane Doe joined Acme Corp. in May 2019 but left soon.",
        "Jane Doe was CEO of Acme Corp. in 2001.",
        "Jane Doe, president of Acme Corp. in 1990, spoke.",
        "Until 2019 Jane Doe works at Initech.",
        "Jane Doe replaced Bob Smith, CEO of Acme Corp., in May 2024.",
        "Bob Smith, CEO of Acme Corp., resigned in May 2024.",
        "The CEO, Bob Smith, has retired.",
        "Jane Doe joined Acme Corp. in 2019; she left in 2021.",
        "Jane Doe joined Acme Corp. in 2019 and was fired in 2021.",
        "Jane Doe has been CEO of Acme Corp. for ten years until 2020.",
        "Jane Doe, CEO of Acme Corp. (until 2005), spoke.",
        "Jane Doe, CEO of Acme Corp. before Bob Smith, spoke.",
        "Jane Doe, CEO of Acme Corp. from 2005 to 2001, spoke.",
        "The Widget Pro costs $49 until 1 May 2024.",
    ],
)
def test_what_ended_at_no_known_time_is_no_fact(text: str) -> None:
    assert facts(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "Jane Doe met Bob Smith, CEO of Acme Corp., in May 2024.",
        "In May 2024, Bob Smith, CEO of Acme Corp., spoke.",
        "On 3 May 2024 Acme Corp.'s CEO Bob Smith spoke.",
    ],
)
def test_a_role_that_only_explains_a_name_takes_no_date_of_what_happened(text: str) -> None:
    fact = only_fact(text)
    assert (fact.subject, fact.predicate, fact.valid_at) == ("Bob Smith", "ceo_of", None)


def test_who_retired_does_not_live_elsewhere() -> None:
    found = extraction("Jane Doe lives in Berlin and retired in 2020.").facts
    assert [fact.invalid_at for fact in found if fact.invalid_at] == []


def test_joining_in_a_role_gives_both_facts_with_the_date() -> None:
    found = extraction("Maria Gonzalez joined Acme Corp. as CFO on May 1, 2023.").facts
    assert [(fact.predicate, fact.valid_at) for fact in found] == [
        ("works_at", datetime(2023, 5, 1, tzinfo=UTC)),
        ("cfo_of", datetime(2023, 5, 1, tzinfo=UTC)),
    ]


def test_a_document_that_names_no_number_is_effective_under_its_title() -> None:
    text = "This Agreement is effective as of January 1, 2024, between us."
    assert facts(text, title="Supply agreement with Hartmann") == [
        ("Supply agreement with Hartmann", "effective_from", "2024-01-01")
    ]
    assert facts(text) == []


def test_a_fact_keeps_the_sentence_that_says_it() -> None:
    text = "We met Dr. Jane Smith of Acme Corp. at 5 p.m. today. In May 2023 Acme Corp. acquired Beta Ltd. It was cheap."
    assert only_fact(text).sentence == "In May 2023 Acme Corp. acquired Beta Ltd."
