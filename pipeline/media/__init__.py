"""From files to arrays on one clock.

probe    what a container declares (with files, container)
decode   one clip, in this process (with frames and readers for its pictures, sound and hear for its samples)
sandbox  many clips, in processes that can be killed (with keeper, child)
codecs   which codecs a file has, asked of such a process
lengths  how long many files say they are, asked of such processes
"""
