"""Services beside the app: Redis, Valkey, memcached, or any package."""
