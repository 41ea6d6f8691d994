"""Mine triplets from the graph, write and read them."""
