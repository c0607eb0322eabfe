"""Media made and broken by a seeded generator: what `media_damage.py` and the tests of damage share."""
