"""The clients under measurement, each a program of its own: arguments in, one JSON line out.

`benchmarks.roster` knows them all. A program is given ``work=publish url=… count=…`` and prints what it found; what it
has to find is said in `benchmarks.works`.
"""
