"""Models are found by name, folder or hub, and embed each text once."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from patentcl.common.cli import InputError
from patentcl.models import embed
from patentcl.models.load import MINILM, find_model, normalises
from patentcl.models.tokens import join_texts, separator

PATENTS = pd.DataFrame({"title": ["Pump", " Valve"], "abstract": ["A pump. ", "A valve."]})


def test_the_packaged_model_needs_no_hub() -> None:
    model = find_model(MINILM).load(64)

    assert model.max_seq_length == 64
    assert normalises(model)
    assert separator(model) == "[SEP]"
    assert join_texts(PATENTS, separator(model)) == ["Pump[SEP]A pump.", "Valve[SEP]A valve."]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./nowhere/model", r"\./nowhere/model"),
        ("nobody/no-such-model-of-patentcl", "nobody/no-such-model-of-patentcl"),
    ],
)
def test_an_unknown_model_is_refused_with_what_to_do(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        find_model(name)


def test_a_folder_without_a_model_and_a_limit_beyond_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no modules\.json"):
        find_model(str(tmp_path))
    with pytest.raises(InputError, match=r"--max-length 5000 .* 512 tokens"):
        find_model(MINILM).load(5000)


def test_a_text_is_encoded_once_and_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patents = pd.DataFrame({"title": [f"Device {i % 30}" for i in range(40)], "abstract": "It turns."})
    encoded: list[int] = []
    real = embed.encode

    def counting(model: object, rows: pd.DataFrame) -> np.ndarray:
        if len(encoded) == 2:
            encoded.append(0)
            raise KeyboardInterrupt
        encoded.append(len(rows))
        return real(model, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(embed, "encode", counting)
    monkeypatch.setattr(embed, "CHUNK", 8)
    with pytest.raises(KeyboardInterrupt):
        embed.embed(find_model(MINILM), patents, tmp_path)
    first = embed.embed(find_model(MINILM), patents, tmp_path)
    again = embed.embed(find_model(MINILM), patents.iloc[::-1], tmp_path)

    assert sum(encoded) == 30  # ten texts stand there twice
    assert first.shape == (40, 384) and np.array_equal(first[:10], first[30:])
    assert np.array_equal(again, first[::-1])
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("lack", [torch.OutOfMemoryError(), RuntimeError("can't allocate memory")])
def test_a_device_with_little_memory_embeds_fewer_texts_at_a_time(
    lack: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model(MINILM).load(device="cpu")
    patents = pd.DataFrame({"title": ["a pump", "a lamp", "a chair", "a valve"], "abstract": ["b " * 9] * 4})
    embed_packed, wanted, counts = embed.embed_packed, embed.encode(model, patents), []

    def small(model: object, texts: list[np.ndarray], way: str, most: int) -> object:
        counts.append(len(texts))
        if len(texts) > most:
            raise lack
        return embed_packed(model, texts, way)  # type: ignore[arg-type]

    monkeypatch.setattr(embed, "embed_packed", partial(small, most=2))
    np.testing.assert_allclose(embed.encode(model, patents, batch_tokens=100), wanted, atol=1e-6)
    assert counts == [4, 2, 2] and embed.encode(model, patents[:0]).shape == (0, 384)
    monkeypatch.setattr(embed, "embed_packed", partial(small, most=0))
    with pytest.raises(InputError, match="out of memory with one text at a time"):
        embed.encode(model, patents)
