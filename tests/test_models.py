"""Models are found by name, folder or hub, and embed each text once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from patentcl.common.cli import InputError
from patentcl.models import embed
from patentcl.models.load import MINILM, find_model
from patentcl.models.tokens import join_texts, separator

PATENTS = pd.DataFrame({"title": ["Pump", " Valve"], "abstract": ["A pump. ", "A valve."]})


def test_the_packaged_model_needs_no_hub() -> None:
    model = find_model(MINILM).load(64)

    assert model.max_seq_length == 64
    assert separator(model) == "[SEP]"
    assert join_texts(PATENTS, separator(model)) == ["Pump[SEP]A pump.", "Valve[SEP]A valve."]


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("./nowhere/model", r"\./nowhere/model"),
        ("nobody/no-such-model-of-patentcl", "nobody/no-such-model-of-patentcl"),
    ],
)
def test_an_unknown_model_is_refused_with_what_to_do(name: str, named: str) -> None:
    with pytest.raises(InputError, match=named):
        find_model(name)


def test_a_folder_without_a_model_and_a_limit_beyond_the_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"modules\.json"):
        find_model(str(tmp_path))
    with pytest.raises(InputError, match=r"--max-length 5000 .* 512 tokens"):
        find_model(MINILM).load(5000)


def test_a_text_is_encoded_once_and_an_interrupted_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patents = pd.DataFrame({"title": [f"Device {i % 30}" for i in range(40)], "abstract": "It turns."})
    encoded: list[int] = []
    real = embed.encode_tokens

    def counting(model: object, rows: list[np.ndarray]) -> np.ndarray:
        if len(encoded) == 2:
            encoded.append(0)
            raise KeyboardInterrupt
        encoded.append(len(rows))
        return real(model, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(embed, "encode_tokens", counting)
    monkeypatch.setattr(embed, "CHUNK", 8)
    with pytest.raises(KeyboardInterrupt):
        embed.embed(find_model(MINILM), patents, tmp_path)
    first = embed.embed(find_model(MINILM), patents, tmp_path)
    again = embed.embed(find_model(MINILM), patents.iloc[::-1], tmp_path)

    assert sum(encoded) == 30  # ten texts stand there twice
    assert first.shape == (40, 384) and np.array_equal(first[:10], first[30:])
    assert np.array_equal(again, first[::-1])
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(), RuntimeError("can't allocate memory")])
def test_out_of_memory_while_embedding_names_the_flag(error: RuntimeError, monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model(MINILM).load().to("cpu")

    def full(*_: object) -> torch.Tensor:
        raise error

    assert embed.encode(model, PATENTS[:0]).shape == (0, 384)
    monkeypatch.setattr(embed, "embed_packed", full)
    with pytest.raises(InputError, match="--max-length"):
        embed.encode(model, PATENTS)


@pytest.mark.parametrize("batch_tokens", [1, 20, 1_000])
def test_the_size_of_a_batch_changes_no_embedding(batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = find_model(MINILM).load().to("cpu")
    patents = pd.DataFrame(
        {"title": ["a pump", "a lamp", "a chair", "a valve"], "abstract": ["b", "b " * 9, "", "b c"]}
    )

    usual = embed.encode(model, patents)
    monkeypatch.setitem(embed.BATCH_TOKENS, "cpu", batch_tokens)

    np.testing.assert_allclose(embed.encode(model, patents), usual, atol=1e-6)


def test_a_corrupt_file_of_the_cache_is_replaced(tmp_path: Path) -> None:
    model = find_model(MINILM)
    first = embed.embed(model, PATENTS, tmp_path)
    (file,) = tmp_path.glob("*/*.npz")
    for content in (file.read_bytes()[:-100], file.read_bytes().replace(first[0].tobytes(), first[1].tobytes())):
        for path in file.parent.glob("*.npz"):
            path.unlink()
        file.write_bytes(content)
        assert np.array_equal(embed.embed(model, PATENTS, tmp_path), first)
        assert len(list(file.parent.iterdir())) == 1


def test_a_model_is_loaded_once_and_a_taken_one_is_not_shared() -> None:
    model = find_model(MINILM)

    assert model.load(16) is model.load(16) is not model.load(24)
    taken = model.take(16)
    assert taken is not model.load(16)
