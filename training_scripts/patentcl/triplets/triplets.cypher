// Mines triplets: an anchor, a patent that it cites and shares a CPC subclass with, and a patent that is neither.
//
// One text for Ladybug and Neo4j. Each part returns one row per anchor and reads the anchors of one batch, whose ranks
// are from $lo to $hi (exclusive).
//
// Splits. A family has one random place from 0 to 999,999: below $test it is test, below $held val, else train. With
// --split time, mining reads .time_place (from new to old) wherever this text says .place. A train triplet consists of
// train patents, a val triplet of train or val patents, a test triplet of any.
//
// Samples. Train anchors are read by bucket, a seeded number of the family, from $from to $to (exclusive), until there
// are enough; the held-out anchors come with the first sample, which starts at 0.
//
// Random draws. Patents are numbered by CPC symbol: every section, class and subclass is one range of ranks. A number
// from such a range, without the anchor's own subclass, is a random patent of the branch. $p and $q are primes above
// the number $n of patents, so that draws visit a whole branch, and all engines draw the same ones.
// min(key * $n + rank) % $n is the rank with the smallest key.
//
// A negative has no citation with its anchor: there EXISTS none. The condition on the anchor's rank is true already, but
// without it Ladybug reads all citations there are.
//
// Classes. A corpus without any has $classified = 0: positives are then all cited patents, and there are no siblings.

// part: cited
// What each anchor cites: the positives, the relevant patents of a held-out query, and the counts of the report.
MATCH (a:Patent)-[c:CITES]->(x:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.has_abstract
  AND (a.place < $held AND $from = 0 OR a.place >= $held AND a.bucket >= $from AND a.bucket < $to)
WITH a, c, x, x.has_abstract AND ($classified = 0 OR x.subclass <> '' AND any(s IN x.subclasses WHERE s IN a.subclasses))
         AS shares,
     x.has_abstract AND x.family <> a.family
     AND (a.place < $test OR x.place >= $test) AND (a.place < $held OR x.place >= $held) AS usable
RETURN a.rank AS anchor, a.place AS place, count(*) AS cited,
       count(CASE WHEN x.has_abstract THEN 1 END) AS with_abstract,
       count(CASE WHEN shares THEN 1 END) AS sharing,
       count(CASE WHEN shares AND x.family <> a.family THEN 1 END) AS other_family,
       collect(CASE WHEN shares AND usable THEN x.rank END) AS positives,
       collect(CASE WHEN c.examiner THEN x.rank END) AS examiner,
       collect(CASE WHEN usable AND a.place < $held THEN x.rank END) AS relevant

// part: coupled
// Patents that cite at least $coupled of the patents that a train anchor cites, counting only those that at most $hub
// patents cite: others connect everything and slow the query.
MATCH (a:Patent)-[:CITES|CITES_OUTSIDE]->(o)<-[:CITES|CITES_OUTSIDE]-(x:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.has_abstract AND ($classified = 0 OR a.subclass <> '')
  AND a.place >= $held AND a.bucket >= $from AND a.bucket < $to
  AND o.cited_by <= $hub
  AND x.place >= $held AND x.has_abstract AND ($classified = 0 OR x.subclass <> '') AND x.family <> a.family
WITH a, x, count(*) AS shared
WHERE shared >= $coupled AND ($classified = 0 OR any(s IN x.subclasses WHERE s IN a.subclasses))
RETURN a.rank AS anchor, collect(x.rank) AS coupled, collect(shared) AS shared

// part: citation
// A negative that a cited patent cites: close by, but of other subclasses. An anchor has hundreds of such paths: they go
// over about 2 * $draws cited patents, and over none that cites more than $hub; of each remainder of ranks, the patent of
// smallest key is drawn, and only these are looked at closely. Without OPTIONAL, Ladybug would follow all paths first.
MATCH (a:Patent)-[:CITES]->(b:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.has_abstract AND ($classified = 0 OR a.subclass <> '')
  AND (a.place < $held AND $from = 0 OR a.place >= $held AND a.bucket >= $from AND a.bucket < $to)
  AND b.cites <= $hub AND (b.rank * $p + a.rank * $q + $seed) % a.cites < 2 * $draws
OPTIONAL MATCH (b)-[:CITES]->(x:Patent) WHERE x.has_abstract AND ($classified = 0 OR x.subclass <> '')
WITH a, x
WHERE ($classified = 0 OR x.subclass <> a.subclass)
  AND (a.place < $test OR x.place >= $test) AND (a.place < $held OR x.place >= $held)
WITH a.rank AS anchor, x.rank % (2 * $draws) AS draw,
     min((x.rank * $p + a.rank * $q + $seed) % $n * $n + x.rank) AS key
WITH anchor, collect(key) AS keys
MATCH (a:Patent) WHERE a.rank = anchor
UNWIND keys AS key
MATCH (x:Patent)
WHERE x.rank = key % $n AND x.family <> a.family
  AND ($classified = 0 OR NOT any(s IN x.subclasses WHERE s IN a.subclasses))
  AND NOT EXISTS { MATCH (a)-[:CITES]-(x) WHERE a.rank >= $lo AND a.rank < $hi }
RETURN a.rank AS anchor, min(key) % $n AS negative  // the rank of smallest key

// part: sibling
// A negative of the anchor's class: draws below $draws are of c's siblings (its class, or its section where the class
// has no other subclass), the later ones of its section. The first usable draw wins.
MATCH (a:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.has_abstract AND a.subclass <> ''
  AND (a.place < $held AND $from = 0 OR a.place >= $held AND a.bucket >= $from AND a.bucket < $to)
MATCH (c:CPCSubclass) WHERE c.symbol = a.subclass AND c.section_others > 0
UNWIND range(0, 2 * $draws - 1) AS draw
WITH a, c, draw, CASE WHEN draw < $draws THEN c.sibling_first ELSE c.section_first END AS start,
     CASE WHEN draw < $draws THEN c.sibling_others ELSE c.section_others END AS others
WITH a, c, draw, start + (a.rank * $p + draw * $q + $seed) % others AS number
WITH a, draw, CASE WHEN number < c.first THEN number ELSE number + c.count END AS drawn
MATCH (x:Patent)
WHERE x.rank = drawn AND x.has_abstract AND x.family <> a.family AND NOT any(s IN x.subclasses WHERE s IN a.subclasses)
  AND (a.place < $test OR x.place >= $test) AND (a.place < $held OR x.place >= $held)
  AND NOT EXISTS { MATCH (a)-[:CITES]-(x) WHERE a.rank >= $lo AND a.rank < $hi }
RETURN a.rank AS anchor, min(draw * $n + x.rank) % $n AS negative  // the rank of the first draw

// part: random
// A negative of any other subclass; $drawable is the number of patents that have one, or of all in a corpus without.
MATCH (a:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.has_abstract AND ($classified = 0 OR a.subclass <> '')
  AND (a.place < $held AND $from = 0 OR a.place >= $held AND a.bucket >= $from AND a.bucket < $to)
OPTIONAL MATCH (c:CPCSubclass) WHERE c.symbol = a.subclass
WITH a, coalesce(c.first, 0) AS first, coalesce(c.count, 0) AS count WHERE count < $drawable
UNWIND range(2 * $draws, 3 * $draws - 1) AS draw
WITH a, first, count, draw, (a.rank * $p + draw * $q + $seed) % ($drawable - count) AS number
WITH a, draw, CASE WHEN number < first THEN number ELSE number + count END AS drawn
MATCH (x:Patent)
WHERE x.rank = drawn AND x.has_abstract AND x.family <> a.family
  AND ($classified = 0 OR NOT any(s IN x.subclasses WHERE s IN a.subclasses))
  AND (a.place < $test OR x.place >= $test) AND (a.place < $held OR x.place >= $held)
  AND NOT EXISTS { MATCH (a)-[:CITES]-(x) WHERE a.rank >= $lo AND a.rank < $hi }
RETURN a.rank AS anchor, min(draw * $n + x.rank) % $n AS negative  // the rank of the first draw
