"""Find patents that are similar to a text or a patent, and the CPC subclasses that a text would have."""
