# The compiled twins keep the contract of the Python ones to the letter, so there is nothing to say about them here.

from .assembly import Assembly as Assembly
from .deliveries import Deliveries as Deliveries
from .deliveries import EntryMaker as EntryMaker
from .deliveries import MessageMaker as MessageMaker
from .fast_path import FastPath as FastPath
from .in_flight import InFlight as InFlight
from .requests import Requests as Requests
from .tail import Tail as Tail
from .task_answers import TaskAnswer as TaskAnswer
from .task_answers import TaskAnswers as TaskAnswers
from .thread_answers import ThreadAnswer as ThreadAnswer
from .thread_answers import ThreadAnswers as ThreadAnswers
from .trio_answers import TrioAnswer as TrioAnswer
from .trio_answers import TrioAnswers as TrioAnswers
