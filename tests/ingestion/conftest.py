import os
from pathlib import Path

import pytest

_REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The int8 all-MiniLM-L6-v2; tests that need it are skipped where it is not."""
    given = os.environ.get("APEX_TEST_MODEL")
    default = _REPOSITORY.parent / "shared" / "models" / "all-MiniLM-L6-v2-int8"
    folder = Path(given) if given else default
    if not (folder / "model.onnx").is_file():
        pytest.skip("no local model: set APEX_TEST_MODEL to a folder with all-MiniLM-L6-v2")
    return folder.resolve()
