import pytest

pytest_plugins = ("tests.services.neo4j_server", "tests.services.redis_server", "tests.services.s3_server")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-histories", action="store_true", help="write tests/workflows/histories anew")
    parser.addoption("--update-snapshots", action="store_true", help="write tests/server/snapshots anew")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
