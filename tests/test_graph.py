"""What can be said of Neo4j without a server: addresses, versions, the import command, the neighbourhood."""

import re
import shlex
import threading
import traceback
from pathlib import Path

import pandas as pd
import pytest
import yaml
from neo4j.exceptions import ClientError, IncompleteCommit, ServiceUnavailable, TransientError

from patentcl.common.cli import InputError
from patentcl.figures.scatter import neighbourhood_graph
from patentcl.graph.base import Neo4jOptions, open_graph
from patentcl.graph.neighbourhood import Neighbourhood, browser_query, neighbourhood
from patentcl.graph.neo4j import Neo4jGraph, Server, refuse_old
from patentcl.graph.neo4j_admin import import_arguments, import_command
from patentcl.graph.parallel import in_parallel
from patentcl.tables.restructure import restructure
from patentcl.triplets.dataset import load_dataset

REPOSITORY = Path(__file__).resolve().parents[1]


def test_an_old_server_is_refused_and_newer_ones_are_not() -> None:
    server = Server("bolt://old", "neo4j", "secret-word", "neo4j")
    with pytest.raises(InputError, match=r"is Neo4j 4\.4\.30, and at least 5\.26 is needed"):
        refuse_old("4.4.30", server)
    for version in ("5.26.30", "5.27-aura", "2025.10.1"):
        refuse_old(version, server)
    assert "secret-word" not in repr(server) + str(server)


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URI", "USERNAME", "DATABASE", "CA"):
        monkeypatch.delenv(f"NEO4J_{name}", raising=False)
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    assert str(Server.from_environment()) == "Neo4j at bolt://localhost:7687, database neo4j"
    assert Server.from_environment("other").database == "other"

    for uri, sentence in [
        ("bolt://me:secret-word@host", "holds a name or a password"),
        ("http://host", "write it like"),
        ("bolt://host:abc", "no proper host"),
        ("bolt://host:99999", "no proper host"),
        ("bolt://neo4j:secret-word", "no proper host"),
        ("bolt://a..b:7687", "no proper host"),
    ]:
        monkeypatch.setenv("NEO4J_URI", uri)
        with pytest.raises(InputError, match=sentence) as problem:
            Server.from_environment()
        assert "secret-word" not in str(problem.value)
    monkeypatch.setenv("NEO4J_URI", "bolt://host")
    for database in ("--overwrite-destination", "system", "a b", "x"):  # it stands in neo4j-admin's command line
        with pytest.raises(InputError, match="is no name of a database for patents"):
            Server.from_environment(database)
    monkeypatch.setenv("NEO4J_USERNAME", "\udcff")
    with pytest.raises(InputError, match="NEO4J_USERNAME holds a letter that cannot be printed"):
        Server.from_environment()
    monkeypatch.delenv("NEO4J_USERNAME")
    monkeypatch.setenv("NEO4J_CA", __file__)
    with pytest.raises(InputError, match="holds no certificate"):
        Server.from_environment()
    monkeypatch.delenv("NEO4J_CA")
    monkeypatch.delenv("NEO4J_PASSWORD")
    monkeypatch.delenv("NEO4J_URI")
    with pytest.raises(InputError, match="NEO4J_PASSWORD is not set"):
        Server.from_environment()


def test_a_traceback_with_its_variables_does_not_show_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    graph = Neo4jGraph(Server.from_environment(), Neo4jOptions(way="offline"))
    try:
        graph.patiently(lambda: graph.nothing_of_the_kind)  # type: ignore[attr-defined]
    except AttributeError as problem:
        shown = "".join(traceback.TracebackException.from_exception(problem, capture_locals=True).format())
    graph.close()

    assert "nothing_of_the_kind" in shown and "graph = <" in shown and "secret-word" not in shown


def test_a_transient_error_is_tried_again_and_others_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    graph = Neo4jGraph(Server.from_environment(), Neo4jOptions(way="offline"))
    away = "Connection closed IPv4Address(('127.0.0.1', 7687)) (ResolvedIPv4Address(('127.0.0.1', 7687)))"
    answers = [ServiceUnavailable(away), TransientError("busy"), IncompleteCommit("lost"), "the answer"]

    def work() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    assert graph.patiently(work) == "the answer"
    said = capsys.readouterr().out
    assert said.count("does not answer (Connection closed 127.0.0.1:7687): waiting") == said.count("is back after") == 1

    answers = [ClientError("Invalid input 'MATHC'")]
    with pytest.raises(InputError, match="refused a query"):
        graph.patiently(work)
    answers = [ServiceUnavailable("Connection closed")] * 9
    threading.Timer(0.2, graph.stop).start()
    with pytest.raises(KeyboardInterrupt):
        graph.patiently(work)
    graph.close()


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
    ("options", "says"),
    [(Neo4jOptions(way="sideways"), "no way to import"), (Neo4jOptions(sessions=-1), "--sessions -1 must be")],
)
def test_bad_options_are_refused(
    options: Neo4jOptions, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    with pytest.raises(InputError, match=says):
        open_graph("neo4j", tmp_path, options=options)


def test_an_offline_import_without_neo4j_home_tells_the_command(road: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEO4J_HOME", raising=False)
    monkeypatch.setenv("NEO4J_PASSWORD", "secret-word")
    monkeypatch.setenv("NEO4J_URI", "bolt://127.0.0.1:9")
    graph = open_graph("neo4j", road, options=Neo4jOptions(way="offline", heap="3g"))
    with pytest.raises(InputError, match="NEO4J_HOME is not set") as problem:
        graph.import_csvs(road / "graph")
    graph.close()
    assert import_command(road / "graph", heap="3g") in str(problem.value)


def test_a_csv_that_was_cut_and_a_result_that_was_emptied_are_noticed(tables: Path, tmp_path: Path) -> None:
    restructure(tables, tmp_path / "graph")
    citations = tmp_path / "graph" / "citations.csv"
    lines = citations.read_text().splitlines(keepends=True)
    citations.write_text("".join(lines[:-1]))
    graph = open_graph("embedded", tmp_path)
    with pytest.raises(InputError, match=f"hold {len(lines) - 2:,} citations instead of {len(lines) - 1:,}"):
        graph.import_csvs(tmp_path / "graph")
    assert not (tmp_path / "ladybug").exists()

    citations.write_text("")
    restructure(tables, tmp_path / "graph")
    assert len(citations.read_text().splitlines()) == len(lines)


def test_the_import_command_names_files_that_are_there_and_skips_nothing(road: Path, tmp_path: Path) -> None:
    files = [argument.split("=")[-1] for argument in import_arguments("neo4j", "4g") if ".csv" in argument]
    assert len(files) == 7 and all((road / "graph" / file).is_file() for file in files)
    command = import_command(tmp_path / "a folder, with 'quotes'", "my-graph")
    assert str(tmp_path / "a folder, with 'quotes'") in shlex.split(command)
    assert "my-graph" in shlex.split(command) and "--skip" not in command


def test_compose_imports_the_same_files_and_asks_for_the_password() -> None:
    services = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
    files = [argument for argument in import_arguments("neo4j", "4g") if ".csv" in argument]
    assert [word for word in services["import"]["command"].split() if ".csv" in word] == files
    assert services["neo4j"]["image"].startswith("neo4j:5.26")
    assert "./data/graph:/import:ro" in services["neo4j"]["volumes"]
    assert re.fullmatch(r"neo4j/\$\{NEO4J_PASSWORD:\?.+\}", services["neo4j"]["environment"]["NEO4J_AUTH"])
    assert all(port.startswith("127.0.0.1:") for port in services["neo4j"]["ports"])


def test_a_neighbourhood_is_what_cites_and_is_cited(road: Path) -> None:
    graph = open_graph("embedded", road)
    triplet = load_dataset(road / "triplets" / "200").triplets.iloc[0]
    around = neighbourhood(graph, triplet["anchor_id"], most=4)
    with pytest.raises(InputError, match="has no patent nobody"):
        neighbourhood(graph, "nobody")
    everything = neighbourhood(graph, triplet["anchor_id"], most=100)
    graph.close()

    assert triplet["positive_id"] in set(everything.patents.query("side == 'cited'")["patent_id"])
    assert around.patents.groupby("side").size().max() <= 4
    linked = set(around.citations[["citing", "cited"]].itertuples(index=False, name=None))
    for row in around.patents.itertuples():
        pair = (triplet["anchor_id"], row.patent_id)
        assert row.side == "anchor" or (pair if row.side == "cited" else pair[::-1]) in linked
    drawn = {text.get_text().split()[0] for text in neighbourhood_graph(around).axes[0].texts if text.get_text()}
    assert set(around.patents["patent_id"]) <= drawn


def test_the_browser_query_names_the_patents_shown_and_quotes_what_an_id_holds() -> None:
    patents = pd.DataFrame({"patent_id": ["10000000", 'x"] DETACH DELETE a //']})
    query = browser_query(Neighbourhood(patents, pd.DataFrame(), {}))
    assert query.startswith(r'WITH ["10000000", "x\"] DETACH DELETE a //"] AS shown MATCH')


def test_ids_and_classes_of_any_letters_are_imported(tmp_path: Path) -> None:
    own, plain = tmp_path / "own", range(600)  # so many that what is odd comes after the rows that a reader looks at
    own.mkdir()
    patents = [f"p{i},T{i},text {i}" for i in plain] + ["b,B,two", "c,C,three"]
    (own / "patents.csv").write_text("\n".join(["patent_id,title,abstract", *patents]))
    (own / "citations.csv").write_text('citing,cited\np0,p1\np0,"out\n2"\np1,"out\n2"\n')
    classes = [f"p{i},a" for i in plain] + ['b,"cl""ass"', 'c,"c,l"']
    (own / "classes.csv").write_text("\n".join(["patent_id,subclass", *classes]))
    restructure(own, tmp_path / "graph")
    graph = open_graph("embedded", tmp_path)
    graph.import_csvs(tmp_path / "graph")

    found = graph.run("MATCH (c:CPCSubclass)-[:CLASSIFIES]->() RETURN c.symbol AS symbol, count(*) AS n", {})
    assert sorted(zip(*found.to_pydict().values(), strict=True)) == [("a", 600), ("c,l", 1), ('cl"ass', 1)]
    assert graph.run("MATCH (o:OutsidePatent) RETURN o.patent_id AS id", {})["id"].to_pylist() == ["out\n2"]


@pytest.mark.parametrize("memory", [".GB", "1.2.3GB", "a lot"])
def test_an_amount_of_memory_is_a_number(memory: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no amount of memory"):
        open_graph("embedded", tmp_path, memory)
