"""Are addresses of servers well written? Whether somebody answers there is another question."""

from collections.abc import Collection
from urllib.parse import urlsplit


def is_host_and_port(address: str) -> bool:
    """Whether it is `host:port`, and nothing else."""
    try:
        parts = urlsplit(f"//{address}")
        return bool(parts.hostname and parts.port) and parts.netloc == address and "@" not in address
    except ValueError:
        return False


def is_http(address: str) -> bool:
    """Whether it is `http://` or `https://` with a host, and a port that can be one."""
    return is_url(address, ("http", "https"))


def is_url(address: str, schemes: Collection[str]) -> bool:
    """Whether it has one of these schemes, a host, and a port that can be one where it names any."""
    try:
        parts = urlsplit(address)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
