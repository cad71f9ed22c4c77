import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-histories", action="store_true", help="write tests/workflows/histories anew")
    parser.addoption("--update-snapshots", action="store_true", help="write tests/server/snapshots anew")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
