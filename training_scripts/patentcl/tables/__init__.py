"""PatentsView's tables, and the import CSVs that are made from them."""
