"""A synthetic sample of PatentsView's tables."""
