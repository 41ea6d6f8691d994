"""patentCL: from PatentsView's tables to triplets to a better patent embedding model."""

__version__ = "0.1.0"
