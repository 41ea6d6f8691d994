"""The graph room without a server: configuration, retries, the import command, Ladybug, the neighbourhood."""

import re
import shlex
import shutil
import threading
import traceback
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import yaml
from matplotlib.colors import to_hex
from neo4j.exceptions import Neo4jError, ServiceUnavailable, TransientError

from patentcl.common.cli import InputError
from patentcl.common.files import read_json, write_json
from patentcl.common.resources import LEAST, Resources
from patentcl.figures.colours import SECTION_COLOURS
from patentcl.figures.style import FAINT
from patentcl.figures.triplet import neighbourhood_graph
from patentcl.graph import neo4j
from patentcl.graph.base import TooLarge, open_graph
from patentcl.graph.ladybug import LadybugGraph
from patentcl.graph.neighbourhood import Neighbourhood, browser_query, neighbourhood
from patentcl.graph.neo4j import Neo4jGraph
from patentcl.graph.neo4j_admin import import_command, import_offline
from patentcl.graph.options import Neo4jOptions
from patentcl.graph.parallel import in_parallel
from patentcl.tables.import_csvs import KINDS
from patentcl.tables.restructure import restructure
from patentcl.triplets.dataset import load_dataset

REPOSITORY = Path(__file__).resolve().parents[1]


HIDDEN = "secret-word"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The NEO4J_ variables of somebody who has set the password only."""
    for name in ("URI", "USERNAME", "DATABASE", "CA", "HOME"):
        monkeypatch.delenv(f"NEO4J_{name}", raising=False)
    monkeypatch.setenv("NEO4J_PASSWORD", HIDDEN)
    return monkeypatch


def server(**options: Any) -> Neo4jGraph:
    """The graph in a server that need not be there."""
    return Neo4jGraph(Path(), Resources(), Neo4jOptions("offline", **options))


def test_a_server_before_5_26_is_refused(environment: pytest.MonkeyPatch) -> None:
    graph, answer = server(), {"version": "4.4.30", "edition": "community"}
    result = SimpleNamespace(single=lambda strict: answer)
    environment.setattr(graph, "session", lambda access: nullcontext(SimpleNamespace(run=lambda query: result)))
    with pytest.raises(InputError, match=r"5\.26.*4\.4\.30"):
        graph.check_version()
    for version in ("5.26.30", "5.27-aura", "2025.10.1"):
        answer["version"] = version
        graph.check_version()


def test_the_environment_names_the_server(environment: pytest.MonkeyPatch) -> None:
    assert server().server == "Neo4j at bolt://localhost:7687, database neo4j"

    environment.setenv("NEO4J_DATABASE", "patents")
    assert server().database == "patents"
    assert server(database="other").database == "other"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NEO4J_URI", f"bolt://me:{HIDDEN}@host"),
        ("NEO4J_URI", f"bolt://neo4j:{HIDDEN}"),
        ("NEO4J_URI", "bolt://host:99999"),
        ("NEO4J_URI", "bolt://a..b:7687"),
        ("NEO4J_URI", "http://host"),
        ("NEO4J_CA", "nowhere.pem"),
        ("NEO4J_CA", __file__),
        ("NEO4J_PASSWORD", ""),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_and_secrets_are_not(
    name: str, value: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv(name, value)
    with pytest.raises(InputError, match=name) as problem:
        server()
    assert HIDDEN not in str(problem.value)


@pytest.mark.parametrize("database", ["--overwrite-destination", "system", "a b", "x"])
def test_a_database_name_is_safe_on_a_command_line(database: str, environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"--database '{database}'"):
        server(database=database)


def test_a_traceback_with_its_variables_does_not_show_the_password(environment: pytest.MonkeyPatch) -> None:
    connection = server()
    environment.setattr(connection, "session", lambda access: connection.nothing_of_the_kind)  # type: ignore[attr-defined]
    try:
        connection.run("RETURN 1")
    except AttributeError as problem:
        shown = "".join(traceback.TracebackException.from_exception(problem, capture_locals=True).format())
    connection.close()

    assert "nothing_of_the_kind" in shown and "self = <" in shown and HIDDEN not in shown


class Answers:
    """A session that raises or returns what it was given, one thing a query."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def __enter__(self) -> "Answers":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, query: str, parameters: object) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(keys=lambda: ("answer",), values=lambda: [[answer]])


def test_queries_are_repeated_while_the_server_is_unreachable(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setattr(neo4j, "RETRY_AFTER", 0)
    connection = server()
    answers = Answers(ServiceUnavailable("connection closed"), TransientError("busy"), "the answer")
    environment.setattr(connection, "session", lambda access: answers)

    assert connection.run("RETURN 1")["answer"].to_pylist() == ["the answer"]
    assert capsys.readouterr().out.count("connection closed") == 1

    answers.answers = [Neo4jError._hydrate_neo4j(code="Neo.ClientError.Statement.SyntaxError", message="not MATHC")]
    with pytest.raises(InputError, match="MATHC"):
        connection.run("MATHC")
    answers.answers = [ServiceUnavailable("connection closed")] * 999_999
    threading.Timer(0.2, connection.stop).start()
    with pytest.raises(KeyboardInterrupt):
        connection.run("RETURN 1")
    connection.close()


def test_bookmarks_of_a_database_that_was_replaced_are_dropped(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(neo4j, "RETRY_AFTER", 0)
    connection = server()
    connection._bookmarks.update_bookmarks((), ("of the old database",))
    code = "Neo.TransientError.Transaction.BookmarkTimeout"
    answers = Answers(Neo4jError._hydrate_neo4j(code=code, message="not up to date"), "the answer")
    environment.setattr(connection, "session", lambda access: answers)

    assert connection.run("RETURN 1")["answer"].to_pylist() == ["the answer"]
    assert not set(connection._bookmarks.get_bookmarks())
    connection.close()


def test_work_in_parallel_ends_cleanly_when_one_fails() -> None:
    begun: list[int] = []
    results: list[int] = []
    stopped = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise InputError("three")
        if item > 3:
            stopped.wait(5)
        return item

    with pytest.raises(InputError, match="three"):
        in_parallel(work, iter(range(1_000)), 2, results.append, stopped.set)
    assert stopped.is_set() and max(begun) <= 5 and set(results) <= {0, 1, 2, 4, 5}

    results.clear()
    in_parallel(lambda item: item * item, range(50), 3, results.append, stopped.set)
    assert sorted(results) == [n * n for n in range(50)]


@pytest.mark.parametrize(
    ("field", "value"), [("import_", "sideways"), ("sessions", -1), ("heap", "a lot"), ("off_heap", "4")]
)
def test_an_option_out_of_range_is_named_with_its_value(field: str, value: object) -> None:
    flag = field.strip("_").replace("_", "-")
    with pytest.raises(InputError, match=f"--{flag} {value}"):
        Neo4jOptions(**{field: value})  # type: ignore[arg-type]


def test_an_offline_import_without_neo4j_home_prints_the_command(
    mined_data: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("NEO4J_URI", "bolt://127.0.0.1:9")
    options = Neo4jOptions("offline", heap="3g")
    graph = open_graph("neo4j", mined_data, options=options)
    with pytest.raises(InputError, match="NEO4J_HOME") as problem:
        graph.import_csvs(mined_data / "graph")
    graph.close()
    assert import_command(mined_data / "graph", options) in str(problem.value)


@pytest.mark.parametrize(
    "tool", ["exec java-that-is-not-there", "echo 'class file version 61.0' >&2; exit 1"], ids=["none", "old"]
)
def test_an_offline_import_without_java_or_with_an_old_one_asks_for_it(
    tool: str, mined_data: Path, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("neo4j", "neo4j-admin"):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n{tool}\n')
        (tmp_path / "bin" / name).chmod(0o755)
    environment.setenv("NEO4J_HOME", str(tmp_path))

    with pytest.raises(InputError, match=r"\b17\b.*JAVA_HOME"):
        import_offline(mined_data / "graph", Neo4jOptions("offline"), False, lambda: False)
    assert (tmp_path / "calls").read_text() == "status\n", "nothing is stopped or imported"


def test_an_offline_import_that_does_not_fit_on_the_disk_of_the_server_does_not_begin(
    mined_data: Path, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    (tmp_path / "neo4j.conf").write_text("server.directories.data=elsewhere\n")
    environment.setenv("NEO4J_HOME", str(tmp_path))
    environment.setenv("NEO4J_CONF", str(tmp_path))
    asked: list[Path] = []

    def disk_usage(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(free=1_000)

    (tmp_path / "elsewhere").mkdir()
    environment.setattr(shutil, "disk_usage", disk_usage)
    with pytest.raises(InputError, match=r"server\.directories\.data"):
        import_offline(mined_data / "graph", Neo4jOptions("offline"), False, lambda: False)
    assert asked[0] == tmp_path / "elsewhere"


def test_a_csv_that_was_cut_is_written_again(tables: Path, tmp_path: Path) -> None:
    restructure(tables, tmp_path / "graph")
    citations = tmp_path / "graph" / "citations.csv"
    whole = citations.read_bytes()
    for cut in (whole[:-9], b""):
        citations.write_bytes(cut)
        restructure(tables, tmp_path / "graph")
        assert citations.read_bytes() == whole


def test_the_import_command_names_files_that_are_there_and_skips_nothing(mined_data: Path, tmp_path: Path) -> None:
    command = import_command(tmp_path / "a folder, with 'quotes'", Neo4jOptions(database="my-graph"))
    files = [word.strip(")").split("=")[-1] for word in shlex.split(command) if ".csv" in word]
    assert len(files) == 7 and all((mined_data / "graph" / file).is_file() for file in files)
    assert str(tmp_path / "a folder, with 'quotes'") in shlex.split(command)
    assert "my-graph" in shlex.split(command) and "--skip" not in command


def test_compose_imports_the_same_files_and_asks_for_the_password() -> None:
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    command = import_command(Path(), Neo4jOptions()).strip(")")
    files = [word for word in command.split() if ".csv" in word]
    assert [word for word in services["import"]["command"].split() if ".csv" in word] == files
    assert services["neo4j"]["image"].startswith("neo4j:5.26")
    assert "./data/graph:/import:ro" in services["neo4j"]["volumes"]
    assert re.fullmatch(r"neo4j/\$\{NEO4J_PASSWORD:\?.+\}", services["neo4j"]["environment"]["NEO4J_AUTH"])
    assert all(port.startswith("127.0.0.1:") for port in services["neo4j"]["ports"])


def test_a_neighbourhood_is_what_cites_and_is_cited(mined_data: Path) -> None:
    graph, csvs = open_graph("embedded", mined_data), mined_data / "graph"
    triplet = load_dataset(mined_data / "triplets" / "200").examples(1).iloc[0]
    around = neighbourhood(graph, csvs, triplet["anchor_id"], most=4)
    with pytest.raises(InputError, match="patent nobody"):
        neighbourhood(graph, csvs, "nobody")
    everything = neighbourhood(graph, csvs, triplet["anchor_id"], most=100)
    graph.close()

    assert triplet["positive_id"] in set(everything.patents.query("side == 'cited'")["patent_id"])
    assert around.patents.groupby("side").size().max() <= 4
    linked = set(around.citations[["citing", "cited"]].itertuples(index=False, name=None))
    for row in around.patents.itertuples():
        pair = (triplet["anchor_id"], row.patent_id)
        assert row.side == "anchor" or (pair if row.side == "cited" else pair[::-1]) in linked
    drawn = {text.get_text().split()[0] for text in neighbourhood_graph(around).axes[0].texts if text.get_text()}
    assert set(around.patents["patent_id"]) <= drawn


def test_a_class_of_a_custom_corpus_has_no_colour_of_a_cpc_section() -> None:
    sides, classes = ["citing", "anchor", "cited"], ["C02f", "H01L", "Heating"]
    patents = pd.DataFrame({"patent_id": list("123"), "title": "", "subclass": classes, "side": sides})
    figure = neighbourhood_graph(Neighbourhood(patents, pd.DataFrame(columns=["citing", "cited"]), {}))

    edges = [to_hex(bar.get_edgecolor()).upper() for bar in figure.axes[0].patches]
    assert edges == [FAINT.upper(), SECTION_COLOURS["H"], FAINT.upper()]


def test_the_browser_query_names_the_patents_shown_and_quotes_what_an_id_holds() -> None:
    patents = pd.DataFrame({"patent_id": ["10000000", 'x"] DETACH DELETE a //']})
    query = browser_query(Neighbourhood(patents, pd.DataFrame(), {}))
    assert query.startswith(r'WITH ["10000000", "x\"] DETACH DELETE a //"] AS shown MATCH')


def test_ids_and_classes_of_any_letters_are_imported(tmp_path: Path) -> None:
    corpus, plain = tmp_path / "corpus", range(600)  # unusual ids follow after the rows that a CSV reader samples
    corpus.mkdir()
    patents = [f"p{i},T{i},text {i}" for i in plain] + ["b,B,two", "c,C,three"]
    (corpus / "patents.csv").write_text("\n".join(["patent_id,title,abstract", *patents]))
    (corpus / "citations.csv").write_text('citing,cited\np0,p1\np0,"out\n2"\np1,"out\n2"\n')
    classes = [f"p{i},a" for i in plain] + ['b,"cl""ass"', 'c,"c,l"']
    (corpus / "classes.csv").write_text("\n".join(["patent_id,subclass", *classes]))
    restructure(corpus, tmp_path / "graph")
    graph = open_graph("embedded", tmp_path)
    graph.import_csvs(tmp_path / "graph")

    classes_of = graph.run("MATCH (c:CPCSubclass)-[:CLASSIFIES]->() RETURN c.symbol AS symbol, count(*) AS n", {})
    assert sorted(zip(*classes_of.to_pydict().values(), strict=True)) == [("a", 600), ("c,l", 1), ('cl"ass', 1)]
    assert graph.run("MATCH (o:OutsidePatent) RETURN o.patent_id AS id", {})["id"].to_pylist() == ["out\n2"]


def test_a_corrupt_line_is_not_taken_for_a_full_disk(tables: Path, tmp_path: Path) -> None:
    data = tmp_path / "bigdisk"
    restructure(tables, data / "graph")
    with (data / "graph" / "citations.csv").open("a") as file:
        file.write("1,x,true\n")
    with pytest.raises(InputError, match=r"citations\.csv .*--overwrite"):
        open_graph("embedded", data).import_csvs(data / "graph")


def test_an_import_that_needs_more_than_there_is_does_not_begin(mined_data: Path, tmp_path: Path) -> None:
    shutil.copytree(mined_data / "graph", tmp_path / "graph")
    record = read_json(tmp_path / "graph" / "graph.json")
    larger = {what: count * 30_000 for what, count in record["counts"].items()}
    write_json(tmp_path / "graph" / "graph.json", record | {"counts": larger})

    with pytest.raises(InputError, match=r"--memory \d+GB"):
        open_graph("embedded", tmp_path, Resources("1GB")).import_csvs(tmp_path / "graph")
    assert not (tmp_path / "ladybug").exists()


def test_the_complete_tables_are_imported_on_8_gb_of_memory() -> None:
    counts = dict.fromkeys((count for _, count in KINDS.values()), 0) | {"patents": 9_000_000, "citations": 96_000_000}
    assert LadybugGraph(Path()).import_memory(counts) <= LEAST


def test_after_a_query_that_is_too_large_the_next_one_is_answered(mined_data: Path) -> None:
    graph = open_graph("embedded", mined_data, Resources("1GB"))
    with pytest.raises(TooLarge, match="--memory") as problem:
        graph.run("MATCH (a:Patent), (b:Patent), (c:Patent) RETURN collect(a.rank + b.rank + c.rank) AS sums", {})
    assert "--overwrite" not in str(problem.value)
    assert graph.run("MATCH (a:Patent) WHERE a.rank < $n RETURN count(*) AS n", {"n": 7})["n"].to_pylist() == [7]
    graph.close()


def test_batches_are_smaller_where_memory_is_or_patents_cite_many() -> None:
    counts = {"patents": 9_000_000, "citations": 94_000_000}
    batch = LadybugGraph(Path(), Resources("8GB")).batch(counts)
    assert LadybugGraph(Path(), Resources("4GB")).batch(counts) < batch
    assert LadybugGraph(Path(), Resources("8GB")).batch(counts | {"citations": 9_000_000}) > batch
