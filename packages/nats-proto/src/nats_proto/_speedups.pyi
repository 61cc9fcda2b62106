# The compiled twins keep the contract of the Python ones to the letter, so there is nothing to say about them here.

from ._fast_path import FastPath as FastPath
from ._fast_publish import FastPublish as FastPublish
from ._fast_publish import Tail as Tail
