"""The store that several machines share: PostgreSQL, through asyncpg, which `pip install locum[postgres]` brings."""
