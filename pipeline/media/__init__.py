"""From files to arrays on one clock.

probe    what a container declares (files)  frames, readers   pictures at given times
decode   one clip, in this process          sound, hear       mono samples, cut into segments
sandbox  many clips, in processes that can be killed (with keeper, child)
"""
