-- What DuckDB does of restructuring: it reads the tables, here the views patent_rows, abstract_rows, citation_rows,
-- cpc_rows, cpc_title_rows and relation_rows, and finds patents by their ids. The numbers it gives go to numpy.
-- The right side of a join is the one that is kept in memory: restructure.py turns off the choice by estimated size.

-- ## patents
-- One row an id. A repeated row is rare, so only the rows of repeated ids are compared.

CREATE MACRO flag(text) AS CASE WHEN text IS NULL OR text IN ('0', '') THEN false
    WHEN regexp_full_match(lower(trim(text)), '0*1(\.0*)?|t(rue)?|y(es)?') THEN true
    WHEN regexp_full_match(lower(trim(text)), '(0+(\.0*)?|f(alse)?|no?|nan|none|null|\\n)?') THEN false END;
CREATE MACRO day_pattern() AS '(\d{4})(?:[-/.](\d\d?)[-/.](\d\d?)|(\d\d)(\d\d))(?:\.0|[T ]\d\d?:.*)?';
CREATE MACRO day_of(text) AS CASE WHEN regexp_full_match(trim(text), day_pattern())
    THEN try_cast(regexp_replace(trim(text), day_pattern(), '\1-\2\4-\3\5') AS DATE) END;
CREATE TABLE read_patent AS SELECT patent_id, title, date, type, flag(withdrawn) AS withdrawn FROM patent_rows;
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
CREATE TYPE a_type AS ENUM (SELECT DISTINCT type FROM kept ORDER BY type);
SELECT (SELECT count(*) FROM read_patent) AS rows,
       (SELECT count(*) FROM read_patent WHERE trim(patent_id) = '') AS nameless,
       (SELECT count(*) FROM one) AS ids,
       (SELECT count(*) FROM one WHERE withdrawn IS NULL) AS unclear,
       (SELECT count(*) FROM kept) AS kept;

-- ## days
-- The day that each date names, "" for none, or for one before 1700 or after 2027: tables write an unknown date as
-- 9999-12-31 or 0001-01-01. A later year is plausible if the years from 2027 to it all have patents: so newer tables are
-- read, and a result does not depend on the year in which it is made.

CREATE TABLE read_date AS
WITH given AS (SELECT date, day_of(date) AS day, count(*) AS patents FROM kept GROUP BY date),
years AS (SELECT DISTINCT year(day) AS year FROM given WHERE year(day) >= 2027),
runs AS (SELECT year, year - row_number() OVER (ORDER BY year) AS before FROM years),
newest AS (SELECT coalesce(max(year), 2027) AS year FROM runs WHERE before = 2026)
SELECT date, CASE WHEN year(day) BETWEEN 1700 AND newest.year THEN day::VARCHAR ELSE '' END AS day, patents
FROM given, newest;
UPDATE kept SET date = day FROM read_date WHERE kept.date = read_date.date AND read_date.date <> day;
CREATE TYPE a_date AS ENUM (SELECT DISTINCT day FROM read_date ORDER BY day);
SELECT coalesce(sum(patents), 0)::BIGINT AS unknown, max(date) AS example
FROM read_date WHERE day = '' AND trim(date) <> '';

-- ## classes
-- `patent` is the row of a patent in `kept`, null if it is not there. A symbol of a group is cut to its subclass. What
-- programs write for a missing value is no symbol.

DROP VIEW one;
DROP TABLE read_patent;
CREATE TABLE read_class AS
SELECT kept.rowid::INTEGER AS patent,
       CASE WHEN subclass IN ('nan', 'NaN', 'None', 'NULL', 'null', 'NA', '<NA>') THEN '' ELSE trim(subclass) END AS subclass,
       min(coalesce(try_cast(sequence AS INTEGER), 0)) AS sequence, count(*) AS rows
FROM cpc_rows LEFT JOIN kept USING (patent_id) GROUP BY ALL;
WITH given AS (
    SELECT subclass, patent IS NOT NULL AS known, subclass_of(subclass) <> subclass AS is_cut, sum(rows) AS rows
    FROM read_class GROUP BY subclass, known)
SELECT coalesce(sum(rows), 0)::BIGINT AS rows, coalesce(sum(rows) FILTER (known), 0)::BIGINT AS known,
       coalesce(sum(rows) FILTER (known AND is_cut), 0)::BIGINT AS cut,
       min(subclass) FILTER (known AND is_cut) AS example,
       count(*) FILTER (is_several(subclass)) AS invalid
FROM given;

-- ## subclasses

CREATE TABLE cut_class AS
SELECT patent, subclass_of(subclass) AS subclass, min(sequence) AS sequence, sum(rows)::BIGINT AS rows
FROM read_class GROUP BY ALL;
DROP TABLE read_class;
ALTER TABLE cut_class RENAME TO read_class;

-- ## symbols
-- Without a symbol, no patent has a class. The type `symbol` gives subclasses their order; its last, "", is for patents
-- without one.

CREATE VIEW named AS FROM read_class WHERE patent IS NOT NULL AND subclass <> '';
CREATE TYPE symbol AS ENUM (
    SELECT subclass FROM (SELECT DISTINCT subclass FROM named UNION ALL SELECT '')
    ORDER BY subclass = '', section_of(subclass), class_of(subclass), subclass);
CREATE VIEW symbols AS SELECT unnest(enum_range(NULL::symbol)) AS symbol;
CREATE VIEW class AS SELECT patent, subclass::symbol AS symbol, sequence FROM named;
SELECT coalesce(sum(rows), 0)::BIGINT AS classified, count(*) AS classes FROM named;

-- ## ids
-- Of ids in the view `asked`: whether many are like those of patents, but written in another way (or as 1.0E+07, of
-- which digits are lost); one of each side.

WITH few AS (SELECT id, bare(id) AS bare, count(*) AS rows FROM asked GROUP BY id),
alike AS (
    SELECT id, rows, min(patent_id) AS patent, bool_or(patent_id = id) AS same
    FROM kept JOIN few ON bare(patent_id) = few.bare GROUP BY id, rows)
SELECT coalesce(10 * sum(rows) FILTER (NOT same) > coalesce(sum(rows) FILTER (same), 0), false)
           OR (SELECT avg(regexp_full_match(id, '\d(\.\d+)?[Ee]\+\d+')::INTEGER) > 0.5 FROM few) AS otherwise,
       coalesce(min(id) FILTER (NOT same), (SELECT min(id) FROM few)) AS id,
       coalesce(arg_min(patent, id) FILTER (NOT same), (SELECT min(patent_id) FROM kept)) AS patent
FROM alike

-- ## placeholders
-- Of short abstracts, the families with ten different titles or, if that is more, one for each of its words, of about
-- five letters; `example` is one of their patents.

WITH many AS (SELECT family FROM short GROUP BY family HAVING count(*) >= 10),
shared AS (FROM short SEMI JOIN many USING (family))
SELECT family, count(*) AS patents, min(patent_id) AS example
FROM kept JOIN shared ON kept.rowid = shared.row
GROUP BY family HAVING count(DISTINCT letters(title)) >= greatest(10, max(letters) / 5) ORDER BY patents DESC, family

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
FROM beside LEFT JOIN (
    SELECT subclass_of(trim(symbol)) AS symbol, min(title) AS title FROM cpc_title_rows
    WHERE NOT contains(symbol, '/') GROUP BY ALL) USING (symbol)  -- not those of groups
ORDER BY symbol
