"""How good is a model, by one protocol for every row of the table, beside BM25, TF-IDF and the base model.

    python -m patentcl.evaluation --models minilm patentCL-10K        # the first is the base of the differences
    python -m patentcl.evaluation --check-leakage data/triplets/10K data/triplets/100K

Retrieval: a query is a held-out patent, relevant are the patents it cites; the query and its family, which repeats its
text, are taken out of the search, and on val all of test, which val queries cite as well. nDCG@10 with binary gains
(Järvelin and Kekäläinen 2002, doi 10.1145/582415.582418), Recall, and MRR within the first 1,000, by ir-measures. Parts
of the relevant patents are looked for apart, the others taken out: IN share a CPC class with the query, OUT share none;
"unseen" are held out as well, so that no training saw their text, that of "known" ones stands in a train triplet.

Triplet accuracy: share of triplets in which the anchor scores higher with the positive than with the negative, by kind.
Re-ranking: mean rank of the first of at most five cited patents among 25 others, drawn at random as for PaECTER (Ghosh
et al. 2024, https://arxiv.org/abs/2402.19411), or from the query's own CPC subclass, else class, section (hard).
CPC subclasses: those that more than half of the 8 nearest patents of other splits have, scored as for PatentSBERTa
(Bekamiri et al. 2021, https://arxiv.org/abs/2103.11933). v-measure: agreement of k-means of the held-out patents with
their CPC sections.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from .choosing import mix
from .files import DATA, InputError, run_script
from .files import seed as seed_of
from .scores import Scores
from .significance import ratio_interval
from .triplets import ROLES, Triplets

BLOCK = 256  # queries scored at once
DEPTH = 1_000  # of a ranking
MEASURES = {
    "nDCG@10": ir_measures.nDCG @ 10,
    "Recall@10": ir_measures.R @ 10,
    "Recall@100": ir_measures.R @ 100,
    "MRR": ir_measures.RR,
}
PARTS = ("IN", "OUT", "known", "unseen")
CANDIDATES, MOST_RELEVANT = 25, 5  # of the re-ranking
NEIGHBOURS = 8  # of the CPC prediction


@dataclass(frozen=True)
class EvaluationSet:
    """The texts that one split's evaluation needs, and triplets and pairs as rows of them.

    `triplets` (T, 3) anchor, positive, negative; `kind` (T,) of the negative; `pairs` (R, 2) query, relevant;
    `family` (N,) numbers; `corpus` (N,) masks the texts to search, `parts` the pairs (R,) of each of `PARTS`. `split`
    is what is evaluated on.
    """

    texts: pd.DataFrame
    triplets: np.ndarray
    kind: np.ndarray
    pairs: np.ndarray
    family: np.ndarray
    corpus: np.ndarray
    parts: dict[str, np.ndarray]
    split: str = "test"

    def hidden(self, rows: np.ndarray) -> np.ndarray:
        """What a search for `rows` (q,) does not see, (q, N): texts outside the corpus, and the query's family."""
        return ~self.corpus | (self.family[rows][:, None] == self.family)


@dataclass
class Figures:
    """One row of the table: `values` by metric, `low` and `high` ends of 95 % intervals where there are any.

    `by_query`: metric → a value for each query or patent, (Q,), or the two parts of a ratio, (Q, 2); they are the same
    for every row, so that rows can be compared.
    """

    values: dict[str, float] = field(default_factory=dict)
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    by_query: dict[str, np.ndarray] = field(default_factory=dict)


def evaluation_set(data: Triplets, split: str, most_texts: int = 0, seed: int = 42) -> EvaluationSet:
    """What is needed to evaluate on `split`; the corpus is cut to about `most_texts` (0: not cut), seeded."""
    triplets = data.triplets[data.triplets["split"] == split]
    pairs = data.retrieval[data.retrieval["split"] == split]
    roles = list(ROLES)
    needed = pd.unique(
        np.concatenate([triplets[roles].to_numpy().ravel(), pairs[["query_id", "relevant_id"]].to_numpy().ravel()])
    )
    is_needed = data.texts["patent_id"].isin(needed).to_numpy()
    chosen = data.texts["in_corpus"].to_numpy().copy()
    if split == "val":  # its queries cite test patents, too, which are neither right nor wrong answers here
        chosen &= (data.texts["split"] != "test").to_numpy()
    if most_texts and chosen.sum() > most_texts:
        order = np.argsort(mix(np.arange(len(chosen)), seed), kind="stable")
        others = order[chosen[order] & ~is_needed[order]]
        chosen[others[max(0, most_texts - int(is_needed.sum())) :]] = False
    texts = data.texts[chosen | is_needed].reset_index(drop=True)
    row = pd.Series(np.arange(len(texts)), index=texts["patent_id"])
    queries, relevant = row[pairs["query_id"]].to_numpy(), row[pairs["relevant_id"]].to_numpy()
    return EvaluationSet(
        texts,
        np.stack([row[triplets[role]].to_numpy() for role in roles], axis=1),
        triplets["negative_kind"].to_numpy(),
        np.stack([queries, relevant], axis=1),
        texts["family"].to_numpy(),
        texts["in_corpus"].to_numpy() & chosen[chosen | is_needed],
        _parts(data, texts, queries, relevant),
        split,
    )


def _parts(data: Triplets, texts: pd.DataFrame, queries: np.ndarray, relevant: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (R,) of the pairs in each of `PARTS`; a pair without classes, or untrained and not held out, is in none."""
    classes = [{cpc_class(symbol) for symbol in symbols} for symbols in texts["subclasses"]]
    both = [(classes[q], classes[r]) for q, r in zip(queries, relevant, strict=True)]
    seen = data.texts.loc[data.texts["patent_id"].isin(data.ids_in("train")), "family"]
    return {
        "IN": np.array([bool(q & r) for q, r in both], dtype=bool),
        "OUT": np.array([bool(q and r) and not q & r for q, r in both], dtype=bool),
        "known": texts["family"].isin(seen).to_numpy()[relevant],
        "unseen": (texts["split"] != "train").to_numpy()[relevant],
    }


def cpc_class(symbol: str) -> str:
    """The CPC class of a subclass symbol; a symbol of another scheme is its own class."""
    is_cpc = len(symbol) == 4 and symbol[0] in "ABCDEFGHY" and symbol[1:3].isdigit() and symbol[3].isalpha()
    return symbol[:3] if is_cpc else symbol


def evaluate(scores: Scores, on: EvaluationSet, embeddings: np.ndarray | None = None, seed: int = 42) -> Figures:
    """All figures of one row; NaN where the split has nothing to count. `embeddings` (N, d) add the v-measure."""
    figures = quick(scores, on, seed)
    for part in PARTS:
        _add_retrieval(figures, scores, on, part)
    for name in ("random", "hard"):
        ranks = first_relevant_ranks(scores, on, name, seed)
        figures.by_query[f"rank among {name}"] = ranks
        figures.values[f"rank among {name}"] = _mean(ranks)
    values, by_patent = subclass_prediction(scores, on)
    figures.values |= values
    figures.by_query |= by_patent
    if embeddings is not None:
        from .scatter import v_measure

        held_out = on.corpus & (on.texts["split"] == on.split).to_numpy()
        figures.values["v-measure"] = v_measure(embeddings[held_out], on.texts["section"][held_out], seed)
    return figures


def quick(scores: Scores, on: EvaluationSet, seed: int = 42) -> Figures:
    """Retrieval of all cited patents and triplet accuracy: what a training looks at on the way."""
    figures = Figures()
    _add_retrieval(figures, scores, on, "")
    right = triplets_right(scores, on.triplets)
    for kind in ("", *pd.unique(on.kind)):
        of = np.ones(len(right), bool) if not kind else on.kind == kind
        anchors = np.unique(on.triplets[of, 0], return_inverse=True)[1]
        count, hits = np.bincount(anchors), np.bincount(anchors, weights=right[of])
        name = f"triplet accuracy {kind}".strip()
        figures.values[name] = float(hits.sum() / count.sum()) if len(count) else float("nan")
        figures.interval[name] = ratio_interval(hits, count, seed)
        figures.by_query[name] = np.stack([hits, count], axis=1)
    return figures


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _add_retrieval(figures: Figures, scores: Scores, on: EvaluationSet, part: str) -> None:
    for measure, values in retrieval_measures(scores, on, part).items():
        name = f"{measure} {part}".strip()
        figures.by_query[name], figures.values[name] = values, _mean(values)


def _blocks(on: EvaluationSet) -> Iterator[np.ndarray]:
    queries = np.unique(on.pairs[:, 0])
    for start in range(0, len(queries), BLOCK):
        yield queries[start : start + BLOCK]


def retrieval_measures(scores: Scores, on: EvaluationSet, part: str = "") -> dict[str, np.ndarray]:
    """`MEASURES` of each query that has relevant patents in `part` ("": all), (Q,) in the order of the query rows.

    Of equal scores the text that stands first comes first, whatever is relevant.
    """
    wanted = on.parts[part] if part else np.ones(len(on.pairs), bool)
    qrels: dict[str, dict[str, int]] = {}
    for query, relevant in on.pairs[wanted]:
        qrels.setdefault(str(query), {})[str(relevant)] = 1
    run: dict[str, dict[str, float]] = {}
    for block in _blocks(on):
        visible, others = ~on.hidden(block), on.pairs[~wanted & np.isin(on.pairs[:, 0], block)]
        visible[np.searchsorted(block, others[:, 0]), others[:, 1]] = False
        matrix = np.where(visible, scores(block, visible), -np.inf)
        for query, row in zip(block, matrix, strict=True):
            if str(query) in qrels:
                top = np.argsort(-row, kind="stable")[:DEPTH]
                run[str(query)] = {str(d): float(DEPTH - i) for i, d in enumerate(top) if row[d] > -np.inf}
    queries = sorted(qrels, key=int)
    found = {(m.query_id, m.measure): m.value for m in ir_measures.iter_calc(list(MEASURES.values()), qrels, run)}
    return {name: np.array([found.get((q, m), 0.0) for q in queries]) for name, m in MEASURES.items()}


def triplets_right(scores: Scores, triplets: np.ndarray) -> np.ndarray:
    """Whether the positive scores above the negative, (T,); a tie is wrong. `triplets` (T, 3) rows of the texts."""
    right = np.zeros(len(triplets), bool)
    for start in range(0, len(triplets), BLOCK):
        anchor, positive, negative = triplets[start : start + BLOCK].T
        matrix, rows = scores(anchor), np.arange(len(anchor))
        right[start : start + BLOCK] = matrix[rows, positive] > matrix[rows, negative]
    return right


def first_relevant_ranks(scores: Scores, on: EvaluationSet, kind: str, seed: int = 42) -> np.ndarray:
    """Rank from 1 of the first cited patent among 25 "random" or "hard" others, (Q,); of equal ones it comes last."""
    ranks = []
    key = mix(np.arange(len(on.texts)), seed)
    for block in _blocks(on):
        hidden, among, chosen = on.hidden(block), np.zeros((len(block), len(on.texts)), bool), []
        for i, query in enumerate(block):
            relevant = on.pairs[on.pairs[:, 0] == query, 1]
            drawn = mix(np.arange(len(on.texts)) ^ int(key[query] >> np.uint64(20)), seed)
            order = np.lexsort((drawn, -_nearness(on.texts, query) if kind == "hard" else drawn))
            others = order[~hidden[i][order] & ~np.isin(order, relevant)][:CANDIDATES]
            chosen.append((relevant[np.argsort(drawn[relevant])][:MOST_RELEVANT], others))
            among[i, np.concatenate(chosen[-1])] = True
        matrix = scores(block, among)
        for row, (right, others) in zip(matrix, chosen, strict=True):
            ranks.append(1 + int((row[others] >= row[right].max()).sum()))
    return np.array(ranks, dtype=float)


def _nearness(texts: pd.DataFrame, row: int) -> np.ndarray:
    """3 for texts of the same primary subclass as `row`, 2 of the class, 1 of the section, else 0; (N,)."""
    levels = [(texts[level] == texts[level].iloc[row]) & (texts[level] != "") for level in ("section", "class")]
    return sum(levels, (texts["subclass"] == texts["subclass"].iloc[row]) & (texts["subclass"] != "")).to_numpy(int)


def subclass_prediction(scores: Scores, on: EvaluationSet) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """F1 micro and macro, and the share of patents all of whose subclasses are right; and what each patent adds.

    A held-out classified patent has the subclasses that more than half of its 8 nearest classified patents of the
    other splits have. Micro is over all subclasses, macro over those that occur among the held-out patents.
    """
    names = [f"CPC {what}" for what in ("F1 micro", "F1 macro", "accuracy")]
    classified = (on.texts["subclass"] != "").to_numpy() & on.corpus
    tested = (on.texts["split"] == on.split).to_numpy()
    asked, known = np.flatnonzero(classified & tested), np.flatnonzero(classified & ~tested)
    if not len(asked) or len(known) < NEIGHBOURS:
        return dict.fromkeys(names, float("nan")), {}
    labels = MultiLabelBinarizer().fit_transform(on.texts["subclasses"])
    predicted = np.empty((len(asked), labels.shape[1]), dtype=int)
    for start in range(0, len(asked), BLOCK):
        rows = asked[start : start + BLOCK]
        among = np.broadcast_to(classified & ~tested, (len(rows), len(on.texts)))
        matrix = scores(rows, among)[:, known]
        near = known[np.argsort(-matrix, axis=1, kind="stable")[:, :NEIGHBOURS]]
        predicted[start : start + BLOCK] = labels[near].mean(axis=1) > 0.5
    truth, occur = labels[asked], np.flatnonzero(labels[asked].any(axis=0))
    micro = f1_score(truth, predicted, average="micro", zero_division=0)
    macro = f1_score(truth[:, occur], predicted[:, occur], average="macro", zero_division=0)
    right, named = (truth & predicted).sum(axis=1), truth.sum(axis=1) + predicted.sum(axis=1)
    exact = (truth == predicted).all(axis=1).astype(float)
    by_patent = {names[0]: np.stack([2 * right, named], axis=1), names[2]: exact}
    found = (micro, macro, accuracy_score(truth, predicted))
    return dict(zip(names, map(float, found), strict=True)), by_patent


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--models", nargs="+", metavar="NAME|DIR", help="models; the first is the base (default: PatentSBERTa)")
    add("--data", type=Path, default=DATA, metavar="DIR", help="where patent_handler.py wrote (default: data/)")
    add("--triplets", default="10K", metavar="NAME", help="the triplets whose held-out patents are evaluated on")
    add("--split", choices=("test", "val"), default="test", help="which held-out patents")
    add("--corpus-sample", type=int, default=0, metavar="N", help="search among about N patents (0: among all)")
    add("--max-length", type=int, default=0, help="tokens of a text that are read (0: as many as each model can)")
    add("--output", type=Path, metavar="DIR", help="where the tables go (default: <data>/evaluation/<triplets>)")
    add("--seed", type=seed_of, default=42, help="samples, candidates and bootstrap")
    add(
        "--check-leakage",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="only print what val and test of these triplets share with train of each, and test with val of each",
    )
    return parser.parse_args()


def main() -> None:
    """Evaluate models, or check triplets for leaks."""
    args = parse_arguments()
    if args.check_leakage:
        from .leakage import overlaps, report
        from .triplets import load_triplets

        folders = {str(folder): load_triplets(folder) for folder in args.check_leakage}
        shared = [o for a in folders for b in folders for o in overlaps(folders[a], folders[b], (a, b))]
        print(report(shared))
        raise SystemExit(1 if any(row.leaks for row in shared) else 0)
    evaluate_models(args)


def evaluate_models(args: argparse.Namespace) -> None:
    """Check all that was asked for, evaluate, print the table, and only then write it."""
    from .comparison import compare, with_base
    from .leakage import warnings_of
    from .models import PATENTSBERTA
    from .results import as_text, check_output, setting_of, write_tables
    from .triplets import load_triplets

    if args.corpus_sample < 0:
        raise InputError(f"--corpus-sample {args.corpus_sample} must be 0 (all patents) or a number above")
    folder = args.data / "triplets" / args.triplets
    data = load_triplets(folder)
    on = evaluation_set(data, args.split, args.corpus_sample, args.seed)
    if not len(on.pairs) and not len(on.triplets):
        raise InputError(f"the {args.split} split of {args.triplets} holds nothing: mine with a larger --{args.split}")
    models = with_base(args.models or [PATENTSBERTA])
    output = args.output or args.data / "evaluation" / folder.name
    check_output(output, args.split)
    rows = compare(models, on, args.data / "embeddings", args.max_length, args.seed)
    queries, found = len(np.unique(on.pairs[:, 0])), int(on.corpus.sum())
    print(f"{queries:,} queries of the {args.split} split, {found:,} patents to search, {len(on.triplets):,} triplets")
    print(as_text(rows, args.seed))
    for line in warnings_of(models, on):
        print(line)
    write_tables(rows, output, args.split, args.seed, setting_of(on, folder, args.max_length, args.seed))
    print(f"tables: {output / args.split}.csv, {output / args.split}.md")


if __name__ == "__main__":
    run_script(main)
