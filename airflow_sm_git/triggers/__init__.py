"""Triggers: waits that cost no worker. All waits of one connection and region share one watcher."""
