"""Which addresses of servers are well written."""

import pytest

from apex_mcp.addresses import is_host_and_port, is_http


@pytest.mark.parametrize("address", ["temporal:7233", "127.0.0.1:7233", "[::1]:7233", "a.example.com:443"])
def test_host_and_port_is_taken(address: str) -> None:
    assert is_host_and_port(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://temporal:7233",
        "temporal",
        "temporal:",
        ":7233",
        "temporal:99999",
        "temporal:0",
        "a:1/b",
        "u@a:1",
    ],
)
def test_anything_else_is_no_host_and_port(address: str) -> None:
    assert not is_host_and_port(address)


@pytest.mark.parametrize(
    "address", ["http://qdrant:6333", "https://q.example.com", "http://[::1]:6333/prefix"]
)
def test_http_addresses_are_taken(address: str) -> None:
    assert is_http(address)


@pytest.mark.parametrize(
    "address", ["nonsense", "qdrant:6333", "ftp://qdrant", "http://", "http://qdrant:99999", "http://[::1"]
)
def test_anything_else_is_no_http_address(address: str) -> None:
    assert not is_http(address)
