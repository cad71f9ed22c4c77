import pytest

from tests.ingestion.extraction.documents import names


def test_addresses_and_urls_end_where_the_sentence_goes_on() -> None:
    text = "Write to Ann.Lee@Example.org. See (https://example.org/a_(b)?x=1), or www.example.net/docs!"
    assert names(text, "Email") == ["ann.lee@example.org"]
    assert names(text, "Url") == ["https://example.org/a_(b)?x=1", "www.example.net/docs"]


@pytest.mark.parametrize(
    "text",
    [
        "{ann,bob}@example.org",
        "@ann",
        "a@b",
        "git@",
        "x@@y.org",
        "\nruochen zhang@brown.edu",
        "user@localhost",
    ],
)
def test_what_is_part_of_an_address_or_none_gives_none(text: str) -> None:
    assert names(text, "Email") == []


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "https://example.org/russian-offensive-ass...",
        f"{'as shown long before at the place ' * 2}https://example.org/iwan-\nhow-roeder",
        "https://" + "x" * 500,
        "`https://example.org/api/v1`",
        "![](https://example.org/spacer.gif)",
    ],
)
def test_a_url_that_is_cut_off_or_belongs_to_code_gives_none(text: str) -> None:
    assert names(text, "Url") == []


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("Contract No. 2024-117", "Contract", "Contract 2024-117"),
        ("CONTRACT NO. 2024-117", "Contract", "Contract 2024-117"),
        ("under Agreement No. MSA-2019/44 and", "Contract", "Agreement MSA-2019/44"),
        ("the invoice INV-1234.", "Document", "Invoice INV-1234"),
        ("Invoice #88213", "Document", "Invoice 88213"),
        ("Rechnung Nr. 2024-0815", "Document", "Rechnung 2024-0815"),
        ("Purchase Order PO-7781", "Document", "Order PO-7781"),
        ("Model No. XR-5500", "Product", "Model XR-5500"),
        ("see RFC 9110", "Document", "RFC 9110"),
        ("fixes CVE-2021-44228", "Document", "CVE-2021-44228"),
        ("certified to ISO/IEC 27001:2022", "Document", "ISO/IEC 27001:2022"),
        ("arXiv:2404.01234", "Document", "arXiv:2404.01234"),
        ("doi: 10.1145/3397271.3401075.", "Document", "10.1145/3397271.3401075"),
    ],
)
def test_an_id_is_found_with_the_word_that_says_what_it_is(text: str, kind: str, name: str) -> None:
    assert names(text, kind) == [name]


@pytest.mark.parametrize(
    "text",
    [
        "in case 3 of 12",
        "in order 1 to 5",
        "Report 2021-22",
        "POWERS3-33",
        "part 2 of it",
        "order 66",
        "model number two",
    ],
)
def test_a_number_behind_an_everyday_word_is_no_id(text: str) -> None:
    assert not [name for kind in ("Contract", "Document", "Product") for name in names(text, kind)]
