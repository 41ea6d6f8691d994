"""The record of a mining as lines for a reader."""

from typing import Any

from .options import KINDS

MAX_SECTIONS = 10  # with a line each; schemes other than the CPC may have many


def report(record: dict[str, Any]) -> str:
    """The record `triplets.json` as lines: what was counted, what was chosen, and why not more."""
    params, negatives, sections = record["params"], record["negatives"], record["sections"]
    has_classes = sections["names"] != [""]
    kinds = [kind for kind in KINDS if has_classes or kind != "sibling"]
    lines = [_line(label, count) for label, count in record["counts"].items()]
    lines.append("of these pairs, by kind of negative")
    lines += [_line(f"  {kind}", negatives["got"][kind], f"requested {negatives['wanted'][kind]:,}") for kind in kinds]
    lines += [_line(f"    {instead}", count) for instead, count in negatives["fell back"].items() if count]
    lines.append("of the chosen triplets")
    lines += [_line(f"  {kind}", sum(counts[kind] for counts in record["kinds"].values())) for kind in kinds]
    shown = {kind: n for kind, n in record["positives"].items() if n or kind == params["positives"]}
    lines += [_line(f"  positive: {kind}", count) for kind, count in shown.items()]
    if params["positives"] == "examiner" and not record["examiner's citations"]:
        lines.append("  no citation of these anchors is marked as the examiner's: same result as --positives cited")
    lines.append(_line("  distinct negatives", record["distinct negatives"]))
    if params["filter_model"]:
        lines.append(_line("dropped: negative closer than the positive", negatives["false negatives dropped"]))
    if params["triplets"] and record["triplets"]["train"] < params["triplets"]:
        advice = "" if params["positives"] == "coupled" else "; --positives coupled may give more"
        lines.append(f"the tables give fewer train triplets than the {params['triplets']:,} requested{advice}")
    for split, count in record["triplets"].items():
        queries, relevant = (record[counted].get(split, 0) for counted in ("queries", "relevant"))
        note = f"queries: {queries:,}, patents that they cite: {relevant:,}" if queries else ""
        lines.append(_line(f"triplets {split}", count, note))
    if params["split"] == "time":
        lines.append("families, each as new as its newest patent")
        lines += [_line(f"  {split}", " to ".join(ends)) for split, ends in record["dates of families"].items()]
        note = "with newer ones in their families"
        lines.append(_line("  held-out patents older than the last of train", record["older"], note))
        lines.append(_line("patents without a date, treated as the oldest", record["undated"]))
    if not has_classes:
        lines.append("the tables have no classes: a positive is any cited patent, and there is no sibling")
    elif len(sections["names"]) <= MAX_SECTIONS:
        lines.append("of the anchors of train")
        for name, corpus, train in zip(*(sections[key] for key in ("names", "corpus", "train")), strict=True):
            lines.append(_line(f"  section {name}", f"{train:.1%}", f"of the corpus {corpus:.1%}"))
    lines.append(_line("patents to search", record["corpus"]))
    return "\n".join(lines)


def _line(label: str, count: int | str, note: str = "") -> str:
    number = count if isinstance(count, str) else f"{count:,}"
    return f"{label:46} {number:>12}" + (f"  ({note})" if note else "")
