"""Find the patents that are most similar to a text or to a patent, by a model and by words."""

import re

import bm25s
import numpy as np
import pandas as pd
from tqdm import tqdm

from ..common.files import beside, intact
from ..common.progress import ticking
from ..common.resources import require
from ..evaluation.rankers import bm25_index, bm25_scores, fuse, words_of
from .corpus import Corpus
from .options import Similar
from .queries import Search, open_search

DEPTH = 1_000  # ranks of each ranking that are fused


def similar(options: Similar) -> pd.DataFrame:
    """Find the patents most similar to each query, best first.

    Columns: query, query_title, rank, patent_id, title, date, cpc, score (the cosine, or with `hybrid` that of the
    reciprocal rank fusion with BM25), link. A query that is a patent of the corpus is left out, and so are those with
    its abstract. Raises `InputError` as `open_search` does.
    """
    search = open_search(options)
    if options.write_to_neo4j:
        from .neo4j import write_to_neo4j

        write_to_neo4j(options.data, search, options.overwrite)
    found = _fused(search, options.top) if options.hybrid else search.nearest(options.top)
    answers = search.answers(found, ["patent_id", "title", "date", "subclasses"])
    answers["cpc"], answers["link"] = answers["subclasses"].map(" ".join), answers["patent_id"].map(link)
    return answers[["query", "query_title", "rank", "patent_id", "title", "date", "cpc", "score", "link"]]


def _fused(search: Search, count: int) -> list[pd.Series]:
    """The scores of the `count` best patents for each query by the fusion of both rankings, by their rows."""
    index, searched = _index(search.corpus, len(search.vectors)), np.zeros(len(search.vectors), bool)
    searched[slice(None) if search.rows is None else search.rows] = True
    answers = []
    for words, near, hidden in zip(words_of(search.queries), search.nearest(DEPTH), search.hidden, strict=True):
        by_words = pd.Series(bm25_scores(index, words))[searched].drop(hidden, errors="ignore").nlargest(DEPTH)
        scores = pd.Series(fuse([near.index.to_numpy(), by_words[by_words > 0].index.to_numpy()], searched))
        answers.append(scores[scores > 0].nlargest(count))
    return answers


def _index(corpus: Corpus, count: int) -> bm25s.BM25:
    """The words of the corpus, beside its texts, where they are written if they are missing."""
    folder = corpus.file.with_suffix(".bm25")
    if not folder.exists():
        require(folder, 2_000 * count, 5_000 * count, f"indexing the words of {count:,} patents")
        with tqdm(desc="index words", bar_format="{desc} [{elapsed}]") as bar, ticking(bar), beside(folder) as scratch:
            texts = corpus.read(np.arange(count), ["title", "abstract"])
            bm25_index(words_of(texts)).save(scratch, show_progress=False)
    with intact(folder, folder):
        return bm25s.BM25.load(folder, mmap=True, show_progress=False)


def link(patent_id: str) -> str:
    """The page of a patent at Google Patents; empty for an id that is no number of a patent."""
    number = re.fullmatch(r"(D|PP|RE|T|H|AI|X|RX)?\d+", patent_id)  # of the US, as PatentsView writes it
    known = number or re.fullmatch(r"[A-Z]{2}\d\w*", patent_id)
    return f"https://patents.google.com/patent/{'US' * bool(number)}{patent_id}" if known else ""
