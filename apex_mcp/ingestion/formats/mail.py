"""E-mails: the heads that people ask for, and the body; attachments are named and left out."""

from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message

from apex_mcp.ingestion.decoding import decode_text
from apex_mcp.ingestion.formats.reading import Reading, TextBuilder, parse_time
from apex_mcp.ingestion.formats.web import add_html

_SHOWN = ("From", "To", "Cc", "Date")


def read_email(data: bytes) -> Reading:
    """Read a message as it was saved (.eml)."""
    message = message_from_bytes(data)
    heads = {name: _head(message, name) for name in (*_SHOWN, "Subject")}
    builder = TextBuilder()
    builder.heading(1, heads["Subject"])
    builder.block("\n".join(f"{name}: {heads[name]}" for name in _SHOWN if heads[name]))
    parts = [part for part in message.walk() if not part.is_multipart()]
    shown = {id(part) for kind in ("text/plain", "text/html") for part in _bodies(message, kind)}
    # A body is often given twice, as text and as HTML: the text is what the sender would have us read.
    bodies = _bodies(message, "text/plain") or _bodies(message, "text/html")
    for part in bodies:
        content = _content(part)
        if part.get_content_type() == "text/html":
            add_html(builder, content)
        else:
            builder.block(content)
    left_out = [part.get_filename() or part.get_content_type() for part in parts if id(part) not in shown]
    return Reading(
        text=builder.text,
        title=heads["Subject"],
        headings=builder.headings,
        document_time=parse_time(heads["Date"]),
        metadata={name.lower(): heads[name] for name in ("From", "To") if heads[name]},
        warnings=(f"attachments were left out: {', '.join(left_out)}",) if left_out else (),
    )


def _bodies(message: Message, kind: str) -> list[Message]:
    return [
        part
        for part in message.walk()
        if part.get_content_type() == kind and not part.is_multipart() and not part.get_filename()
    ]


def _content(part: Message) -> str:
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    try:
        return content.decode(part.get_content_charset() or "utf-8")
    except (LookupError, UnicodeDecodeError):
        return decode_text(content, markup=part.get_content_type() == "text/html")


def _head(message: Message, name: str) -> str:
    value = message.get(name, "")
    try:
        return " ".join(str(make_header(decode_header(value))).split())
    except (LookupError, ValueError, MessageError):
        return " ".join(str(value).split())
