"""Redis and valkey servers: clients, scripts, names of keys, the locks that this process holds there."""
