"""The model server: an engine in a process of its own, over HTTP and over a socket. Run it with `python -m`."""
