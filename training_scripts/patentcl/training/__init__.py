"""Fine-tune a model on triplets."""
