"""What the server keeps: rows in SQLite, blobs in files. Rows and SQL do not leave here."""
