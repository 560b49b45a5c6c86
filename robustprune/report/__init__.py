"""The report: figures, tables, and one HTML page, from records alone."""
