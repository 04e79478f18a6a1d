"""The demo: a word language model in a git repository of its own, from commit to generated text."""
