-- The rows of triplets.parquet and texts.parquet, which write.py runs.

-- ## triplets
-- From the table `chosen`, whose `codes` are indices of these lists. DuckDB knows nothing of what is in an array, so
-- these columns may be null in Parquet, also where all rows are the same: the same content has the same bytes.

SELECT anchor_id, positive_id, negative_id, getvariable('kinds')[codes[1] + 1] AS negative_kind,
       getvariable('positives')[codes[2] + 1] AS positive_kind,
       coalesce(getvariable('symbols')[codes[3] + 1], '') AS cpc_subclass, getvariable('splits')[codes[4] + 1] AS split
FROM chosen

-- ## texts
-- From `patent`, the rows of an import CSV.

SELECT rank, patent_id, title, abstract, date, section_of(subclass) AS section, class_of(subclass) AS class, subclass,
       subclasses, family
FROM patent
