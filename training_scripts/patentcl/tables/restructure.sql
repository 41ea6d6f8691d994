-- PatentsView's tables, read into patent_rows, abstract_rows, citation_rows, cpc_rows and cpc_title_rows → the import CSVs.
-- restructure.py runs the sections in this order.

-- ## macros

CREATE MACRO is_withdrawn(flag) AS lower(flag) IN ('1', 'true', 't', 'yes');

-- ## one row an id
-- A repeated row is rare, so only the rows of repeated ids are sorted, not the whole table.

CREATE TABLE repeated AS SELECT patent_id FROM patent_rows GROUP BY patent_id HAVING count(*) > 1;
CREATE TABLE kept AS
    SELECT * FROM patent_rows WHERE patent_id NOT IN (FROM repeated)
    UNION ALL
    SELECT unnest(r) FROM (SELECT min(r) AS r FROM patent_rows r WHERE patent_id IN (FROM repeated) GROUP BY patent_id);
DELETE FROM kept WHERE trim(patent_id) = '';
CREATE TABLE withdrawn AS SELECT patent_id FROM kept WHERE is_withdrawn(withdrawn);
DELETE FROM kept WHERE is_withdrawn(withdrawn) AND NOT getvariable('keep_withdrawn');

-- ## abstracts

CREATE TABLE abstract AS
    SELECT patent_id, min(abstract) AS abstract FROM abstract_rows SEMI JOIN kept USING (patent_id) GROUP BY patent_id;

-- ## classes

CREATE TABLE class AS
    SELECT patent_id, subclass, min(coalesce(try_cast(sequence AS INTEGER), 0)) AS sequence
    FROM (SELECT patent_id, trim(subclass) AS subclass, sequence FROM cpc_rows)
    SEMI JOIN kept USING (patent_id) WHERE subclass <> '' GROUP BY ALL;
CREATE TABLE classes_of AS
    SELECT patent_id, list(subclass ORDER BY sequence, subclass) AS subclasses FROM class GROUP BY patent_id;

-- ## numbers
-- Patents are numbered without their texts, which would have to be sorted along.

CREATE TABLE number AS
SELECT row_number() OVER (
           ORDER BY subclass IS NULL, section_of(subclass), class_of(subclass), subclass,
                    md5(getvariable('seed') || ':' || patent_id), patent_id
       ) - 1 AS rank, patent_id
FROM (SELECT patent_id, subclasses[1] AS subclass FROM kept LEFT JOIN classes_of USING (patent_id));
CREATE TABLE patent AS
SELECT rank, patent_id, title, coalesce(abstract.abstract, '') AS abstract, coalesce(date, '') AS date,
       coalesce(type, '') AS type, coalesce(subclasses[1], '') AS subclass, coalesce(subclasses, []) AS subclasses,
       number_of(getvariable('seed') || CASE WHEN letters(coalesce(abstract.abstract, '')) = '' THEN ':id:' || patent_id
                                             ELSE ':text:' || letters(abstract.abstract) END) AS family
FROM number JOIN kept USING (patent_id) LEFT JOIN abstract USING (patent_id) LEFT JOIN classes_of USING (patent_id);

-- ## citations
-- An examiner's citation says more than an applicant's, so a repeated citation is the examiner's if one of them is.

CREATE TABLE linked AS
    SELECT a.rank AS citing, b.rank AS cited, coalesce(category = 'cited by examiner', false) AS examiner FROM citation_rows c
    JOIN number a ON a.patent_id = c.citing JOIN number b ON b.patent_id = c.cited;
CREATE TABLE citation AS
    SELECT citing, cited, bool_or(examiner) AS examiner
    FROM linked WHERE citing <> cited GROUP BY citing, cited;

-- ## outside patents
-- Cited patents that are not in the table: those that at least two cite, as one citation links no two patents.

CREATE TABLE beyond AS
    SELECT DISTINCT a.rank AS citing, c.cited FROM citation_rows c JOIN number a ON a.patent_id = c.citing
    ANTI JOIN number b ON b.patent_id = c.cited WHERE trim(c.cited) <> '';
CREATE TABLE outside AS
    SELECT row_number() OVER (ORDER BY cited) - 1 AS number, cited AS patent_id, count(*) AS cited_by
    FROM beyond GROUP BY cited HAVING count(*) > 1;

-- ## places in time
-- A family is as new as its newest patent, so that no patent is newer than its split says. Its place is the share of
-- patents in newer families, in millionths; a family without a date counts as the oldest.

CREATE TABLE place_in_time AS
WITH newest AS (SELECT family, max(date) AS date, count(*) AS patents FROM patent GROUP BY family),
     days AS (SELECT date, sum(patents) AS patents FROM newest GROUP BY date),
     newer AS (SELECT date, sum(patents) OVER (ORDER BY date DESC) - patents AS patents FROM days)
SELECT family, place_at(newer.patents, (SELECT count(*) FROM patent)) AS time_place
FROM newest JOIN newer USING (date);

-- ## subclasses
-- A subclass is the range of ranks `first`, `count`. Its siblings are the other patents of its class, or of its section
-- where the class has no other: `sibling_others` patents in the range that begins at `sibling_first`, without its own.

CREATE TABLE subclass AS
WITH branch AS (
    SELECT symbol, section_of(symbol) AS section, class_of(symbol) AS class,
           count(patent.rank) AS count, coalesce(min(patent.rank), 0) AS first
    FROM (SELECT DISTINCT subclass AS symbol FROM class) s LEFT JOIN patent ON patent.subclass = s.symbol
    GROUP BY symbol),
beside AS (
    SELECT *, coalesce(min(first) FILTER (count > 0) OVER (PARTITION BY section, class), 0) AS class_first,
           coalesce(min(first) FILTER (count > 0) OVER (PARTITION BY section), 0) AS section_first,
           sum(count) OVER (PARTITION BY section, class)::BIGINT - count AS class_others,
           sum(count) OVER (PARTITION BY section)::BIGINT - count AS section_others
    FROM branch)
SELECT symbol, coalesce(title, '') AS title, class, section, first, count,
       CASE WHEN class_others > 0 THEN class_first ELSE section_first END AS sibling_first,
       CASE WHEN class_others > 0 THEN class_others ELSE section_others END AS sibling_others,
       section_first, section_others
FROM beside LEFT JOIN (SELECT symbol, min(title) AS title FROM cpc_title_rows GROUP BY symbol) USING (symbol);

-- ## patents.csv

SELECT patent.*, place_of(family) AS place, time_place, bucket_of(family) AS bucket, coalesce(cited_by, 0) AS cited_by,
       trim(abstract) <> '' AS has_abstract
FROM patent JOIN place_in_time USING (family)
LEFT JOIN (SELECT cited AS rank, count(*) AS cited_by FROM citation GROUP BY cited) USING (rank)
ORDER BY rank

-- ## patents.parquet

SELECT rank, patent_id, date, type, subclass, subclasses, family, place_of(family) AS place, time_place,
       bucket_of(family) AS bucket, coalesce(cited_by, 0) AS cited_by, trim(abstract) <> '' AS has_abstract
FROM patent JOIN place_in_time USING (family)
LEFT JOIN (SELECT cited AS rank, count(*) AS cited_by FROM citation GROUP BY cited) USING (rank)
ORDER BY rank

-- ## cpc_subclasses.csv

FROM subclass ORDER BY symbol

-- ## outside_patents.csv

FROM outside ORDER BY number

-- ## citations.csv

SELECT citing AS start, cited AS "end", examiner FROM citation ORDER BY citing, cited

-- ## outside_citations.csv

SELECT citing AS start, number AS "end" FROM beyond JOIN outside ON patent_id = cited ORDER BY citing, number

-- ## classifications.csv

SELECT class.subclass AS start, rank AS "end" FROM class JOIN number USING (patent_id) ORDER BY 1, 2

-- ## counts
-- For graph.json.

VALUES ('patents', (SELECT count(*) FROM patent)),
       ('classified', (SELECT count(*) FROM patent WHERE subclass <> '')),
       ('with abstract', (SELECT count(*) FROM patent WHERE trim(abstract) <> '')),
       ('families', (SELECT count(DISTINCT family) FROM patent)),
       ('CPC subclasses', (SELECT count(*) FROM subclass)),
       ('classifications', (SELECT count(*) FROM class)),
       ('citations', (SELECT count(*) FROM citation)),
       ('citing patents', (SELECT count(DISTINCT citing) FROM citation)),
       ('outside patents cited by several', (SELECT count(*) FROM outside)),
       ('citations of these', (SELECT coalesce(sum(cited_by), 0) FROM outside))

-- ## dropped
-- How many rows did not enter the graph, by reason; with the kept ones they add up to the tables' rows.

WITH n AS (
    SELECT (SELECT count(*) FROM patent_rows) AS patents,
           (SELECT count(*) FROM patent_rows WHERE trim(patent_id) = '') AS nameless,
           (SELECT count(DISTINCT patent_id) FROM patent_rows WHERE trim(patent_id) <> '') AS ids,
           (SELECT count(*) FROM cpc_rows SEMI JOIN kept USING (patent_id) WHERE trim(subclass) <> '') AS classified,
           (SELECT count(*) FROM citation_rows c SEMI JOIN number n ON n.patent_id = c.citing) AS citing,
           (SELECT count(*) FROM linked) AS linked,
           (SELECT count(*) FROM linked WHERE citing = cited) AS itself)
SELECT unnest(map_entries(MAP {
    'patents: no id': nameless,
    'patents: repeated id': patents - nameless - ids,
    'patents: withdrawn': ids - (SELECT count(*) FROM patent),
    'abstracts: no such patent, or repeated': (SELECT count(*) FROM abstract_rows) - (SELECT count(*) FROM abstract),
    'classifications: no such patent, or no symbol': (SELECT count(*) FROM cpc_rows) - classified,
    'classifications: same subclass again': classified - (SELECT count(*) FROM class),
    'citations: citing patent not in the table': (SELECT count(*) FROM citation_rows) - citing,
    'citations: cited patent not in the table': citing - linked,
    'citations: of itself': itself,
    'citations: repeated': linked - itself - (SELECT count(*) FROM citation)
}), recursive := true) FROM n
