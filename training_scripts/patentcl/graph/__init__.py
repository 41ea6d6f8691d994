"""The citation graph, embedded or in a Neo4j server."""
