"""The double of an endpoint that each test of the model asks."""

from collections.abc import Iterator

import pytest

from tests.doubles.openai_server import OpenAIServer
from tests.ingestion.enriching.models import KEY


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(api_key=KEY) as server:
        yield server
