"""Pictures of embeddings, of the corpus and of triplets."""
