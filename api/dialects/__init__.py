"""The interfaces of other services, so that their own, unmodified clients work with Pictor; docs/dialects.md."""
