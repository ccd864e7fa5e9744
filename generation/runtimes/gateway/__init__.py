"""The way to model servers elsewhere: a pool of them, each of Pictor's own or one that speaks OpenAI's Images API."""
