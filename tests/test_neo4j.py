"""A real Neo4j: the same CSVs, the same query, the same triplets, and what happens when things go wrong.

The server runs from NEO4J_HOME on a free port, with a random password and its state in a temporary folder.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import papermill
import pytest

from patentcl.common.cli import InputError, Interrupted
from patentcl.common.files import read_json
from patentcl.graph.base import open_graph
from patentcl.graph.local_server import LocalServer, local_server
from patentcl.graph.neo4j import Neo4jGraph, Neo4jOptions, Server
from patentcl.graph.neo4j_admin import available, is_running, run_tool
from patentcl.pipeline import tables_to_triplets
from patentcl.sample.write import write_sample
from patentcl.tables.restructure import restructure
from patentcl.triplets.mine import mine, query_parameters, query_parts
from patentcl.triplets.options import Mining

REPOSITORY = Path(__file__).resolve().parents[1]
COUPLED = Mining("FULL", positives="coupled")  # which needs all parts of the query
HANDLER = REPOSITORY / "training_scripts" / "patent_handler.py"

pytestmark = pytest.mark.skipif(not available(), reason="NEO4J_HOME names no Neo4j server, or there is no Java")


def handle(tables: Path, data: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run patent_handler.py on the server, and make sure that it keeps the password to itself."""
    command = [sys.executable, HANDLER, "--tables", tables, "--data", data, "--graph", "neo4j", *arguments]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=600, env={**os.environ, **environment}
    )
    assert os.environ["NEO4J_PASSWORD"] not in done.stdout + done.stderr
    return done


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a failed run, which is the last line."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def triplets(data: Path, name: str = "FULL") -> str:
    return hashlib.sha256((data / "triplets" / name / "triplets.parquet").read_bytes()).hexdigest()


def neo4j_graph(**options: Any) -> Neo4jGraph:
    return Neo4jGraph(Server.from_environment(), Neo4jOptions(**options))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that runs, its database empty."""
    with local_server(tmp_path_factory.mktemp("neo4j")) as local:
        local.start()
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
    """A data folder of the sample whose triplets came from the server, after an offline import."""
    tables, data = sample[0], tmp_path_factory.mktemp("imported")
    assert "is empty: import these CSVs" in said(handle(tables, data))
    assert "needs it stopped" in said(handle(tables, data, "--import", "offline"))
    interrupt_an_offline_import(tables, data)
    done = handle(tables, data, "--import", "offline", "--overwrite", "--triplets", "FULL", "--heap", "1g")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "IMPORT DONE" in done.stdout and "--skip" not in done.stdout
    assert "indexes: Patent(rank), CPCSubclass(symbol), OutsidePatent(number), Patent(patent_id) ready" in done.stdout
    assert 'HEAP_SIZE=1g "$NEO4J_HOME"/bin/neo4j-admin database import full neo4j' in done.stdout
    return data


def interrupt_an_offline_import(tables: Path, data: Path) -> None:
    """Ctrl-C in the middle of neo4j-admin ends it, and the sentence says how to go on."""
    command = [sys.executable, HANDLER, "--tables", tables, "--data", data, "--graph", "neo4j", "--import", "offline",
               "--overwrite"]  # fmt: skip
    running = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a script's background jobs ignore it
    )  # fmt: skip
    assert running.stdout
    for line in running.stdout:
        if "neo4j-admin database import full" in line:
            break
    time.sleep(2)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=60)
    assert running.returncode == 130 and "start again with --overwrite" in told.splitlines()[-1]
    assert not is_running()


def test_offline_import_gives_the_embedded_graphs_triplets(imported: Path, sample: tuple[Path, Path]) -> None:
    assert triplets(imported) == triplets(sample[1])


def test_the_database_check_finds_nothing(imported: Path, server: LocalServer) -> None:
    server.stop()
    checked = run_tool("neo4j-admin", "database", "check", "neo4j", f"--report-path={server.folder}")
    server.start()

    assert checked.returncode == 0, checked.stderr
    assert "inconsistenc" not in checked.stdout.lower()


def operators(plan: dict[str, Any]) -> list[str]:
    """Operators of a plan with what they work on, one line each."""
    line = f"{plan['operatorType'].split('@')[0]} {plan['args'].get('Details', '')}"
    return [line, *(inner for child in plan.get("children", []) for inner in operators(child))]


def assert_a_batch_scans_no_patents_and_makes_no_cartesian_product(part: str, data: Path) -> None:
    graph = neo4j_graph()
    parameters = query_parameters(read_json(data / "graph" / "graph.json"), COUPLED) | {"lo": 1000, "hi": 1100}
    with graph.session("READ") as session:
        result = session.run("PROFILE " + query_parts(COUPLED)[part], parameters)
        rows = len(list(result))
        plan = operators(result.consume().profile or {})
    graph.close()

    assert 40 < rows <= 100
    assert not [line for line in plan if "Scan" in line.split()[0] or "CartesianProduct" in line]
    ranges = [line for line in plan if line.startswith("NodeUniqueIndexSeekByRange")]
    assert ranges and all("a:Patent(rank) WHERE rank >= $lo AND rank < $hi" in line for line in ranges)


@pytest.mark.parametrize("part", query_parts(COUPLED))
def test_the_plan_of_each_part_of_the_query(part: str, imported: Path) -> None:
    assert_a_batch_scans_no_patents_and_makes_no_cartesian_product(part, imported)


def test_what_is_there_is_not_imported_again_and_other_tables_are_refused(
    imported: Path, sample: tuple[Path, Path], tables: Path, tmp_path: Path
) -> None:
    again = handle(sample[0], imported, "--import", "offline", "--triplets", "FULL")
    assert again.returncode == 0 and "IMPORT" not in again.stdout and "is up to date" in again.stdout

    assert "holds the graph of other tables" in said(handle(tables, tmp_path))
    assert "needs it stopped" in said(handle(tables, tmp_path, "--import", "offline"))
    assert "holds nodes of other tables (" in said(handle(tables, tmp_path, "--import", "online"))
    assert not (tmp_path / "triplets").exists()


def test_a_graph_that_is_replaced_while_it_is_mined_is_noticed(imported: Path) -> None:
    graph, fingerprint = neo4j_graph(), read_json(imported / "graph" / "graph.json")["fingerprint"]
    change = "MATCH (i:PatentCL) SET i.fingerprint = $fingerprint"
    graph.write(change, {"fingerprint": "of other tables"})
    with pytest.raises(InputError, match="was replaced by another process"):
        mine(graph, imported, "replaced", Mining("100"))
    graph.write(change, {"fingerprint": fingerprint})
    graph.close()

    assert not (imported / "triplets" / "replaced").exists()
    assert not list((imported / "triplets").glob(".replaced.batches/*.parquet"))


def test_who_cannot_be_let_in_reads_one_sentence(imported: Path, sample: tuple[Path, Path]) -> None:
    before = triplets(imported)
    for environment, sentence in [
        ({"NEO4J_PASSWORD": "not-the-password"}, "refuses neo4j"),
        ({"NEO4J_DATABASE": "nowhere"}, "there is no such database"),
        ({"NEO4J_DATABASE": "--overwrite-destination"}, "is no name of a database"),
        ({"NEO4J_URI": "bolt://127.0.0.1:9"}, "Connection refused)): start it"),
        ({"NEO4J_URI": "http://127.0.0.1:9"}, "cannot be used"),
        ({"NEO4J_URI": "bolt://me:secret-word@127.0.0.1:9"}, "holds a name or a password"),
        ({"NEO4J_URI": "bolt+s://" + os.environ["NEO4J_URI"].split("//")[1]}, "set NEO4J_CA"),
        ({"NEO4J_CA": "nowhere.pem"}, "which is no file"),
        ({"NEO4J_PASSWORD": ""}, "NEO4J_PASSWORD is not set"),
    ]:
        offline = handle(sample[0], imported, "--import", "offline", "--triplets", "FULL", "--overwrite", **environment)
        assert offline.returncode == 2 and "IMPORT" not in offline.stdout and "stopping" not in offline.stdout
        done = handle(sample[0], imported, "--triplets", "FULL", "--overwrite", **environment)
        assert sentence in said(done)
        assert "not-the-password" not in done.stderr and "secret-word" not in done.stderr
    assert triplets(imported) == before


def test_a_server_that_dies_while_mining_is_waited_for(
    imported: Path, server: LocalServer, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, batches = neo4j_graph(sessions=2), imported / "triplets" / ".killed.batches"
    graph.batch = 50

    def crash() -> None:
        while len(list(batches.glob("*.parquet"))) < 20:
            time.sleep(0.01)
        server.kill()
        time.sleep(2)
        server.start()

    crashing = threading.Thread(target=crash)
    crashing.start()
    mine(graph, imported, "killed", Mining("FULL"))
    crashing.join()
    graph.close()

    printed = capsys.readouterr().out
    assert printed.count("does not answer") == printed.count("is back after") == 1
    assert triplets(imported, "killed") == triplets(imported)


def test_online_import_of_real_patents_goes_on_where_it_stopped(
    imported: Path, server: LocalServer, water: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tables_to_triplets(water, tmp_path / "embedded", "FULL", Mining("FULL"))
    restructure(water, tmp_path / "graph")
    graph, write, written = neo4j_graph(way="online", sessions=2), Neo4jGraph.write, 0

    def dying(graph: Neo4jGraph, query: str, parameters: dict[str, Any]) -> int:
        nonlocal written
        written += 1
        if written > 4:
            raise KeyboardInterrupt
        return write(graph, query, parameters)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="batches that were written are kept"):
        patch.setattr(Neo4jGraph, "write", dying)
        graph.import_csvs(tmp_path / "graph", overwrite=True)
    graph.close()
    with pytest.raises(InputError, match="holds an import that was not finished"):
        tables_to_triplets(water, tmp_path, "FULL", Mining("FULL"), neo4j_graph())

    done = handle(water, tmp_path, "--import", "online", "--triplets", "FULL")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after" in done.stdout
    assert triplets(tmp_path) == triplets(tmp_path / "embedded")
    compare_with_the_csvs(tmp_path / "graph")


def compare_with_the_csvs(csvs: Path) -> None:
    """What the server holds is what the CSVs say, links and properties alike."""
    graph = neo4j_graph()
    patents = graph.run(
        """MATCH (p:Patent) RETURN p.rank AS rank, p.patent_id AS patent_id, p.title AS title, p.abstract AS abstract,
           p.date AS date, p.subclass AS subclass, p.family AS family, p.place AS place,
           p.time_place AS time_place, p.bucket AS bucket, p.cited_by AS cited_by,
           p.has_abstract AS has_abstract,
           reduce(s = '', x IN coalesce(p.subclasses, []) | s + CASE WHEN s = '' THEN '' ELSE ';' END + x) AS classes
           ORDER BY rank""",
        {},
    )
    links = {
        "citations.csv": "MATCH (a:Patent)-[r:CITES]->(b:Patent) RETURN a.rank AS a, b.rank AS b, r.category AS c",
        "outside_citations.csv": "MATCH (a)-[r:CITES_OUTSIDE]->(b:OutsidePatent) RETURN a.rank AS a, b.number AS b",
        "classifications.csv": "MATCH (a:CPCSubclass)-[:CLASSIFIES]->(b:Patent) RETURN a.symbol AS a, b.rank AS b",
    }
    with duckdb.connect() as db:
        read = "FROM read_csv('{}', header = true, quote = '\"', escape = '\"', nullstr = '\x01', {})"
        expected = db.execute(
            """SELECT "rank:ID(Patent){id-type:long}"::BIGINT, patent_id, title, abstract, date, subclass,
               "family:long"::BIGINT, "place:long"::BIGINT, "time_place:long"::BIGINT, "bucket:long"::BIGINT,
               "cited_by:long"::BIGINT,
               "has_abstract:boolean"::BOOLEAN, "subclasses:string[]" """
            + read.format(csvs / "patents.csv", "all_varchar = true")
        ).fetchall()
        assert sorted(zip(*(column.to_pylist() for column in patents.columns), strict=True)) == sorted(expected)
        for file, query in links.items():
            found = graph.run(query, {})
            rows = db.execute("SELECT * " + read.format(csvs / file, "auto_detect = true")).fetchall()
            assert sorted(zip(*(column.to_pylist() for column in found.columns), strict=True)) == sorted(rows)
    left = graph.run("MATCH (b:PatentCLBatch) RETURN count(b) AS left", {})["left"][0].as_py()
    graph.close()
    assert left == 0


def test_a_hundred_thousand_patents_with_a_miner_that_is_killed(server: LocalServer, tmp_path: Path) -> None:
    write_sample(tmp_path / "tables", patents=100_000)
    tables_to_triplets(tmp_path / "tables", tmp_path / "embedded", "100K", Mining("100K"))
    restructure(tmp_path / "tables", tmp_path / "data" / "graph")
    graph = neo4j_graph(way="offline")
    graph.import_csvs(tmp_path / "data" / "graph", overwrite=True)
    graph.close()

    command = [sys.executable, HANDLER, "--tables", tmp_path / "tables", "--data", tmp_path / "data",
               "--graph", "neo4j", "--triplets", "100K"]  # fmt: skip
    miner = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    batches = tmp_path / "data" / "triplets" / ".100K.batches"
    while len(list(batches.glob("*.parquet"))) < 5:
        assert miner.poll() is None
        time.sleep(0.05)
    miner.kill()
    miner.wait()
    assert not (tmp_path / "data" / "triplets" / "100K").exists()
    done = handle(tmp_path / "tables", tmp_path / "data", "--triplets", "100K")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after" in done.stdout
    assert triplets(tmp_path / "data", "100K") == triplets(tmp_path / "embedded", "100K")
    for part in query_parts(COUPLED):
        assert_a_batch_scans_no_patents_and_makes_no_cartesian_product(part, tmp_path / "data")


def test_ones_own_nodes_and_names_are_left_alone(imported: Path, sample: tuple[Path, Path], tmp_path: Path) -> None:
    graph = neo4j_graph()
    for query in (
        "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS",
        "CREATE (:CPCSubclass {symbol: 'A01B', mine: 1})",
        "DROP CONSTRAINT patent_rank",
        "CREATE CONSTRAINT patent_rank FOR (t:Thing) REQUIRE t.x IS UNIQUE",
    ):
        graph.command(query)

    assert "holds nodes of other tables (1 CPCSubclass)" in said(handle(sample[0], imported, "--import", "online"))
    graph.command("MATCH (c:CPCSubclass) DELETE c")
    assert "its name patent_rank is taken by another" in said(handle(sample[0], imported, "--import", "online"))

    graph.command("DROP CONSTRAINT patent_rank")
    handled = handle(sample[0], imported, "--import", "online", "--triplets", "FULL", "--positives", "coupled",
                     "--split", "time", "--overwrite")  # fmt: skip
    assert handled.returncode == 0, handled.stderr
    tables_to_triplets(sample[0], tmp_path, "FULL", Mining("FULL", positives="coupled", split="time"))
    assert triplets(imported) == triplets(tmp_path)
    graph.close()


def test_an_import_that_was_overtaken_stops(sample: tuple[Path, Path], server: LocalServer, tmp_path: Path) -> None:
    restructure(sample[0], tmp_path / "graph", seed=7)
    graph, write, written = neo4j_graph(way="online", sessions=1), Neo4jGraph.write, 0

    def overtaken(graph: Neo4jGraph, query: str, parameters: dict[str, Any]) -> int:
        nonlocal written
        written += 1
        if written == 3:  # somebody else's import begins with this
            graph.command("MATCH (i:PatentCL) DELETE i")
        return write(graph, query, parameters)

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(InputError, match="another import took the database over"),
    ):
        patch.setattr(Neo4jGraph, "write", overtaken)
        graph.import_csvs(tmp_path / "graph", overwrite=True)
    graph.close()


def test_the_notebook_runs_on_the_server_and_keeps_the_password(
    tables: Path, server: LocalServer, tmp_path: Path
) -> None:
    papermill.execute_notebook(
        REPOSITORY / "patent_handler.ipynb", tmp_path / "handler.ipynb", cwd=REPOSITORY, progress_bar=False,
        parameters={"tables": str(tables), "data": str(tmp_path), "triplets": 100, "graph": "neo4j",
                    "import_": "online", "overwrite": True},
    )  # fmt: skip

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    password = os.environ["NEO4J_PASSWORD"].encode()
    assert not [path for path in written if password in path.read_bytes()]
    logs = list(server.folder.rglob("*.log"))
    assert logs and not [path for path in logs if password in path.read_bytes()]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_tls_with_an_authority_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_certificates(folder)
    more = "\n".join([
        "server.bolt.tls_level=REQUIRED",
        "dbms.ssl.policy.bolt.enabled=true",
        f"dbms.ssl.policy.bolt.base_directory={folder}",
        "dbms.ssl.policy.bolt.private_key=server.key",
        "dbms.ssl.policy.bolt.public_certificate=server.crt",
        "dbms.ssl.policy.bolt.client_auth=NONE",
    ])  # fmt: skip
    with local_server(tmp_path / "server", more=more) as local:
        address = os.environ["NEO4J_URI"].replace("bolt://127.0.0.1", "//localhost")
        monkeypatch.setenv("NEO4J_CA", str(folder / "authority.crt"))
        monkeypatch.setenv("NEO4J_URI", "bolt+s:" + address)
        local.start()
        for scheme in ("bolt+s:", "neo4j+s:"):
            monkeypatch.setenv("NEO4J_URI", scheme + address)
            graph = open_graph("neo4j", tmp_path)
            assert graph.run("RETURN 1 AS one", {})["one"].to_pylist() == [1]
            graph.close()
        monkeypatch.delenv("NEO4J_CA")
        with pytest.raises(InputError, match="set NEO4J_CA where the certificate"):
            open_graph("neo4j", tmp_path)


def make_certificates(folder: Path) -> None:
    """An authority, and a server's certificate for localhost that it signed."""
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout authority.key -out authority.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
        "x509 -req -days 2 -in server.csr -CA authority.crt -CAkey authority.key -CAcreateserial "
        "-extfile names -out server.crt",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)  # noqa: S607
