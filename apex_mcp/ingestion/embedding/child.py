"""The local model, inside its child process: loaded once, kept while the process lives.

Called through the child pool only: fastembed and onnxruntime take memory and cores that are not the daemon's.
"""

import json
import os
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingTypeStubs]
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from fastembed.text.onnx_text_model import OnnxTextModel
from loguru import logger
from numpy.typing import NDArray
from tokenizers import Tokenizer

from apex_mcp.errors import Code, Rejected

# all-MiniLM-L6-v2 was made for 256 tokens; its configurations say 128 or 512, depending on who exported it.
# Attention costs the square of a window, so models that could take more get 256 as well.
WINDOW_TOKENS = 256
_MOST_WINDOWS = 4
# Splitting between words moves a border by a few tokens: windows are planned a little smaller than allowed.
_SLACK_TOKENS = 8
_MOST_THREADS = 4

onnxruntime.disable_telemetry_events()  # pyright: ignore[reportUnknownMemberType]
logger.disable("fastembed")


_SessionOptions = cast("Any", onnxruntime).SessionOptions


def _options_of_sleeping_threads() -> Any:
    """By default the threads of onnxruntime spin while they wait for each other, as if the machine were theirs.

    With one other busy process on two cores that halved the speed.
    """
    options = _SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


# fastembed passes no such option on; nothing else runs in this process.
onnxruntime.SessionOptions = _options_of_sleeping_threads


def load(folder: str, fetched_as: str | None, model_file: str) -> int:
    """Load the model; answers the dimension of its vectors.

    Raises:
        Rejected: these files are no model that can be used (`settings_invalid`).
    """
    return _model(folder, fetched_as, model_file).dimension


def embed(folder: str, fetched_as: str | None, model_file: str, texts: list[str], query: bool) -> bytes:
    """Unit vectors of the texts, one after another as float32; a pipe takes lists for ten times as much."""
    return _model(folder, fetched_as, model_file).embed(texts, query=query).astype("<f4").tobytes()


@lru_cache(maxsize=1)
def _model(folder: str, fetched_as: str | None, model_file: str) -> "_Model":
    try:
        return _Model(Path(folder), fetched_as, model_file)
    except Exception as error:  # noqa: BLE001  (a dozen kinds, by library and file; each means the same to the user)
        raise Rejected(
            f"the embedding model cannot be loaded ({type(error).__name__})",
            code=Code.SETTINGS_INVALID,
            unchanged="search is by words meanwhile",
            next_step="delete the model's folder in `models` of the data folder, then run `apex-mcp setup`"
            if fetched_as
            else "APEX_EMBEDDER must name a folder with an ONNX text embedding model and its tokenizer",
        ) from None


class _Model:
    def __init__(self, folder: Path, fetched_as: str | None, model_file: str) -> None:
        self._embedding = TextEmbedding(
            fetched_as or _register(folder, model_file),
            # Given the path, fastembed never asks the network; it makes the cache folder all the same.
            specific_model_path=str(folder),
            cache_dir=str(folder),
            threads=min(_MOST_THREADS, os.cpu_count() or 1),
            providers=["CPUExecutionProvider"],
            # The arena would keep the memory of the largest batch for good, and is no quicker.
            enable_cpu_mem_arena=False,
        )
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._capacity_tokens = self._set_window(folder) - self._tokenizer.num_special_tokens_to_add(False)
        self.dimension = self.embed(["dimension"], query=False).shape[1]

    def _set_window(self, folder: Path) -> int:
        inner = self._embedding.model
        if not isinstance(inner, OnnxTextModel) or inner.tokenizer is None:
            return WINDOW_TOKENS
        truncation = cast("dict[str, Any]", inner.tokenizer.truncation)  # pyright: ignore[reportUnknownMemberType]
        positions = _config(folder / "config.json").get("max_position_embeddings", truncation["max_length"])
        window = min(WINDOW_TOKENS, positions)
        inner.tokenizer.enable_truncation(window)  # pyright: ignore[reportUnknownMemberType]
        return window

    def embed(self, texts: list[str], *, query: bool) -> NDArray[np.float32]:
        """A text longer than the window gets the mean of its windows' vectors, so that its end counts too.

        Of 160 passages of 530 tokens, asked for by 14 of their words, that found 0.47 first; one window of 512 tokens
        0.41, the first 256 tokens alone 0.37.
        """
        windows = [self._windows(text) for text in texts]
        flat = list(chain.from_iterable(windows))
        ask = self._embedding.query_embed if query else self._embedding.embed
        vectors = iter(np.asarray(vector, dtype=np.float32) for vector in ask(flat))
        rows = np.stack([np.mean([next(vectors) for _ in parts], axis=0) for parts in windows])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return rows / np.maximum(lengths, np.finfo(np.float32).tiny)

    def _windows(self, text: str) -> list[str]:
        """The text in as few parts of like size as the window needs, cut between words."""
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        count = len(tokens.ids)
        if count <= self._capacity_tokens:
            return [text]
        parts = min(_MOST_WINDOWS, -(-count // max(1, self._capacity_tokens - _SLACK_TOKENS)))
        size = min(self._capacity_tokens, -(-count // parts))
        starts = [_word_start(tokens.word_ids, size * part) for part in range(parts)]
        ends = [*starts[1:], min(count, starts[-1] + self._capacity_tokens)]
        return [
            text[tokens.offsets[start][0] : tokens.offsets[end - 1][1]]
            for start, end in zip(starts, ends, strict=True)
        ]


def _word_start(word_ids: list[int | None], index: int) -> int:
    """The first token of the word at `index`, unless it is a word of monstrous length."""
    start = index
    while start > max(0, index - _SLACK_TOKENS) and word_ids[start] == word_ids[start - 1]:
        start -= 1
    return index if start and word_ids[start] == word_ids[start - 1] else start


def _register(folder: Path, model_file: str) -> str:
    """Tell fastembed of a model that is not in its list; answers the name to ask for."""
    pooling = _config(folder / "1_Pooling" / "config.json")
    if pooling.get("pooling_mode_cls_token"):
        kind = PoolingType.CLS
    elif pooling.get("pooling_mode_lasttoken"):
        kind = PoolingType.LAST_TOKEN
    else:
        kind = PoolingType.MEAN
    name = f"local/{folder.name}"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=kind,
        normalization=True,
        sources=ModelSource(hf=name),
        # Only for fastembed's own listing; the real one is taken from a vector.
        dim=0,
        model_file=model_file,
    )
    return name


def _config(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
