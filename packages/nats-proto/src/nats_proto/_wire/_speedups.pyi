# The compiled twins keep the contract of the Python ones to the letter, so there is nothing to say about them here.

from .assembly import Assembly as Assembly
from .fast_path import FastPath as FastPath
from .tail import Tail as Tail
