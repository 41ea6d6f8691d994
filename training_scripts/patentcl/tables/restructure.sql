-- What DuckDB does of restructuring: it reads the tables, here the views patent_rows, abstract_rows, citation_rows,
-- cpc_rows, cpc_title_rows and relation_rows, and finds patents by their ids. The numbers it gives go to numpy.
-- The right side of a join is the one that is kept in memory: restructure.py turns off the choice by estimated size.

-- ## patents
-- One row an id. A repeated row is rare, so only the rows of repeated ids are compared.

CREATE MACRO is_withdrawn(flag) AS coalesce(lower(flag) IN ('1', '1.0', 'true', 't', 'yes'), false);
CREATE TABLE read_patent AS SELECT patent_id, title, date, type, is_withdrawn(withdrawn) AS withdrawn FROM patent_rows;
CREATE TABLE repeated AS SELECT patent_id FROM read_patent GROUP BY patent_id HAVING count(*) > 1;
CREATE VIEW one AS
FROM (
    FROM read_patent WHERE patent_id NOT IN (FROM repeated)
    UNION ALL
    SELECT unnest(min({'patent_id': patent_id, 'title': title, 'date': date, 'type': type, 'withdrawn': withdrawn}))
    FROM read_patent WHERE patent_id IN (FROM repeated) GROUP BY patent_id)
WHERE trim(patent_id) <> '';
CREATE TABLE kept AS
SELECT patent_id, coalesce(title, '') AS title, coalesce(date, '') AS date, coalesce(type, '') AS type FROM one
WHERE keep_withdrawn() OR NOT withdrawn;
CREATE TYPE a_date AS ENUM (SELECT DISTINCT date FROM kept ORDER BY date);
CREATE TYPE a_type AS ENUM (SELECT DISTINCT type FROM kept ORDER BY type);
SELECT (SELECT count(*) FROM read_patent) AS rows,
       (SELECT count(*) FROM read_patent WHERE trim(patent_id) = '') AS nameless,
       (SELECT count(*) FROM one) AS ids,
       (SELECT count(*) FROM one WHERE withdrawn) AS withdrawn,
       (SELECT count(*) FROM kept) AS kept;

-- ## classes
-- `patent` is the row of a patent in `kept`, null if it is not there. Without a symbol, no patent has a class. The
-- type `symbol` gives subclasses their order; its last, "", is for patents without one.

DROP VIEW one;
DROP TABLE read_patent;
CREATE TABLE read_class AS
SELECT kept.rowid::INTEGER AS patent, trim(subclass) AS subclass,
       min(coalesce(try_cast(sequence AS INTEGER), 0)) AS sequence, count(*) AS rows
FROM cpc_rows LEFT JOIN kept USING (patent_id) GROUP BY ALL;
CREATE VIEW named AS FROM read_class WHERE patent IS NOT NULL AND subclass <> '';
CREATE TYPE symbol AS ENUM (
    SELECT subclass FROM (SELECT DISTINCT subclass FROM named UNION ALL SELECT '')
    ORDER BY subclass = '', section_of(subclass), class_of(subclass), subclass);
CREATE VIEW symbols AS SELECT unnest(enum_range(NULL::symbol)) AS symbol;
CREATE VIEW class AS SELECT patent, subclass::symbol AS symbol, sequence FROM named;
SELECT (SELECT coalesce(sum(rows), 0)::BIGINT FROM read_class) AS rows,
       (SELECT coalesce(sum(rows), 0)::BIGINT FROM named) AS classified,
       (SELECT count(*) FROM named) AS classes,
       (SELECT count(*) FROM (SELECT DISTINCT subclass FROM read_class)
        WHERE regexp_matches(subclass, '[;\r\n]')) AS invalid;

-- ## relations
-- Documents that repeat a text: continuations (in part, too: they add to the text), divisions, reissues, substitutes;
-- not provisional applications, of which one may begin many patents, nor the patent's own publication. A granted one
-- is a patent; others have numbers of applications, which look alike, so they are numbers after those of the patents.
-- Other documents of fewer than four digits are placeholders, which would join strangers.

WITH related AS (
    SELECT rank AS patent, contains(lower(kind), 'grant') AS granted,
           regexp_replace(trim(document), '^([A-Za-z]*)0+', '\1') AS document
    FROM relation_rows JOIN number USING (patent_id)
    WHERE regexp_matches(lower(type), 'continu|divi|reissue|substitut'))
SELECT patent, coalesce(parent.rank, (SELECT count(*) FROM number)
                                     + dense_rank() OVER (ORDER BY granted, document)) AS document
FROM related LEFT JOIN number parent ON granted AND parent.patent_id = document
WHERE parent.rank IS NOT NULL OR length(ltrim(regexp_replace(document, '[^0-9]', '', 'g'), '0')) > 3;

-- ## cpc_subclasses.csv
-- A subclass is the range of ranks `first`, `count`. Its siblings are the other patents of its class, or of its section
-- where the class has no other: `sibling_others` patents in the range that begins at `sibling_first`, without its own.

WITH branch AS (
    SELECT subclass AS symbol, section_of(subclass) AS section, class_of(subclass) AS class, count, first
    FROM branches),
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
FROM beside LEFT JOIN (SELECT symbol, min(title) AS title FROM cpc_title_rows GROUP BY symbol) USING (symbol)
ORDER BY symbol
