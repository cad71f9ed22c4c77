import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import cast

import pytest

from apex_mcp.errors import Code, Unavailable
from apex_mcp.runtime import services
from apex_mcp.runtime.home import DataFolder
from apex_mcp.runtime.services import Keeper, OpenServices
from tests.runtime.tiny import TinyServices

pytestmark = pytest.mark.anyio


async def test_a_start_that_fails_unforeseen_says_when_to_call_again_and_the_next_call_opens_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []

    @contextlib.asynccontextmanager
    async def open_at_the_second_time() -> AsyncGenerator[TinyServices]:
        starts.append(1)
        if len(starts) == 1:
            raise ImportError("half a module")
        yield TinyServices(DataFolder(tmp_path))

    keeper = Keeper(cast(OpenServices, open_at_the_second_time))
    keeper.start()
    with pytest.raises(Unavailable) as caught:
        await keeper.services()
    error = caught.value
    assert (error.code, error.retry_after_seconds) == (Code.DAEMON_UNAVAILABLE, 5)
    assert "again" in error.next_step
    assert "half a module" not in str(error)
    monkeypatch.setattr(services, "_TRY_AGAIN_SECONDS", 0)
    assert isinstance(await keeper.services(), TinyServices)
    await keeper.close()
