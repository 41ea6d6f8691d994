// Mines triplets: an anchor, a patent it cites that shares a CPC subclass, and a patent that is neither.
//
// One text for Ladybug and Neo4j. Each part returns one row an anchor and reads the anchors of one batch, a range of
// ranks [$lo, $hi).
//
// A patent is held out for val or test by its place, split / $over % 1000000: test below $test, val below $held, train
// from there on. With $over 1 the place is random, with 1000000 the newest come first; a family has one place.
// A role in a train triplet is played by train patents only, in a val triplet by train or val
// patents, in a test triplet by any. Of the train anchors those are read whose family number (mod 999983) lies
// in [$from, $to), a seeded sample; of the others those below $anchors, which is $held or 0.
//
// Random draws are arithmetic: ranks are numbered so that every section, class and subclass is one contiguous range,
// and draw k takes number  (anchor * $p + k * $q + $seed) % others  of the range without the anchor's own subclass.
// Draws below $draws are of the anchor's class, those below 2 * $draws of its section, as are those of a class that has
// no other subclass; the rest are of all patents. The first that passes the conditions wins: the smallest
// k * $n + rank, % $n. The integers are the same on both engines.

// part: cited
MATCH (a:Patent)-[c:CITES]->(x:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.has_abstract
  AND (a.split / $over % 1000000 < $anchors OR a.split / $over % 1000000 >= $held
       AND a.family % 999983 >= $from AND a.family % 999983 < $to)
WITH a, c, x, (a.rank < $classified AND x.rank < $classified
               AND any(s IN x.subclasses WHERE s IN a.subclasses)) AS shares,
     ((a.split / $over % 1000000 < $test OR x.split / $over % 1000000 >= $test)
      AND (a.split / $over % 1000000 < $held OR x.split / $over % 1000000 >= $held)) AS allowed
RETURN a.rank AS anchor, a.split / $over % 1000000 AS place, count(*) AS cited,
       sum(CASE WHEN x.has_abstract THEN 1 ELSE 0 END) AS with_abstract,
       sum(CASE WHEN x.has_abstract AND shares THEN 1 ELSE 0 END) AS sharing,
       sum(CASE WHEN x.has_abstract AND shares AND x.family <> a.family THEN 1 ELSE 0 END) AS other_family,
       collect(CASE WHEN x.has_abstract AND shares AND x.family <> a.family AND allowed THEN x.rank END) AS positives,
       collect(CASE WHEN c.category = 'cited by examiner' THEN x.rank END) AS examiner,
       collect(CASE WHEN a.split / $over % 1000000 < $held AND x.has_abstract AND x.family <> a.family AND allowed
                    THEN x.rank END) AS relevant

// part: coupled
MATCH (a:Patent)-[:CITES|CITES_OUTSIDE]->(o)<-[:CITES|CITES_OUTSIDE]-(x:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.rank < $classified AND a.has_abstract
  AND (a.split / $over % 1000000 < $anchors OR a.split / $over % 1000000 >= $held
       AND a.family % 999983 >= $from AND a.family % 999983 < $to)
  AND o.cited_by <= $hub AND x.subclass <> '' AND x.has_abstract AND x.family <> a.family
  AND (a.split / $over % 1000000 < $test OR x.split / $over % 1000000 >= $test)
  AND (a.split / $over % 1000000 < $held OR x.split / $over % 1000000 >= $held)
WITH a, x, count(*) AS shared
WHERE shared >= $coupled AND any(s IN x.subclasses WHERE s IN a.subclasses)
RETURN a.rank AS anchor, collect(shared * $n + x.rank) AS coupled

// part: citation
MATCH (a:Patent)-[:CITES]->(b:Patent)-[:CITES]->(x:Patent)
WHERE a.rank >= $lo AND a.rank < $hi AND a.rank < $classified
  AND (a.split / $over % 1000000 < $anchors OR a.split / $over % 1000000 >= $held
       AND a.family % 999983 >= $from AND a.family % 999983 < $to)
  AND a.has_abstract AND x.subclass <> '' AND x.has_abstract AND x.family <> a.family
  AND (a.split / $over % 1000000 < $test OR x.split / $over % 1000000 >= $test)
  AND (a.split / $over % 1000000 < $held OR x.split / $over % 1000000 >= $held)
  AND NOT any(s IN x.subclasses WHERE s IN a.subclasses)
WITH a, collect(DISTINCT x.rank) AS further
MATCH (a)-[:CITES]-(n:Patent)
WITH a, further, collect(n.rank) AS near
UNWIND further AS x
WITH a, near, x
WHERE NOT x IN near
RETURN a.rank AS anchor, min((x * $p + a.rank * $q + $seed) % $n * $n + x) % $n AS negative

// part: drawn
MATCH (a:Patent)-[:CITES|CITES_OUTSIDE]-(n)
WHERE a.rank >= $lo AND a.rank < $hi AND a.rank < $classified
  AND (a.split / $over % 1000000 < $anchors OR a.split / $over % 1000000 >= $held
       AND a.family % 999983 >= $from AND a.family % 999983 < $to)
  AND a.has_abstract
WITH a, collect(n.rank) AS near
MATCH (c:CPCSubclass)
WHERE c.symbol = a.subclass
UNWIND range(0, 3 * $draws - 1) AS k
WITH a, near, k, c.first AS own, c.count AS owned,
     CASE WHEN k >= 2 * $draws THEN 0
          WHEN k < $draws AND c.class_count > c.count THEN c.class_first ELSE c.section_first END AS start,
     CASE WHEN k >= 2 * $draws THEN $classified
          WHEN k < $draws AND c.class_count > c.count THEN c.class_count ELSE c.section_count END - c.count AS others
WHERE others > 0
WITH a, near, k, own, owned, start + (a.rank * $p + k * $q + $seed) % others AS number
WITH a, near, k, CASE WHEN number < own THEN number ELSE number + owned END AS draw
MATCH (x:Patent)
WHERE x.rank = draw AND x.has_abstract AND x.family <> a.family
  AND (a.split / $over % 1000000 < $test OR x.split / $over % 1000000 >= $test)
  AND (a.split / $over % 1000000 < $held OR x.split / $over % 1000000 >= $held)
  AND NOT any(s IN x.subclasses WHERE s IN a.subclasses) AND NOT x.rank IN near
RETURN a.rank AS anchor, min(CASE WHEN k < 2 * $draws THEN k * $n + x.rank END) % $n AS sibling,
       min(CASE WHEN k >= 2 * $draws THEN k * $n + x.rank END) % $n AS random
