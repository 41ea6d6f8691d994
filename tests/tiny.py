"""A training that takes seconds."""

from pathlib import Path

import numpy as np
import pandas as pd

from patentcl.models import MINILM
from patentcl.recipes import Training
from patentcl.triplets import Triplets, load_triplets

TINY = Training(MINILM, epochs=2, batch_size=4, max_length=32, evaluations=2)


def small(road: Path) -> Triplets:
    """24 train triplets, and little to evaluate."""
    whole = load_triplets(road / "triplets" / "200")
    triplets = whole.triplets.groupby("split").head(24)
    retrieval = whole.retrieval.groupby("split").head(10)
    used = pd.unique(np.concatenate([frame.filter(like="_id").to_numpy().ravel() for frame in (triplets, retrieval)]))
    texts = whole.texts[whole.texts["patent_id"].isin(used)].reset_index(drop=True)
    return Triplets(triplets, texts, retrieval, whole.fingerprint)
