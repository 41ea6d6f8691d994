"""A real Neo4j: the same CSVs, the same query, the same triplets, and what happens when things go wrong.

One server, from NEO4J_HOME, on a free port, with a random password and its state in a temporary folder.
"""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import duckdb
import papermill
import pytest

import patent_handler
from local_server import LocalServer, available, local_server
from patentcl.common.cli import InputError, Interrupted
from patentcl.common.files import read_json
from patentcl.common.resources import Resources
from patentcl.graph import neo4j_admin
from patentcl.graph.neo4j import Neo4jGraph
from patentcl.graph.options import Neo4jOptions
from patentcl.models.load import Model
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.search import neo4j as vectors_in_neo4j
from patentcl.search.options import Similar
from patentcl.search.similar import similar
from patentcl.tables.restructure import restructure
from patentcl.triplets.mine import mine, query_parameters, query_parts
from patentcl.triplets.options import Mining
from small_corpus import patents, write_corpus

REPOSITORY = Path(__file__).resolve().parents[1]
COUPLED = Mining("FULL", positives="coupled")  # which needs all parts of the query
HANDLER = REPOSITORY / "training_scripts" / "patent_handler.py"

pytestmark = pytest.mark.skipif(not available(), reason="NEO4J_HOME names no Neo4j server, or there is no Java")


def arguments(tables: Path, data: Path, *more: object) -> list[str]:
    return [str(word) for word in ("--tables", tables, "--data", data, "--graph", "neo4j", "--triplets", "FULL", *more)]


def handle(tables: Path, data: Path, *more: object) -> str:
    """Run patent_handler.py on the server; return what it prints, which never holds the password."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed):
            patent_handler.main(arguments(tables, data, *more))
    except InputError as problem:
        printed.write(str(problem))
        raise
    finally:
        assert not os.environ["NEO4J_PASSWORD"] or os.environ["NEO4J_PASSWORD"] not in printed.getvalue()
    return printed.getvalue()


def start_handler(tables: Path, data: Path, *more: object) -> subprocess.Popen[str]:
    """Start patent_handler.py in a subprocess, to be killed."""
    return subprocess.Popen(
        [sys.executable, HANDLER, *arguments(tables, data, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a script's background jobs ignore it
    )


def triplets(data: Path, name: str = "FULL") -> str:
    return hashlib.sha256((data / "triplets" / name / "triplets.parquet").read_bytes()).hexdigest()


def neo4j_graph(**options: Any) -> Neo4jGraph:
    return Neo4jGraph(Path(), Resources(), Neo4jOptions(**options))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A certificate authority, and a certificate for localhost that it signed."""
    folder = tmp_path_factory.mktemp("certificates")
    if shutil.which("openssl") is None:
        return None
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key -out authority.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -days 2 -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial "
        "-extfile names -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)  # noqa: S607
    return folder


@pytest.fixture(scope="module")
def server(certificates: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that was never started; it offers TLS where openssl could make certificates."""
    tls = [
        "server.bolt.tls_level=OPTIONAL",
        "dbms.ssl.policy.bolt.enabled=true",
        f"dbms.ssl.policy.bolt.base_directory={certificates}",
        "dbms.ssl.policy.bolt.private_key=server.key",
        "dbms.ssl.policy.bolt.public_certificate=server.crt",
        "dbms.ssl.policy.bolt.client_auth=NONE",
    ]
    with local_server(tmp_path_factory.mktemp("neo4j"), more="\n".join(tls) if certificates else "") as local:
        yield local


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Tables of 3,000 sample patents, and a data folder with the embedded graph's triplets of them."""
    folder = tmp_path_factory.mktemp("sample-3000")
    write_sample(folder / "tables", patents=3_000)
    tables_to_triplets(folder / "tables", folder / "data", "FULL", Mining("FULL"))
    return folder / "tables", folder / "data"


@pytest.fixture(scope="module")
def imported(server: LocalServer, sample: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of the sample whose triplets came from the server, after an offline import that was interrupted."""
    tables, data = sample[0], tmp_path_factory.mktemp("imported")
    running = start_handler(tables, data, "--import", "offline")
    assert running.stdout
    while "Importing the contents" not in running.stdout.readline():
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=60)
    assert running.returncode == 130 and "--overwrite" not in printed
    assert not neo4j_admin.is_running()

    printed = handle(tables, data, "--import", "offline", "--heap", "1g")
    assert 'HEAP_SIZE=1g "$NEO4J_HOME"/bin/neo4j-admin database import full neo4j' in printed
    assert "IMPORT DONE" in printed and "--skip" not in printed
    return data


def test_offline_import_gives_the_embedded_graphs_triplets(imported: Path, sample: tuple[Path, Path]) -> None:
    assert triplets(imported) == triplets(sample[1])


def operators(plan: dict[str, Any]) -> list[str]:
    """Operators of a plan with what they work on, one line each."""
    line = f"{plan['operatorType'].split('@')[0]} {plan['args'].get('Details', '')}"
    return [line, *(inner for child in plan.get("children", []) for inner in operators(child))]


@pytest.mark.parametrize("part", query_parts(COUPLED))
def test_a_batch_scans_no_patents_and_makes_no_cartesian_product(part: str, imported: Path) -> None:
    graph = neo4j_graph()
    parameters = query_parameters(read_json(imported / "graph" / "graph.json"), COUPLED) | {"lo": 1000, "hi": 1100}
    with graph.session("READ") as session:
        result = session.run("PROFILE " + query_parts(COUPLED)[part], parameters)
        rows = len(list(result))
        plan = operators(result.consume().profile or {})
    graph.close()

    assert 30 < rows <= 100
    assert not [line for line in plan if "Scan" in line.split()[0] or "CartesianProduct" in line]
    ranges = [line for line in plan if line.startswith("NodeUniqueIndexSeekByRange")]
    assert ranges and all("a:Patent(rank) WHERE rank >= $lo AND rank < $hi" in line for line in ranges)


def test_what_is_there_is_not_imported_again_and_other_tables_are_refused(
    imported: Path, sample: tuple[Path, Path], tables: Path, tmp_path: Path
) -> None:
    printed = handle(sample[0], imported, "--import", "offline")
    assert "IMPORT" not in printed and "indexes" in printed

    record = read_json(imported / "graph" / "graph.json")
    with pytest.raises(InputError, match=record["fingerprint"]):
        handle(tables, tmp_path)
    with pytest.raises(InputError, match="--replace"):
        handle(tables, tmp_path, "--import", "offline")
    with pytest.raises(InputError, match=f"{record['counts']['patents']:,} Patent"):
        handle(tables, tmp_path, "--import", "online")
    assert not (tmp_path / "triplets").exists()


def test_a_graph_that_is_replaced_while_it_is_mined_is_noticed(imported: Path) -> None:
    graph, fingerprint = neo4j_graph(), read_json(imported / "graph" / "graph.json")["fingerprint"]
    change = "MATCH (i:PatentCL) SET i.fingerprint = $fingerprint"
    graph.write(change, {"fingerprint": "of other tables"})
    with pytest.raises(InputError):
        mine(graph, imported, "replaced", Mining("100"))
    graph.write(change, {"fingerprint": fingerprint})
    graph.close()

    assert not (imported / "triplets" / "replaced").exists()
    assert not list((imported / "triplets").glob(".replaced.batches/*.parquet"))


@pytest.mark.parametrize("import_", ["none", "offline"])
@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("NEO4J_PASSWORD", "not-the-password", "NEO4J_PASSWORD"),
        ("NEO4J_DATABASE", "nowhere", "--database"),
        ("NEO4J_URI", "bolt://127.0.0.1:9", "NEO4J_URI"),
        ("NEO4J_URI", "bolt+s://127.0.0.1:{port}", "NEO4J_URI"),
    ],
)
def test_who_cannot_connect_replaces_nothing(
    name: str, value: str, named: str, import_: str, imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value.format(port=os.environ["NEO4J_URI"].split(":")[-1]))
    with pytest.raises(InputError, match=named) as problem:
        neo4j_graph(import_=import_).import_csvs(imported / "graph", overwrite=True)
    assert "not-the-password" not in str(problem.value)
    assert neo4j_admin.is_running()


def test_a_terminated_query_is_repeated(imported: Path) -> None:
    connection, rows = neo4j_graph(), []
    slow = "UNWIND range(1, 9000000) AS x WITH x WHERE x % 9000000 = 0 RETURN x AS terminated"
    running = threading.Thread(target=lambda: rows.extend(connection.run(slow)["terminated"].to_pylist()))
    running.start()
    others = """SHOW TRANSACTIONS YIELD transactionId AS id, currentQuery AS query
        WHERE query STARTS WITH 'UNWIND' RETURN id"""
    while not (ids := connection.run(others)["id"].to_pylist()):
        assert running.is_alive()
    connection.run("TERMINATE TRANSACTIONS $ids", {"ids": ids})
    running.join()
    connection.close()

    assert rows == [9_000_000]


def test_a_server_that_dies_while_mining_is_waited_for(
    imported: Path, server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, batches = neo4j_graph(sessions=2), imported / "triplets" / ".killed.batches"
    graph.batch = lambda counts: 50  # type: ignore[method-assign]

    def crash() -> None:
        while len(list(batches.glob("*.parquet"))) < 10:
            time.sleep(0.01)
        server.kill()
        server.start()

    crashing = threading.Thread(target=crash)
    crashing.start()
    mine(graph, imported, "killed", Mining("FULL"))
    crashing.join()
    graph.close()

    assert capsys.readouterr().out.count("retrying") == 1
    assert triplets(imported, "killed") == triplets(imported)


def test_an_offline_import_replaces_the_database_of_a_running_server(
    imported: Path, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, stopped = neo4j_admin.start, []

    def look_and_start(is_available: Callable[[], bool]) -> None:
        """What can be tried while the server is stopped: a check of the database, and another import."""
        stopped.append(
            neo4j_admin.run_tool("neo4j-admin", "database", "check", "neo4j", f"--report-path={server.folder}")
        )
        with pytest.raises(InputError, match="--replace"):
            neo4j_admin.import_offline(imported / "graph", Neo4jOptions("offline"), False, lambda: False)
        start(is_available)

    monkeypatch.setattr(neo4j_admin, "start", look_and_start)
    graph = neo4j_graph(import_="offline")
    graph.import_csvs(imported / "graph", overwrite=True)
    assert graph.holds(read_json(imported / "graph" / "graph.json")["fingerprint"])
    graph.close()
    assert stopped[0].returncode == 0 and "inconsistenc" not in stopped[0].stdout.lower()


def test_a_killed_miner_resumes(imported: Path, sample: tuple[Path, Path]) -> None:
    before = triplets(imported)
    miner = start_handler(sample[0], imported, "--overwrite", "--sessions", "2")
    batches = imported / "triplets" / ".FULL.batches"
    while not list(batches.glob("*.parquet")):
        assert miner.poll() is None
        time.sleep(0.005)
    miner.kill()
    miner.communicate()
    kept = len(list(batches.glob("*.parquet")))
    printed = handle(sample[0], imported, "--overwrite", "--sessions", "2")

    assert kept and f"answered: {kept}" in printed
    assert triplets(imported) == before


def test_online_import_of_real_patents_resumes_where_it_was_interrupted(
    imported: Path, water: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables_to_triplets(water, tmp_path / "embedded", "FULL", Mining("FULL"))
    restructure(water, tmp_path / "graph")
    graph, write, written = neo4j_graph(import_="online", sessions=2), Neo4jGraph.write, []

    def dying(connection: Neo4jGraph, query: str, parameters: dict[str, Any] | None = None) -> int:
        written.append(query)
        if sum("PatentCLBatch {" in query for query in written) > 3:
            raise KeyboardInterrupt
        return write(connection, query, parameters)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Neo4jGraph, "write", dying)
        graph.import_csvs(tmp_path / "graph", overwrite=True)
    graph.close()
    with pytest.raises(InputError, match="--import online"):
        tables_to_triplets(water, tmp_path, "FULL", Mining("FULL"), neo4j_graph())

    printed = handle(water, tmp_path, "--import", "online", "--replace")  # which replaces another graph only

    assert "written: 3" in printed
    assert triplets(tmp_path) == triplets(tmp_path / "embedded")
    compare_with_the_csvs(tmp_path / "graph")


def test_a_corpus_without_classes_gives_the_embedded_graphs_triplets(
    imported: Path, custom_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    patents = [(f"p{i}", f"Title {i}", f"Abstract number {i}.") for i in range(90)]
    corpus = custom_corpus(patents, [(f"p{i}", f"p{i - step}") for step in (2, 5) for i in range(step, 90)], [])
    (corpus / "classes.csv").unlink()
    tables_to_triplets(corpus, tmp_path / "embedded", "FULL", Mining("FULL"))

    printed = handle(corpus, tmp_path / "server", "--import", "online", "--replace")

    assert "citation" in printed
    assert triplets(tmp_path / "server") == triplets(tmp_path / "embedded")


def compare_with_the_csvs(csvs: Path) -> None:
    """The server holds the links and properties of the CSVs."""
    connection = neo4j_graph()
    with duckdb.connect() as db:
        read = "FROM read_csv('{}', header = true, quote = '\"', escape = '\"', nullstr = '\x01', {})"
        header = db.execute(
            "SELECT * " + read.format(csvs / "patents.csv", "all_varchar = true") + " LIMIT 0"
        ).description
        columns = {column[0]: column[0].split(":")[0] for column in header or []}
        properties = ", ".join(
            f"reduce(s = '', x IN coalesce(p.{name}, []) | s + CASE WHEN s = '' THEN '' ELSE ';' END + x)"
            if "[]" in column
            else f"toString(p.{name})"
            for column, name in columns.items()
        )
        patents = connection.run(f"MATCH (p:Patent) RETURN [{properties}] AS patent")["patent"].to_pylist()
        expected = db.execute("SELECT * " + read.format(csvs / "patents.csv", "all_varchar = true")).fetchall()
        assert sorted(map(tuple, patents)) == sorted(expected)
        for file, query in {
            "citations.csv": "MATCH (a:Patent)-[r:CITES]->(b:Patent) RETURN a.rank AS a, b.rank AS b, r.examiner AS c",
            "outside_citations.csv": "MATCH (a)-[:CITES_OUTSIDE]->(b:OutsidePatent) RETURN a.rank AS a, b.number AS b",
            "classifications.csv": "MATCH (a:CPCSubclass)-[:CLASSIFIES]->(b:Patent) RETURN a.symbol AS a, b.rank AS b",
        }.items():
            links = connection.run(query)
            rows = db.execute("SELECT * " + read.format(csvs / file, "auto_detect = true")).fetchall()
            assert sorted(zip(*(column.to_pylist() for column in links.columns), strict=True)) == sorted(rows)
    assert connection.run("MATCH (b:PatentCLBatch) RETURN count(b) AS left")["left"].to_pylist() == [0]
    connection.close()


def test_nodes_and_constraints_of_the_user_are_kept(imported: Path, sample: tuple[Path, Path], tmp_path: Path) -> None:
    graph = neo4j_graph()
    for query in (
        "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS",
        "CREATE (:CPCSubclass {symbol: 'A01B', mine: 1}), (:Thing {x: 1})",
        "DROP INDEX patent_id IF EXISTS",
        "CREATE CONSTRAINT patent_id FOR (t:Thing) REQUIRE t.x IS UNIQUE",
    ):
        graph.write(query)

    with pytest.raises(InputError, match="--import online"):
        handle(sample[0], imported)
    with pytest.raises(InputError, match=r"1 CPCSubclass.*--replace"):
        handle(sample[0], imported, "--import", "online")

    graph.write("MATCH (c:CPCSubclass) DELETE c")
    handle(sample[0], imported, "--import", "online", "--positives", "coupled", "--split", "time", "--overwrite")
    tables_to_triplets(sample[0], tmp_path, "FULL", Mining("FULL", positives="coupled", split="time"))
    assert triplets(imported) == triplets(tmp_path)
    indexes = graph.run("SHOW INDEXES YIELD labelsOrTypes, properties WHERE size(properties) = 1")
    keys = {(labels[0], properties[0]) for labels, properties in zip(*indexes.to_pydict().values(), strict=True)}
    ours = {("Patent", "rank"), ("Patent", "patent_id"), ("CPCSubclass", "symbol"), ("OutsidePatent", "number")}
    assert keys == ours | {("Thing", "x")}
    assert graph.run("MATCH (t:Thing) RETURN t.x AS x")["x"].to_pylist() == [1]
    graph.close()


def test_an_import_that_another_one_replaced_stops(
    tables: Path, imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restructure(tables, tmp_path / "graph", seed=7)
    graph, write = neo4j_graph(import_="online", sessions=1), Neo4jGraph.write

    def overtaken(connection: Neo4jGraph, query: str, parameters: dict[str, Any] | None = None) -> int:
        if "Patent {rank: row.rank}" in query:  # another import begins by deleting the fingerprint
            write(connection, "MATCH (i:PatentCL) DELETE i")
        return write(connection, query, parameters)

    monkeypatch.setattr(Neo4jGraph, "write", overtaken)
    with pytest.raises(InputError, match=r"patents\.csv"):
        graph.import_csvs(tmp_path / "graph", overwrite=True)
    graph.close()


def test_the_notebook_runs_on_the_server_and_keeps_the_password(
    tables: Path, imported: Path, server: LocalServer, tmp_path: Path
) -> None:
    papermill.execute_notebook(
        REPOSITORY / "patent_handler.ipynb",
        tmp_path / "handler.ipynb",
        cwd=REPOSITORY,
        progress_bar=False,
        parameters={
            "tables": str(tables),
            "data": str(tmp_path),
            "triplets": 100,
            "graph": "neo4j",
            "import_": "online",
            "overwrite": True,
        },
    )

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    password = os.environ["NEO4J_PASSWORD"].encode()
    assert not [path for path in written if password in path.read_bytes()]
    logs = list(server.folder.rglob("*.log"))
    assert logs and not [path for path in logs if password in path.read_bytes()]


def test_similar_patents_are_found_with_their_citations(
    server: LocalServer, small_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not server.is_available():
        server.start()
    data = write_corpus(tmp_path, patents())
    options = Similar(str(small_model.folder), patent=["7000020"], data=data, top=58, write_to_neo4j=True)
    graph, write = neo4j_graph(import_="online", replace=True), Neo4jGraph.write
    with pytest.raises(InputError):  # another graph
        similar(options)
    graph.import_csvs(data / "graph")

    def dying(connection: Neo4jGraph, query: str, parameters: dict[str, Any] | None = None) -> int:
        if (parameters or {}).get("written") == 50:
            raise KeyboardInterrupt
        return write(connection, query, parameters)

    monkeypatch.setattr(vectors_in_neo4j, "BATCH", 25)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Neo4jGraph, "write", dying)
        similar(options)
    assert graph.run("MATCH (p:Patent) RETURN count(p.embedding) AS n")["n"].to_pylist() == [25]
    found = similar(options)
    state = graph.run("MATCH (i:PatentCL) RETURN i.vectors_written AS n, i.vectors AS model").to_pylist()
    assert state == [{"n": 60, "model": small_model.fingerprint}]

    query = vectors_in_neo4j.similar_query(graph.version)
    near = graph.run(query, {"patent_id": "7000020", "count": 6}).to_pandas()
    exact = found.set_index("patent_id")["score"]
    assert near["patent_id"][0] == "7000020" and near["score"][0] == pytest.approx(1, abs=0.02)
    assert near["score"].tolist()[1:] == pytest.approx(exact[near["patent_id"][1:]].tolist(), abs=0.02)
    assert exact[near["patent_id"][5]] > exact.iloc[9]  # the server's index quantises
    assert (near["cites"][0].tolist(), near["cited_by"][0].tolist()) == (["7000017"], ["7000023"])

    graph.write("MATCH (i:PatentCL) SET i.vectors = 'of another model'")
    with pytest.raises(InputError, match="--overwrite"):
        similar(options)
    graph.close()


def test_tls_with_a_private_authority(
    imported: Path, certificates: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if certificates is None:
        pytest.skip("openssl makes the certificates")
    address = os.environ["NEO4J_URI"].replace("bolt://127.0.0.1", "//localhost")
    monkeypatch.setenv("NEO4J_CA", str(certificates / "authority.crt"))
    for scheme in ("bolt+s:", "neo4j+s:"):
        monkeypatch.setenv("NEO4J_URI", scheme + address)
        graph = neo4j_graph()
        assert graph.run("RETURN 1 AS one", {})["one"].to_pylist() == [1]
        graph.close()
    monkeypatch.delenv("NEO4J_CA")
    with pytest.raises(InputError, match="NEO4J_CA"):
        neo4j_graph()
