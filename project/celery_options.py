"""How Celery's workers are started, whatever they work at."""

# Mingling would wait a second at each start for what other workers know to be revoked; here the database knows it.
WORKER_OPTIONS = ["--pool=threads", "--without-gossip", "--without-mingle", "--events", "--loglevel=WARNING"]
