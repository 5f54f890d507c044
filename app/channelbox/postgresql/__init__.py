"""Database `ENGINE`: Django's PostgreSQL backend with a pool that follows the server's outages (`pool.py`)."""
