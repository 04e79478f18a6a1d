"""Sensors for what other runs, or people, have started."""
