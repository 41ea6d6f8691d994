"""Predict the CPC subclasses of a text by the votes of its nearest patents (PatentSBERTa, Bekamiri et al. 2021)."""

import numpy as np
import pandas as pd
from sklearn.preprocessing import MultiLabelBinarizer

from ..evaluation.metrics import LEAST_VOTES
from ..evaluation.scoring import NEIGHBOURS, votes
from ..tables.overview import subclass_titles
from .options import Classify
from .queries import open_search


def classify(options: Classify) -> pd.DataFrame:
    """Predict the subclasses of each query; columns query, rank, subclass, title, confidence, predicted.

    The confidence is the share of the nearest classified patents that have the subclass; of equal ones, that of nearer
    patents comes first. Those of 3 in 8 and more are `predicted`, as in the evaluation. Raises `InputError` as
    `open_search` does.
    """
    search = open_search(options, classified=True)
    found = search.nearest(options.neighbours)
    voters = min(len(rows) for rows, _ in found)  # fewer than asked for in a small corpus
    symbols = search.corpus.read(np.concatenate([rows[:voters] for rows, _ in found]), ["subclasses"])["subclasses"]
    encoder = MultiLabelBinarizer()
    labels = encoder.fit_transform(symbols)
    places = np.arange(len(labels)).reshape(len(found), voters)
    shares, answers = votes(labels, places) / voters, []
    for name, share, own, (_, cosines) in zip(search.queries["query"], shares, places, found, strict=True):
        best = np.lexsort((-cosines[:voters] @ labels[own], -share))[: options.top]
        best = best[share[best] > 0]
        columns = {"query": name, "rank": np.arange(len(best)) + 1, "subclass": encoder.classes_[best], "title": ""}
        answers.append(pd.DataFrame(columns).assign(confidence=share[best]))
    answer = pd.concat(answers, ignore_index=True)
    answer["title"] = answer["subclass"].map(subclass_titles(options.data / "graph")).fillna("")
    return answer.assign(predicted=answer["confidence"] >= LEAST_VOTES / NEIGHBOURS)
