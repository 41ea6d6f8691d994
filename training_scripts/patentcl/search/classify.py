"""Predict the CPC subclasses of a text by the votes of its nearest patents (PatentSBERTa, Bekamiri et al. 2021)."""

import pandas as pd

from ..evaluation.metrics import LEAST_VOTES
from ..evaluation.scoring import NEIGHBOURS
from ..tables.overview import subclass_titles
from .options import Classify
from .queries import open_search


def classify(options: Classify) -> pd.DataFrame:
    """Predict the subclasses of each query; columns query, query_title, rank, subclass, title, confidence, predicted.

    The confidence is the share of the nearest classified patents that have the subclass; of equal ones, that of nearer
    patents comes first. Those of 3 in 8 and more are `predicted`, as in the evaluation. Raises `InputError` as
    `open_search` does.
    """
    search = open_search(options, classified=True)
    nearest = search.answers(search.nearest(options.neighbours), ["subclasses"])
    nearest["share"] = 1 / nearest.groupby("number")["rank"].transform("max")  # of a vote
    by_class = nearest.explode("subclasses").groupby(["number", "query", "query_title", "subclasses"])
    votes = by_class[["share", "score"]].sum().reset_index().rename(columns={"subclasses": "subclass"})
    votes = votes.sort_values(["number", "share", "score"], ascending=[True, False, False], kind="stable")
    votes["rank"] = votes.groupby("number").cumcount() + 1
    votes["title"] = votes["subclass"].map(subclass_titles(options.data / "graph")).fillna("")
    votes["confidence"] = votes["share"].round(9)
    votes["predicted"] = votes["confidence"] >= LEAST_VOTES / NEIGHBOURS
    columns = ["query", "query_title", "rank", "subclass", "title", "confidence", "predicted"]
    return votes.loc[votes["rank"] <= options.top, columns]
