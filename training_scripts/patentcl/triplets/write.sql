-- The rows of triplets.parquet and texts.parquet, which write.py runs.

-- ## chosen
-- The triplets. DuckDB knows nothing of what is in an array, so its members may be null in Parquet, also where all rows
-- are the same: the same content has the same bytes.

CREATE TABLE chosen (
    anchor_id VARCHAR NOT NULL, positive_id VARCHAR NOT NULL, negative_id VARCHAR NOT NULL, others VARCHAR[4]
)

-- ## block
-- A block of them, with the first subclass that anchor and positive share.

INSERT INTO chosen
SELECT anchor_id, positive_id, negative_id, array_value(
    kind, positive_kind,
    coalesce(list_filter(anchor_classes, lambda symbol: list_contains(positive_classes, symbol))[1], ''), split
)
FROM block

-- ## triplets
-- From the table `chosen`.

SELECT anchor_id, positive_id, negative_id, others[1] AS negative_kind, others[2] AS positive_kind,
       others[3] AS cpc_subclass, others[4] AS split
FROM chosen

-- ## texts
-- From `patent`, the rows of an import CSV.

SELECT rank, patent_id, title, abstract, date, section_of(subclass) AS section, class_of(subclass) AS class, subclass,
       subclasses, family
FROM patent
