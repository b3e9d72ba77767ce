"""Damaged and hostile files for every reader: `python -m tests.attack --help`.

    assembly.py     pickles and PyTorch's archives, put together by hand
    damage.py       damage: of bytes, JSON, lines, zip archives, pickles
    gadgets.py      pickles that would run code
    bombs.py        small files that ask for much memory or time
    readers.py      each reader: a sound file, how it is read, and what was read right
    judge.py        one case: loads right, or ValueError naming the file; nothing else happens
    workers.py      processes with limits of memory and time that work through the cases
    planted.py      faulty readers, each of which the tool must catch
"""
