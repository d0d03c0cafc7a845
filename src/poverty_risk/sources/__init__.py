"""Real county files, workbooks and databases into history tables, by mapping files."""
