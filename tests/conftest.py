"""What the tests share: a small sample mined once, and the real patents if they are available."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes share the cores; threads that wait would spin
os.environ["PATENTCL_PRECISION"] = "fp32"  # the figures in the tests; some CPUs would compute in bf16

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from patentcl.models.load import Model
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.training import loop
from patentcl.training.options import Hyperparameters
from patentcl.training.train import train
from patentcl.triplets.dataset import Dataset
from patentcl.triplets.options import Mining
from tiny import hyperparameters, small, untrained

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of 600 sample patents."""
    folder = tmp_path_factory.mktemp("sample") / "tables"
    write_sample(folder, patents=600)
    return folder


@pytest.fixture(scope="session")
def mined_data(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the graph of `tables` and its triplets, named 200; read-only, copy it to write."""
    data = tmp_path_factory.mktemp("data")
    tables_to_triplets(tables, data, "200", Mining("200"))
    return data


@pytest.fixture(scope="session")
def data(mined_data: Path) -> Dataset:
    """24 train triplets, and little to evaluate."""
    return small(mined_data)


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An untrained BERT of two layers."""
    return untrained(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny(small_model: Model) -> Hyperparameters:
    """A training of `small_model`: 12 steps and two evaluations."""
    return hyperparameters(small_model.folder)


@pytest.fixture(scope="session")
def trained(data: Dataset, tiny: Hyperparameters, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained without interruption, and beside it the cache of embeddings."""
    folder = tmp_path_factory.mktemp("models")
    train(data, folder / "tiny", folder / "cache", tiny)
    return folder / "tiny"


@pytest.fixture
def val_metrics(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the evaluations of a training give these values, the base model's first, and choose weights by them."""

    def give(*values: float) -> None:
        metrics = iter(values)
        monkeypatch.setattr(loop, "LEAST_QUERIES", 1)
        monkeypatch.setattr(loop, "quick", lambda *_: SimpleNamespace(values={"nDCG@10": next(metrics)}))

    return give


@pytest.fixture(scope="session")
def water() -> Path:
    """Real patents in PatentsView's layout, from the folder that PATENTCL_REAL_TABLES names."""
    folder = os.environ.get("PATENTCL_REAL_TABLES")
    if not folder:
        pytest.skip("PATENTCL_REAL_TABLES is not set")
    return Path(folder)


@pytest.fixture
def custom_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Write a custom corpus: rows of patents, citations and classes as CSV files."""

    def write(
        patents: list[tuple[str, str, str]], citations: list[tuple[str, str]], classes: list[tuple[str, str]]
    ) -> Path:
        folder = tmp_path / "corpus"
        folder.mkdir()
        pd.DataFrame(patents, columns=["patent_id", "title", "abstract"]).to_csv(folder / "patents.csv", index=False)
        pd.DataFrame(citations, columns=["citing", "cited"]).to_csv(folder / "citations.csv", index=False)
        pd.DataFrame(classes, columns=["patent_id", "subclass"]).to_csv(folder / "classes.csv", index=False)
        return folder

    return write
