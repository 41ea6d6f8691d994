"""A training that takes seconds."""

from pathlib import Path

import numpy as np
import pandas as pd

from patentcl.models.load import MINILM
from patentcl.training.recipes import Training
from patentcl.triplets.dataset import Dataset, load_dataset

TINY = Training(MINILM, epochs=2, batch_size=4, max_length=32, evaluations=2)


def small(road: Path) -> Dataset:
    """24 train triplets, and little to evaluate."""
    whole = load_dataset(road / "triplets" / "200")
    triplets = whole.triplets.groupby("split").head(24)
    retrieval = whole.retrieval.groupby("split").head(10)
    used = pd.unique(np.concatenate([frame.filter(like="_id").to_numpy().ravel() for frame in (triplets, retrieval)]))
    texts = whole.texts[whole.texts["patent_id"].isin(used)].reset_index(drop=True)
    return Dataset(triplets, texts, retrieval, whole.fingerprint)
