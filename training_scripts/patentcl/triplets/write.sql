-- The files of a folder of triplets: tables patent (an import CSV), splits, chosen, retrieval and corpus → their rows.
-- write.py runs each section and writes its rows to the file of that name.

-- ## triplets.parquet

SELECT a.patent_id AS anchor_id, p.patent_id AS positive_id, n.patent_id AS negative_id, kind AS negative_kind,
       positive_kind, list_filter(a.subclasses, lambda s: list_contains(p.subclasses, s))[1] AS cpc_subclass,
       chosen.split AS split
FROM chosen JOIN patent a ON a.rank = anchor JOIN patent p ON p.rank = positive JOIN patent n ON n.rank = negative
ORDER BY position

-- ## texts.parquet

SELECT patent_id, title, abstract, date, section_of(subclass) AS section, class_of(subclass) AS class, subclass,
       subclasses, family, split, rank IN (SELECT rank FROM corpus) AS in_corpus
FROM patent JOIN splits USING (rank)
WHERE rank IN (SELECT unnest([anchor, positive, negative]) FROM chosen UNION SELECT rank FROM corpus)
ORDER BY rank

-- ## retrieval.parquet

SELECT q.patent_id AS query_id, r.patent_id AS relevant_id, retrieval.split AS split
FROM retrieval JOIN patent q ON q.rank = query JOIN patent r ON r.rank = relevant
ORDER BY q.rank, r.rank

-- ## ids_train.txt

SELECT patent_id FROM patent
WHERE rank IN (SELECT unnest([anchor, positive, negative]) FROM chosen WHERE split = 'train') ORDER BY rank

-- ## ids_val.txt

SELECT patent_id FROM patent JOIN splits USING (rank) WHERE split = 'val' ORDER BY rank

-- ## ids_test.txt

SELECT patent_id FROM patent JOIN splits USING (rank) WHERE split = 'test' ORDER BY rank
