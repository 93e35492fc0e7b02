"""The service without ids of requests, logs and metrics, to see what these cost."""
