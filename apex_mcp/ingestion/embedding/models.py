"""Which local model the setting means, and where its files are."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from apex_mcp.errors import Code, Rejected

_MODEL_FILES = (
    "model.onnx",
    "onnx/model.onnx",
    "model_optimized.onnx",
    "model_quantized.onnx",
    "onnx/model_quantized.onnx",
)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_SAMPLE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine, or one that will be.

    Attributes:
        identity: the embedder's name in the record. Of a folder it tells the content, so that a moved folder
            stays the same embedder, and another model in the same folder does not.
        folder: where its files are.
        fetched_as: fastembed's name of it; None for a folder that the user gave.
        model_file: the ONNX file in a user's folder; fastembed knows it for its own models.
    """

    identity: str
    folder: Path
    fetched_as: str | None = None
    model_file: str = ""


def find_model(setting: str, models_folder: Path) -> LocalModel:
    """The model that `APEX_EMBEDDER` means: a folder, or a name that fastembed knows.

    Raises:
        Rejected: a folder that holds no usable model, or a relative one (`settings_invalid`).
    """
    path = Path(setting).expanduser()
    if path.is_absolute():
        return _user_model(path)
    if setting.startswith(".") or "\\" in setting:
        raise _bad_setting("APEX_EMBEDDER is a relative path", "give the model's folder as an absolute path")
    folder = models_folder / re.sub(r"[^a-z0-9._-]+", "--", setting.lower())
    return LocalModel(identity=f"fastembed:{setting}", folder=folder, fetched_as=setting)


def require_model(folder: Path) -> str:
    """The model file in a user's folder.

    Raises:
        Rejected: it is not there, or not with all that belongs to it (`settings_invalid`).
    """
    if not folder.is_dir():
        raise _bad_setting("APEX_EMBEDDER names a folder that is not there", "put the model back")
    model_file = next((name for name in _MODEL_FILES if (folder / name).is_file()), None)
    if model_file is None or not all((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise _bad_setting(
            "APEX_EMBEDDER names a folder without a complete model",
            f"the folder needs {', '.join(_TOKENIZER_FILES)} and one of {', '.join(_MODEL_FILES)}",
        )
    return model_file


def _user_model(folder: Path) -> LocalModel:
    model_file = require_model(folder)
    return LocalModel(
        identity=f"fastembed:{folder.name}:{_digest(folder / model_file, folder / 'tokenizer.json')}",
        folder=folder,
        model_file=model_file,
    )


def _digest(*files: Path) -> str:
    """Tells models apart by size, beginning and end: hashing gigabytes would delay every start."""
    digest = hashlib.blake2b(digest_size=6)
    for file in files:
        size = file.stat().st_size
        digest.update(size.to_bytes(8, "little"))
        with file.open("rb") as stream:
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(0, size - _SAMPLE_BYTES))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def _bad_setting(message: str, next_step: str) -> Rejected:
    return Rejected(
        message,
        code=Code.SETTINGS_INVALID,
        next_step=f"{next_step}, or set APEX_EMBEDDER to a fastembed model's name, `openai` or `none`; then run "
        "`apex-mcp stop` (whoever comes next starts it anew)",
    )
