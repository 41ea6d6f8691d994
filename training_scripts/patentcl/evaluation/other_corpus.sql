-- What the evaluation on another corpus asks of its graph, which other_corpus.py runs. Views are named like the files.

-- ## usable
-- The patents that may be a query or a document. Families of the patents in `trained` are left out.

CREATE TABLE usable AS
SELECT rank, family FROM patents
WHERE has_abstract AND family NOT IN (SELECT family FROM patents SEMI JOIN trained USING (patent_id))

-- ## cited
-- What the patents cite.

CREATE OR REPLACE TABLE pairs AS
SELECT start AS query, "end" AS relevant FROM citations
JOIN usable q ON q.rank = start JOIN usable r ON r.rank = "end" WHERE q.family <> r.family

-- ## coupled
-- Patents that share at least $coupled citations, counting only patents that at most $hub patents cite, as mining does.

CREATE OR REPLACE TABLE pairs AS
WITH reference AS (
    SELECT start, "end" AS cited FROM citations JOIN patents ON rank = "end" WHERE cited_by <= $hub
    UNION ALL
    SELECT start, -1 - "end" FROM outside_citations JOIN outside_patents ON number = "end" WHERE cited_by <= $hub
)
SELECT a.start AS query, b.start AS relevant FROM reference a JOIN reference b USING (cited)
JOIN usable q ON q.rank = a.start JOIN usable r ON r.rank = b.start
WHERE q.family <> r.family GROUP BY ALL HAVING count(*) >= $coupled

-- ## chosen
-- All pairs of at most $most queries, drawn by a seeded hash.

SELECT query, relevant FROM pairs SEMI JOIN (
    SELECT DISTINCT query, md5(concat($seed, ' ', query)) AS draw FROM pairs ORDER BY draw LIMIT $most
) USING (query)
ORDER BY query, relevant
