import pytest

from tests.ingestion.extraction.documents import extraction, names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Revenue: $5.2M (up)", "$5.2 million"),
        ("about $5.2 million", "$5.2 million"),
        ("USD 5,200,000", "USD 5.2 million"),
        ("US$5.2m", "USD 5.2 million"),
        ("costs $1,234.50 today", "$1,234.50"),
        ("a fee of $4,900.", "$4,900"),
        ("par value $0.001", "$0.001"),
        ("kostet 15,50 € heute", "€15.50"),
        ("über 1.480,00 € ist", "€1,480"),
        ("erhält 12.500 Euro", "€12,500"),
        ("EUR 1.250.000 per year", "€1.25 million"),
        ("rund 3,5 Mio. Euro.", "€3.5 million"),
        ("por 1,2 millones de euros", "€1.2 million"),
        ("paid £850,000.", "£850,000"),
        ("une subvention de 12 000 € versée", "€12,000"),
        ("im Jahr 2023 500 € mehr", "€500"),
        ("₹1,00,000 and more", "₹100,000"),
        ("CHF 1'000", "CHF 1,000"),
        ("worth 2.4 billion euros", "€2.4 billion"),
        ("cost 35 euros", "€35"),
        ("cash of $ 16,058 was left", "$16,058"),
    ],
)
def test_an_amount_gets_the_name_that_all_its_spellings_share(text: str, name: str) -> None:
    assert names(text, "Amount") == [name]


@pytest.mark.parametrize(
    "text",
    [
        "A$AP Rocky",
        "$5 to 10 million",
        "$5-10",
        "5-10 dollars",
        "say US$x",
        "10% of 20",
        "$12,34,5",
        "20 pounds of flour",
        "$$5",
        "$3rd",
        "v1.250 EUROPE",
    ],
)
def test_half_an_amount_or_none_gives_none(text: str) -> None:
    assert names(text, "Amount") == []


def test_both_ends_of_a_range_are_amounts_where_each_has_its_currency() -> None:
    assert names("from £14,500 to £15,250", "Amount") == ["£14,500", "£15,250"]
    assert names("$350m to $360m", "Amount") == ["$350 million", "$360 million"]
    assert names("from $5 to $10 million", "Amount") == ["$10 million"]


def test_the_figures_of_a_table_in_thousands_are_no_amounts() -> None:
    text = "Assets (in thousands)\nCash | $ 16,058 | $ 5,993\n\nWe paid a fine of $2,000 in cash last year."
    assert names(text, "Amount") == ["$2,000"]


def test_spellings_of_one_amount_become_its_aliases() -> None:
    (amount,) = extraction("It rose to $5.2M. That is $5,200,000, or $5.2 million.").entities
    assert (amount.name, amount.aliases) == ("$5.2 million", ("$5.2M", "$5,200,000"))
