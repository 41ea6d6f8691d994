"""Distillation: what the teacher knows of two texts, and that a model learns it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from torch.nn.functional import cross_entropy, normalize

from patentcl.common.files import read_json
from patentcl.models.embed import encode, unit_rows
from patentcl.models.load import Model
from patentcl.models.tokens import Tokens, tokenise
from patentcl.training import distillation
from patentcl.training.distillation import Distilled, Teacher
from patentcl.training.losses import Loss
from patentcl.training.options import Hyperparameters, RunOptions
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset

TITLES = ["pump", "water pump", "lamp", "pump with a valve", "an electric lamp", "valve"]
PATENTS = pd.DataFrame({"title": TITLES, "abstract": [f"It has a {title} and a part." for title in TITLES]})
ALL = np.arange(len(TITLES))


class Nothing(Loss):
    """A loss of zero."""

    def value(self, *columns: torch.Tensor) -> torch.Tensor:
        return torch.zeros(())


def tokens_of(model: Model, folder: Path) -> Tokens:
    return tokenise(model.load(), len(PATENTS), lambda start: iter([PATENTS.iloc[start:]]), "six", folder / "tokens")


def test_the_teacher_adds_the_cosines_of_the_base_and_of_tfidf(small_model: Model, tmp_path: Path) -> None:
    tokens = tokens_of(small_model, tmp_path)
    teacher = Teacher(small_model.load(), tokens, ALL, tmp_path / "t")

    unit, counts = unit_rows(encode(small_model.load(), PATENTS)), np.zeros((6, 40_000))
    for row in ALL:
        np.add.at(counts[row], tokens[int(row)], 1)
    words = TfidfTransformer(sublinear_tf=True).fit_transform(counts).toarray()
    wanted = unit @ unit.T + words @ words.T
    np.testing.assert_allclose(teacher.cosines(ALL), wanted, atol=2e-3)
    np.testing.assert_allclose(teacher.cosines(np.array([4, 1])), wanted[np.ix_([4, 1], [4, 1])], atol=2e-3)


def test_vectors_are_computed_once_and_an_interrupted_run_resumes(
    small_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, model = tokens_of(small_model, tmp_path), small_model.load()
    monkeypatch.setattr(distillation, "CHUNK", 2)
    wanted = Teacher(model, tokens, ALL, tmp_path / "t").vectors
    calls: list[int] = []
    real = distillation.encode_tokens

    def counting(network: torch.nn.Module, texts: list[np.ndarray]) -> np.ndarray:
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(network, texts)  # type: ignore[arg-type]

    monkeypatch.setattr(distillation, "encode_tokens", counting)
    with pytest.raises(KeyboardInterrupt):
        Teacher(model, tokens, ALL, tmp_path / "cut")
    with (tmp_path / "cut" / "vectors.bin").open("ab") as file:
        file.write(b"half a vector")
    for _ in range(2):
        assert np.array_equal(Teacher(model, tokens, ALL, tmp_path / "cut").vectors, wanted)
    assert calls == [2, 2, 2, 2]


def test_the_loss_is_the_cross_entropy_to_the_teachers_softmax_over_other_texts(
    small_model: Model, tmp_path: Path
) -> None:
    teacher = Teacher(small_model.load(), tokens_of(small_model, tmp_path), ALL, tmp_path / "t")
    batch = np.array([[0, 3, 2], [6 + 1, 12 + 1, 4]])  # the second is a triplet of views of text 1
    texts = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    anchor, positive, negative = texts.reshape(3, 2, 8)
    loss = Distilled(Nothing(), teacher, weight=2, scale=5)(anchor, positive, negative, batch)

    patents, unit = batch.T.ravel() % 6, normalize(texts, dim=1)
    cosines, parts = torch.as_tensor(teacher.cosines(ALL)), []
    for one in range(6):
        others = [other for other in range(6) if patents[other] != patents[one]]
        target = (5 * cosines[patents[one], patents[others]]).softmax(0)
        parts.append(cross_entropy(5 * unit[others] @ unit[one], target))
    assert loss.item() == pytest.approx(2 * torch.stack(parts).mean().item(), rel=1e-4)


def test_a_training_learns_the_teachers_cosines(
    data: Dataset, tiny: Hyperparameters, small_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("patentcl.training.train.LEAST", 40)
    chosen = replace(tiny, loss="contrast", margin=Hyperparameters.margin, views=1, distill=1, evaluations=0, lr=1e-3)
    record = train(data, tmp_path / "m", tmp_path / "cache", replace(chosen, epochs=4))

    lines = [line.split(",") for line in (tmp_path / "m" / "training.csv").read_text().splitlines()]
    losses = [float(line[lines[0].index("loss")]) for line in lines[1:] if line[lines[0].index("loss")]]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    assert record["steps"] == 4 * 16 and record["train triplets"] == 24
    trained = (tmp_path / "m" / "ids_train.txt").read_text().split()
    assert trained == sorted(data.texts["patent_id"][data.texts["split"] == "train"])
    assert read_json(tmp_path / "m" / "run.json")["recipe"] == "custom"


def test_a_training_with_views_and_a_teacher_resumes_to_the_same_bytes(
    data: Dataset, tiny: Hyperparameters, tmp_path: Path
) -> None:
    chosen = replace(tiny, views=1, distill=1, evaluations=0, epochs=0.5)

    def crash(step: int, _: object) -> None:
        if step == 3:
            raise RuntimeError("at night")

    train(data, tmp_path / "whole", tmp_path / "cache", chosen)
    with pytest.raises(RuntimeError, match="at night"):
        train(data, tmp_path / "cut", tmp_path / "cache", chosen, RunOptions(checkpoint_minutes=1e-9), crash)
    train(data, tmp_path / "cut", tmp_path / "other cache", chosen, RunOptions(resume=True))

    assert len({(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")}) == 1
