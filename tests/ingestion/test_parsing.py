import io
import json
import zipfile
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest

from apex_mcp.errors import Code, InputError
from apex_mcp.ingestion.chunking import chunk_document
from apex_mcp.ingestion.parsing import parse
from apex_mcp.models import ParsedDocument
from tests.ingestion.documents import make_docx, make_epub, make_pdf, make_pptx, make_xlsx, make_zip

MARCH = datetime(2024, 3, 5, 10, tzinfo=UTC)


def read(data: bytes | str, name: str, *, limit: int = 1_000_000) -> ParsedDocument:
    raw = data.encode() if isinstance(data, str) else data
    return parse(raw, name=name, max_text_chars=limit)


def refused(data: bytes | str, name: str, *, limit: int = 1_000_000) -> InputError:
    with pytest.raises(InputError) as caught:
        read(data, name, limit=limit)
    assert caught.value.next_step
    return caught.value


def headings(document: ParsedDocument) -> list[tuple[int, str]]:
    """Levels and titles; each span's text begins with the title, or its mark."""
    for heading in document.headings:
        assert document.text[heading.start : heading.end].lstrip("# ").startswith(heading.title)
    return [(heading.level, heading.title) for heading in document.headings]


def pages(document: ParsedDocument) -> list[tuple[int, str]]:
    return [(page.number, document.text[page.start : page.end]) for page in document.pages]


# Word


def test_a_word_document_keeps_headings_tables_and_every_character() -> None:
    document = read(
        make_docx(
            [
                ("Heading1", "R&D <costs>"),
                ("", "AT&T paid 2 * 3 for snake_case & more."),
                ("Heading2", "Detail"),
                ("", "tab\there"),
            ],
            table=[["Item", "Price"], ["Apples | pears", "3 €"]],
            title="Annual report",
        ),
        "x.docx",
    )
    assert document.text == (
        "R&D <costs>\n\nAT&T paid 2 * 3 for snake_case & more.\n\nDetail\n\ntab\there\n\n"
        "Item | Price\nApples | pears | 3 €"
    )
    assert headings(document) == [(1, "R&D <costs>"), (2, "Detail")]
    assert (document.title, document.document_time, document.pages) == ("Annual report", MARCH, ())


def word_xml(body: str) -> bytes:
    """A Word document with this XML for a body."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(make_docx([("", "BODY")]))) as given,
        zipfile.ZipFile(buffer, "w") as made,
    ):
        for name in given.namelist():
            content = given.read(name)
            if name == "word/document.xml":
                start, end = content.index(b"<w:p>"), content.index(b"</w:body>")
                content = content[:start] + body.encode() + content[end:]
            made.writestr(name, content)
    return buffer.getvalue()


def run(text: str) -> str:
    return f"<w:r><w:t xml:space='preserve'>{text}</w:t></w:r>"


def test_deleted_words_and_doubled_text_boxes_are_not_the_text() -> None:
    document = read(
        word_xml(
            f"<w:p>{run('kept ')}<w:del>{run('deleted ')}</w:del><w:ins>{run('inserted')}</w:ins></w:p>"
            '<w:p xmlns:mc="urn:mc"><w:r><mc:AlternateContent>'
            f"<mc:Choice><w:p>{run('boxed')}</w:p></mc:Choice><mc:Fallback><w:p>{run('boxed')}</w:p></mc:Fallback>"
            "</mc:AlternateContent></w:r></w:p>"
        ),
        "x.docx",
    )
    assert document.text == "kept inserted\n\nboxed"


def test_pages_are_those_that_word_noted() -> None:
    turn = "<w:r><w:lastRenderedPageBreak/></w:r>"
    document = read(
        word_xml(
            f"<w:p>{run('one')}</w:p><w:p>{turn}{run('two')}</w:p><w:p>{run('also ')}{turn}{run('two')}</w:p>"
            f"<w:p>{run('three')}</w:p>"
        ),
        "x.docx",
    )
    assert pages(document) == [(1, "one"), (2, "two\n\nalso two"), (3, "three")]


def test_list_items_stand_together() -> None:
    numbered = "<w:pPr><w:numPr><w:numId w:val='1'/></w:numPr></w:pPr>"
    document = read(
        word_xml(f"<w:p>{run('List')}</w:p><w:p>{numbered}{run('a')}</w:p><w:p>{numbered}{run('b')}</w:p>"),
        "x.docx",
    )
    assert document.text == "List\n\n- a\n- b"


# PowerPoint, Excel, EPUB, PDF, RTF


def test_a_presentation_has_a_page_for_each_slide() -> None:
    document = read(
        make_pptx(
            [("R&D", ["first <b>", "second"]), ("", ["untitled"]), ("End", [])],
            notes="Speak up",
            title="Deck",
        ),
        "x.pptx",
    )
    assert pages(document) == [
        (1, "R&D\n\nfirst <b>\nsecond\n\nNotes: Speak up"),
        (2, "untitled"),
        (3, "End"),
    ]
    assert headings(document) == [(1, "R&D"), (1, "End")]
    assert (document.title, document.document_time) == ("Deck", MARCH)


def test_a_workbook_has_a_page_for_each_sheet_and_a_line_for_each_row() -> None:
    document = read(
        make_xlsx({"Empty": [], "P&L": [["Item", "€"], ["AT&T", 1.5]], "Notes": [["only"]]}), "book.xlsx"
    )
    assert pages(document) == [(1, ""), (2, "P&L\n\nItem | €\nAT&T | 1.5"), (3, "Notes\n\nonly")]
    assert headings(document) == [(1, "P&L"), (1, "Notes")]
    assert document.title == "book"


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    document = read(
        make_epub(
            {"One": "<h1>One</h1><p>AT&amp;T &eacute;</p>", "Two": "<h1>Two</h1><p>x</p>"}, title="A book"
        ),
        "x",
    )
    assert document.text == "One\n\nAT&T é\n\nTwo\n\nx"
    assert headings(document) == [(1, "One"), (1, "Two")]
    assert (document.title, document.document_time) == ("A book", datetime(2021, 2, 3, tzinfo=UTC))


def test_a_book_under_copy_protection_is_protected() -> None:
    book = make_epub({"One": "<p>x</p>"}, title="A book")
    buffer = io.BytesIO(book)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(
            "META-INF/encryption.xml", '<encryption><CipherReference URI="OEBPS/c1.xhtml"/></encryption>'
        )
    assert refused(buffer.getvalue(), "x.epub").code is Code.PASSWORD_PROTECTED


def test_a_pdf_has_pages_and_says_which_have_no_text() -> None:
    document = read(make_pdf([["# Heading", "Line (one)."], [], ["Third page."]], title="Plan"), "x.pdf")
    assert pages(document) == [(1, "Heading\nLine (one)."), (2, ""), (3, "Third page.")]
    assert (document.title, document.document_time) == ("Plan", MARCH)
    assert document.warnings == ("1 of 3 pages without text (blank, or scanned: there is no OCR)",)


def test_rich_text_is_read() -> None:
    assert (
        read(rb"{\rtf1\ansi Hello {\b AT&T} caf\'e9\par Second}", "x.rtf").text == "Hello AT&T café\n\nSecond"
    )


# HTML and e-mail


def test_a_page_is_read_as_it_is_seen() -> None:
    document = read(
        """<!DOCTYPE html><html><head><title>The  page</title><style>p {}</style>
        <meta property="article:published_time" content="2024-03-05T11:00:00+01:00"></head>
        <body><script>var hidden = "<p>no</p>";</script><h1>Head <em>line</em></h1>
        <div style="display: none">hidden <div>deep</div> too</div>
        <p>A <a href="https://example.com">link</a>,
        a line<br>break &amp; more.<ul><li>one<li>two</ul>
        <h2>Table</h2><table><tr><th>a</th><th>b</th></tr><tr><td><p>1</p></td><td>2</td></tr></table>
        <pre>  kept
    as is</pre></body></html>""",
        "x.html",
    )
    assert document.text == (
        "Head line\n\nA link, a line\nbreak & more.\n\n- one\n- two\n\nTable\n\na | b\n1 | 2\n\n  kept\n    as is"
    )
    assert headings(document) == [(1, "Head line"), (2, "Table")]
    assert (document.title, document.document_time) == ("The page", MARCH)


def test_tables_within_tables_and_without_closing_tags_are_read_in_order() -> None:
    document = read(
        "<html><table><tr><td>a<td>b<tr><td>c<table><tr><td>d</td><td>e</td></tr></table><td>f</table>after",
        "x",
    )
    assert document.text == "a | b\nc d | e | f\n\nafter"


def test_a_table_that_lays_out_a_page_becomes_paragraphs() -> None:
    long = "A long paragraph of a page. " * 20
    document = read(
        f"<html><table><tr><td>menu</td><td><h1>Title</h1><p>{long}</p><p>x</p></td></tr></table>", "x"
    )
    assert document.text == f"menu\n\nTitle\n\n{long.strip()}\n\nx"
    assert headings(document) == [(1, "Title")]


@pytest.mark.parametrize(
    "unclosed", ["<p hidden>", "<td>", "<tr><td>", "</table></tr></td>", "<h1>", "<pre>", "<!-- x"]
)
def test_broken_markup_loses_no_text_that_follows_it(unclosed: str) -> None:
    assert (
        "visible words" in read(f"<html><body><p>before</p>{unclosed}<div>visible words</div>", "x.html").text
    )


def message() -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Jörg Müller <joerg@example.com>"
    mail["To"] = "Ann <ann@example.com>"
    mail["Subject"] = "Grüße aus Köln"
    mail["Date"] = "Tue, 05 Mar 2024 11:00:00 +0100"
    return mail


def test_an_email_has_its_heads_its_body_and_its_date() -> None:
    mail = message()
    mail.set_content("Hello Ann,\nsee you.\n")
    mail.add_alternative("<p>Hello Ann</p>", subtype="html")
    mail.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="plan.pdf")
    document = read(mail.as_bytes(), "mail.eml")
    assert document.text == (
        "Grüße aus Köln\n\nFrom: Jörg Müller <joerg@example.com>\nTo: Ann <ann@example.com>\n"
        "Date: Tue, 05 Mar 2024 11:00:00 +0100\n\nHello Ann,\nsee you."
    )
    assert (document.title, document.document_time) == ("Grüße aus Köln", MARCH)
    assert document.warnings == ("attachments were left out: plan.pdf",)
    assert document.metadata == {"from": "Jörg Müller <joerg@example.com>", "to": "Ann <ann@example.com>"}


def test_an_email_in_html_only_is_read_through_its_markup() -> None:
    mail = message()
    mail.set_content("<h1>News</h1><p>We won.</p>", subtype="html", cte="quoted-printable")
    document = read(mail.as_bytes(), "x.eml")
    assert document.text.endswith("News\n\nWe won.")
    assert headings(document) == [(1, "Grüße aus Köln"), (1, "News")]


@pytest.mark.parametrize(
    "head", ["Date: yesterday", "From: =?utf-8?b?!!!?=", "Content-Type: text/plain; charset=nonsense"]
)
def test_an_email_with_a_broken_head_is_still_read(head: str) -> None:
    assert read(f"Subject: Hi\n{head}\n\nthe body", "x.eml").text.endswith("the body")


# Texts


def test_markdown_headings_are_found_outside_of_code() -> None:
    document = read(
        "# One #\n\n```sh\n# no heading\n```\n\nTwo\n---\n\n~~~\n```\n## no\n~~~\n\n### Three\n#hash\n\n    # code\n"
        "text\n\n- item\n---\n",
        "x.md",
    )
    assert headings(document) == [(1, "One"), (2, "Two"), (3, "Three")]


def test_a_heading_without_end_is_repeated_in_part_only() -> None:
    document = read(f"# {'x' * 100_000}\n\n" + "Some words of a paragraph.\n\n" * 200, "a.md")
    assert [len(heading.title) for heading in document.headings] == [300]
    assert len(document.text) > 100_000
    assert {len("".join(chunk.place.heading_path)) for chunk in chunk_document(document)} <= {0, 300}


def test_front_matter_gives_title_and_date() -> None:
    document = read("---\ntitle: 'My note'\ndate: 2024-03-05T10:00:00Z\ntags: [a]\n---\nBody\n", "x.md")
    assert (document.title, document.document_time, document.headings) == ("My note", MARCH, ())


def test_json_is_checked_and_laid_out_only_when_it_is_one_endless_line() -> None:
    assert read('{"a":  1}', "x.json").text == '{"a":  1}'
    assert read('{"a": 1}\n{"a": 2}\n', "x.json").text == '{"a": 1}\n{"a": 2}'
    long = json.dumps({"names": ["Grüße"] * 500}, ensure_ascii=False)
    assert read(long, "x.json").text.startswith('{\n "names": [\n  "Grüße",\n')
    assert refused('{"a": 1,\n "b"', "x.json").code is Code.MALFORMED


def test_json_that_was_cut_off_is_kept_as_text_with_a_warning() -> None:
    document = read('{"name": "Ann",\n "tags": ["x"', "x.txt")
    assert (document.media_type, len(document.warnings)) == ("text/plain", 1)
    assert not read("[1] is a reference, not JSON", "x.txt").warnings


def test_a_text_is_clean_and_otherwise_as_it_stands() -> None:
    document = read(b"\xef\xbb\xbfone\r\n\r\n  two\x00\x07 \ttabs\r\n", "note.txt")
    assert (document.text, document.title) == ("one\n\n  two \ttabs", "note")


@pytest.mark.parametrize(
    ("data", "name", "title"),
    [
        (
            make_docx([("Heading1", "First heading"), ("", "x")], title="Microsoft Word - draft.doc"),
            "a.docx",
            "First heading",
        ),
        (make_docx([("", "x")], title="Document1"), "folder/Plan 2024.docx", "Plan 2024"),
        (b"words", "doc.txt-c6cqzeua", "doc.txt-c6cqzeua"),
        (b"first line\nsecond", "", "first line"),
        (b"w" * 500, "", "w" * 199 + "…"),
        (b"x" * 2000 + b"\n\n# Late heading\n\n# Another", "notes.md", "notes"),
    ],
)
def test_the_title_is_the_best_there_is(data: bytes, name: str, title: str) -> None:
    assert read(data, name).title == title


# What is wrong with a document


def test_a_scanned_document_says_how_many_pages_have_no_text() -> None:
    error = refused(make_pdf([[], [], []]), "scan.pdf")
    assert (error.code, error.details) == (Code.NO_TEXT, {"pages": 3})
    assert "3 pages" in error.message
    assert "OCR" in error.message


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (make_docx([]), "x.docx"),
        (make_pptx([("", [])]), "x.pptx"),
        (b"<html><script>x()</script></html>", "x.html"),
    ],
)
def test_structure_without_text_is_refused(data: bytes, name: str) -> None:
    assert refused(data, name).code is Code.NO_TEXT


def test_an_email_without_text_is_not_sent_to_a_text_recognition() -> None:
    error = refused(b"Content-Type: image/png\nSubject:\n\n", "x.eml")
    assert error.code is Code.NO_TEXT
    assert "OCR" not in str(error)
    assert "attachments" in error.next_step


@pytest.mark.parametrize(
    "data",
    [b"\xef\xbb\xbf", "\ufeff \n".encode("utf-16-le"), b"\x07 \x1b", "\u200b\u200d \u2060\n\u202e".encode()],
)
def test_a_text_of_nothing_readable_is_empty(data: bytes) -> None:
    assert refused(data, "x.txt").code is Code.EMPTY_CONTENT


@pytest.mark.parametrize("percent", [10, 50, 90])
@pytest.mark.parametrize(
    ("data", "name"),
    [
        (make_pdf([["text"]] * 20), "x.pdf"),
        (make_docx([("", "text " * 100)]), "x.docx"),
        (make_pptx([("text", [])]), "x.pptx"),
        (make_xlsx({"a": [["b"]]}), "x.xlsx"),
        (make_epub({"a": "b"}, title="c"), "x.epub"),
    ],
)
def test_a_document_that_was_cut_off_is_malformed(data: bytes, name: str, percent: int) -> None:
    assert refused(data[: len(data) * percent // 100], name).code is Code.MALFORMED


@pytest.mark.parametrize(
    "members",
    [
        {"[Content_Types].xml": "<Types/>", "word/document.xml": "<x/>"},
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
            '<Relationship Id="a" Type="x/officeDocument" Target="word/document.xml"/></Relationships>',
            "word/document.xml": "<w:document xmlns:w='w'><w:body><w:p>",
        },
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": '<!DOCTYPE a [<!ENTITY b "c">]><Relationships>&b;</Relationships>',
            "word/document.xml": "<x/>",
        },
    ],
    ids=["no main part", "no XML", "entities"],
)
def test_a_package_that_breaks_its_format_is_malformed(members: dict[str, str]) -> None:
    assert refused(make_zip(members), "x.docx").code is Code.MALFORMED


def test_bytes_that_no_charset_knows_are_told() -> None:
    whole = read("It costs 3 €, \ufffd as it was.".encode(), "a.txt")
    assert whole.warnings == ()
    broken = read("Grüße ".encode("utf-16") + b"\x00\xd8" + "an alle".encode("utf-16-le"), "a.txt")
    assert broken.text == "Grüße \ufffdan alle"
    assert broken.warnings == ("1 bytes could not be decoded, and stand as \ufffd",)


def test_json_that_is_nested_without_end_is_malformed() -> None:
    for text in ("[" * 200_000 + "]" * 200_000, '{"a": 1}\n' + "[" * 200_000 + "]" * 200_000):
        error = refused(text, "deep.json")
        assert error.code is Code.MALFORMED
        assert "nested too deep" in error.message
        assert "Error" not in error.message


def test_markup_that_is_nested_without_end_is_malformed() -> None:
    deep = "<w:sdt><w:sdtContent>" * 20_000
    body = deep + f"<w:p>{run('x')}</w:p>" + "</w:sdtContent></w:sdt>" * 20_000
    assert refused(word_xml(body), "x.docx").code is Code.MALFORMED
    assert refused("[" * 100_000 + "]" * 100_000, "x.json").code is Code.MALFORMED


def bomb(like: bytes) -> bytes:
    buffer = io.BytesIO(like)
    with (
        zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.xml", "w") as member,
    ):
        for _ in range(100):
            member.write(bytes(1_000_000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (make_docx([("", "x")]), "x.docx"),
        (make_pptx([("x", [])]), "x.pptx"),
        (make_xlsx({"a": [["b"]]}), "x.xlsx"),
        (make_epub({"a": "b"}, title="c"), "x.epub"),
    ],
)
def test_a_zip_bomb_is_refused_before_it_is_unpacked(data: bytes, name: str) -> None:
    error = refused(bomb(data), name)
    assert error.code is Code.TOO_LARGE
    assert error.details["unpacked_bytes"] > 100_000_000


def test_a_member_that_lies_about_its_size_is_damaged() -> None:
    honest = bomb(make_xlsx({"a": [["b"]]}))
    size = (100_000_000).to_bytes(4, "little")
    assert honest.count(size) == 2
    assert refused(honest.replace(size, (1_000).to_bytes(4, "little")), "x.xlsx").code is Code.MALFORMED


def test_a_text_over_the_limit_is_refused() -> None:
    assert refused("x" * 101, "x.txt", limit=100).code is Code.TOO_LARGE
    assert refused("x" * 401, "x.txt", limit=100).code is Code.TOO_LARGE
    assert refused(make_docx([("", "x" * 101)]), "x.docx", limit=100).code is Code.TOO_LARGE
    assert read("é" * 100, "x.txt", limit=100).text == "é" * 100


# CSV


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_every_passage_of_a_table_carries_the_names_of_its_columns(separator: str) -> None:
    rows = [
        ["city", "inhabitants", "mayor"],
        *([f"Town {n}", str(n * 1000), f"Mayor {n}"] for n in range(1, 400)),
    ]
    table = read("\n".join(separator.join(row) for row in rows), "towns.csv")

    assert table.title == "towns"
    paths = {chunk.place.heading_path for chunk in chunk_document(table)}
    assert paths == {("city, inhabitants, mayor",)}


@pytest.mark.parametrize(
    "text", ["1,2,3\n4,5,6", "name,,age\nAda,x,36", "just a line, with a comma", "a,a\n1,2"]
)
def test_a_table_without_names_of_columns_has_no_heading(text: str) -> None:
    assert read(text, "table.csv").headings == ()
